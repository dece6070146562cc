"""What pytest's process, the master and the workers say to each other: msgpack, with its length in front on pipes.

msgpack comes with Locust, which is optional: it is imported when there is something to say.
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


class Kind(StrEnum):
    """The messages. Locust routes those between master and worker by this name, hence the prefix."""

    LISTENING = "ts-listening"  # master: its port
    BEAT = "ts-beat"  # master: it lives
    LOST = "ts-lost"  # master: a worker is gone
    HELLO = "ts-hello"  # worker: its boot, its version
    READY = "ts-ready"  # worker: it knows where to send what
    BATCH = "ts-batch"  # worker: responses
    DONE = "ts-done"  # worker: how many responses its share of the load made
    FAILED = "ts-failed"  # worker: a traceback of its own
    PREPARE = "ts-prepare"  # to a worker: where to send what
    GO = "ts-go"  # to a worker: its share of a load, and when that starts
    STOP = "ts-stop"  # to a worker: give up what is in flight


FROM_WORKERS = (Kind.HELLO, Kind.READY, Kind.BATCH, Kind.DONE, Kind.FAILED)


class Message(NamedTuple):
    """One message on a pipe; `worker` is Locust's id of its sender or its addressee."""

    kind: str
    worker: str = ""
    data: dict[str, Any] = {}  # noqa: RUF012 - of a named tuple; nobody writes to it


def boot_id() -> str:
    """Tells hosts apart whose monotonic clocks are not one; containers of one host have the same."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT`; an IPv6 address may stand in brackets.

    Raises:
        ValueError: there is no port in it.
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def pack(content: object) -> bytes:
    """As msgpack."""
    import msgpack  # noqa: PLC0415 - see above

    packed: bytes = msgpack.packb(content)
    return packed


def unpack(packed: bytes) -> Any:
    """From msgpack."""
    import msgpack  # noqa: PLC0415 - see above

    return msgpack.unpackb(packed, strict_map_key=False)


def frame(message: Message) -> bytes:
    """One message as it goes through a pipe."""
    packed = pack(message)
    return len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


class Frames:
    """Takes a pipe's bytes as they come, gives whole messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that end in these bytes."""
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
    """Pack a batch. The master does not look into it.

    Args:
        responses: of samples whose names are their places among those that the worker was given.
        shift_ns: what brings the times to the master's clock.
    """
    if shift_ns:
        responses = [_shifted(response, shift_ns) for response in responses]
    return pack([[int(response.sample.name), *response[1:]] for response in responses])


def unpack_responses(packed: bytes, samples: Sequence[Sample]) -> list[Response]:
    """Return a batch as it was packed; each response carries its one of the samples."""
    batch = unpack(packed)
    for fields in batch:
        fields[0] = samples[fields[0]]
        fields[-1] = fields[-1] and Failure(fields[-1])
    return [Response._make(fields) for fields in batch]


def _shifted(response: Response, shift_ns: int) -> Response:
    """The same on another clock; where no byte came, 0 stays 0."""
    return response._replace(
        scheduled_ns=response.scheduled_ns + shift_ns,
        begun_ns=response.begun_ns + shift_ns,
        sent_ns=response.sent_ns + shift_ns,
        first_byte_ns=response.first_byte_ns and response.first_byte_ns + shift_ns,
        done_ns=response.done_ns + shift_ns,
    )
