"""Messages between pytest's process, the master and the workers: msgpack, on pipes with its length in front.

msgpack comes with Locust, which is optional: msgpack is imported when the first message is packed or unpacked.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_torchserve.loadgen.response import Failure, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.model import Sample

_LENGTH_BYTES = 4
_FAILURE = Response._fields.index("failure")


class MessageKind(StrEnum):
    """The kinds of messages. Locust routes messages between master and worker by these names, hence the prefix."""

    LISTENING = "ts-listening"  # master: its port
    BEAT = "ts-beat"  # master: it is alive
    LOST = "ts-lost"  # master: a worker is gone
    HELLO = "ts-hello"  # worker: its boot id, its version
    READY = "ts-ready"  # worker: it has address and samples
    BATCH = "ts-batch"  # worker: responses
    DONE = "ts-done"  # worker: the number of responses in its part of the load
    FAILED = "ts-failed"  # worker: the traceback of its error
    PREPARE = "ts-prepare"  # to a worker: address and samples
    GO = "ts-go"  # to a worker: its part of a load, and when the load starts
    STOP = "ts-stop"  # to a worker: give up the requests in flight


FROM_WORKERS = (MessageKind.HELLO, MessageKind.READY, MessageKind.BATCH, MessageKind.DONE, MessageKind.FAILED)


class Message(NamedTuple):
    """A message on a pipe; `worker` is Locust's id of the worker that sends or receives it."""

    kind: str
    worker: str = ""
    data: dict[str, Any] = {}  # noqa: RUF012 - of a named tuple; never modified


def boot_id() -> str:
    """Return the boot id, which differs between hosts (and so monotonic clocks); containers of one host share it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`; an IPv6 address may stand in brackets.

    Raises:
        ValueError: the address has no port.
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def pack(content: object) -> bytes:
    """Pack as msgpack."""
    import msgpack  # noqa: PLC0415 - see above

    packed: bytes = msgpack.packb(content)
    return packed


def unpack(packed: bytes) -> Any:
    """Unpack from msgpack."""
    import msgpack  # noqa: PLC0415 - see above

    return msgpack.unpackb(packed, strict_map_key=False)


def frame(message: Message) -> bytes:
    """Return the bytes of a message on a pipe."""
    packed = pack(message)
    return len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


class Frames:
    """A decoder that takes a pipe's bytes as they come and returns whole messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that end in these bytes."""
        self._pending += data
        whole = []
        while len(self._pending) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._pending[:_LENGTH_BYTES], "big")
            if len(self._pending) < end:
                break
            whole.append(Message(*unpack(bytes(self._pending[_LENGTH_BYTES:end]))))
            del self._pending[:end]
        return whole


def pack_responses(responses: Sequence[Response], shift_ns: int) -> bytes:
    """Pack a batch of responses, which the master passes on without unpacking.

    Args:
        responses: each with a sample whose name is its index among the samples in the PREPARE message.
        shift_ns: added to the times, gives times on the master's clock.
    """
    if shift_ns:
        responses = [_shifted(response, shift_ns) for response in responses]
    return pack([[int(response.sample.name), *response[1:]] for response in responses])


def unpack_responses(packed: bytes, samples: Sequence[Sample]) -> list[Response]:
    """Return the responses of a packed batch, each with its sample."""
    batch = unpack(packed)
    for fields in batch:
        fields[0] = samples[fields[0]]
        fields[_FAILURE] = fields[_FAILURE] and Failure(fields[_FAILURE])
    return [Response._make(fields) for fields in batch]


def _shifted(response: Response, shift_ns: int) -> Response:
    """Return the response with its times on another clock; a time of 0, of what did not happen, stays 0."""
    return response._replace(
        scheduled_ns=response.scheduled_ns + shift_ns,
        begun_ns=response.begun_ns + shift_ns,
        sent_ns=response.sent_ns + shift_ns,
        first_byte_ns=response.first_byte_ns and response.first_byte_ns + shift_ns,
        done_ns=response.done_ns + shift_ns,
        arrived_ns=response.arrived_ns and response.arrived_ns + shift_ns,
    )
