"""One request's outcome, and what the probe says in its headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from sys import intern
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMING_HEADER = "server-timing"
"""Phases of the batch, in milliseconds: the W3C's Server-Timing syntax."""

BATCH_HEADER = "ts-probe-batch"
"""`id=…;size=…;pid=…;device=…;start=…;end=…;gpu=…`: batch, worker, monotonic edges in ns, GPU bytes.

Where the archive holds two sides also `side=…;pair=…;differs=…`: which one, in which pair, and which settings of
the process the two disagree about.
"""

INIT_HEADER = "ts-probe-init"
"""The worker's own start, in Server-Timing syntax, sent with its first batches only."""

REQUEST_ID_HEADER = "x-request-id"
"""TorchServe's own name for the request; what a client sends under this name is ignored."""


class Failure(StrEnum):
    """The kinds of what can go wrong with a request; the words that go with it are in `Response.error`."""

    UNRESOLVED = "name not resolved"
    REFUSED = "connection refused"
    NO_CONNECTION = "no connection"
    TLS = "TLS handshake failed"
    RESET = "connection lost"
    TRUNCATED = "answer cut short"
    MALFORMED = "not HTTP"
    TIMEOUT = "timed out"
    UNANSWERED = "unanswered at the end"
    HTTP = "HTTP error"


_CUT = (Failure.TRUNCATED, Failure.MALFORMED, Failure.TIMEOUT)
"""After these an answer's head may not be whole."""


class Response(NamedTuple):
    """What became of one request. A failure is data: `error` says what, and nothing is raised.

    A named tuple, and its headers unparsed: one is made for every request while others are waiting, and a
    hundred thousand are kept.

    Attributes:
        sample: the index of the sample that was sent.
        scheduled_ns: when it should have left; latency counts from here in an open loop.
        begun_ns: when the sender took it up; before it, the sender itself was late.
        sent_ns: when its bytes were written; a connection may have had to be opened first.
        first_byte_ns: when the first byte of the answer was seen; 0 where none was.
        done_ns: when the answer was complete, or the request was given up.
        status: the HTTP status; 0 where none came.
        head: the answer's status line and headers, as they came.
        body: the answer's body.
        error: what went wrong in words, or None. An answer of 400 and above is an error too.
        failure: its kind, or None.

    All times are `CLOCK_MONOTONIC` nanoseconds, the clock that the probe uses on the same host.
    """

    sample: int
    scheduled_ns: int
    begun_ns: int
    sent_ns: int
    first_byte_ns: int
    done_ns: int
    status: int
    head: bytes
    body: bytes
    error: str | None = None
    failure: Failure | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, names in lower case; read anew at each call."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = [line.split(":", 1) for line in lines if ":" in line]
        return {name.lower(): value.strip() for name, value in pairs}

    @property
    def latency_s(self) -> float:
        """Seconds from when it should have left to the end of its answer."""
        return (self.done_ns - self.scheduled_ns) / 1e9

    @property
    def kind(self) -> str | None:
        """The failure as it is counted: an HTTP error with its status."""
        return f"HTTP {self.status}" if self.failure is Failure.HTTP else self.failure


def parse_server_timing(value: str) -> dict[str, float]:
    """Read a Server-Timing header: `a;dur=1.5, b;dur=2` is `{"a": 0.0015, "b": 0.002}` (seconds).

    Entries without a readable duration are left out; the syntax is the W3C's (Server Timing, section 3).
    """
    found: dict[str, float] = {}
    for entry in value.split(","):
        name, _, rest = entry.strip().partition(";")
        for parameter in rest.split(";"):
            key, _, number = parameter.strip().partition("=")
            if key == "dur":
                try:
                    found[intern(name)] = float(number) / 1e3  # kept a hundred thousand times over
                except ValueError:
                    continue
    return found


@dataclass(slots=True)
class Trace:
    """What the probe reported with one answer.

    Attributes:
        phases_s: seconds in each phase of the batch that held this request.
        batch: the batch's number within its worker.
        batch_size: how many requests the batch held.
        pid: the worker process.
        device: where the parameters were, as torch spells it; `none` for a model without any.
        start_ns, end_ns: edges of `handle`, monotonic, of the worker's host.
        init_s: seconds in each phase of the worker's start, where this answer carried them.
        gpu_bytes: what torch has reserved on the GPU in this worker; 0 on a CPU.
        request_id: TorchServe's own name for the request.
        side: `baseline` or `candidate`, of an archive that holds both.
        pair: the number of the pair that this batch belongs to.
        differs: which settings of the process its two sides disagree about, in words; '' for none.
    """

    phases_s: Mapping[str, float]
    batch: int
    batch_size: int
    pid: int
    device: str
    start_ns: int
    end_ns: int
    init_s: Mapping[str, float]
    gpu_bytes: int = 0
    request_id: str = ""
    side: str = ""
    pair: int = 0
    differs: str = ""

    @classmethod
    def of(cls, response: Response) -> Self | None:
        """The probe's report, or None where the answer carries none that is whole (no probe, or the batch failed)."""
        # Only these of a dozen headers are read: every answer of a load comes by here.
        head = response.head
        names = head.lower()
        timing, batch = _value(head, names, _TIMING), _value(head, names, _BATCH)
        if timing is None or batch is None or response.failure in _CUT:
            return None
        try:
            return cls._read(head, names, timing, batch)
        except (ValueError, KeyError):
            return None  # another probe's, or none's at all

    @classmethod
    def _read(cls, head: bytes, names: bytes, timing: str, batch: str) -> Self:
        fields = dict([pair.split("=", 1) for pair in batch.split(";")])
        init = _value(head, names, _INIT)
        return cls(
            phases_s=parse_server_timing(timing),
            batch=int(fields["id"]),
            batch_size=int(fields["size"]),
            pid=int(fields["pid"]),
            device=intern(fields["device"]),
            start_ns=int(fields["start"]),
            end_ns=int(fields["end"]),
            init_s=parse_server_timing(init) if init else {},
            gpu_bytes=int(fields["gpu"]),
            request_id=_value(head, names, _REQUEST_ID) or "",
            side=intern(fields.get("side", "")),
            pair=int(fields.get("pair", 0)),
            differs=fields.get("differs", ""),
        )


_TIMING, _BATCH, _INIT, _REQUEST_ID = (
    f"\r\n{name}:".encode() for name in (TIMING_HEADER, BATCH_HEADER, INIT_HEADER, REQUEST_ID_HEADER)
)


def _value(head: bytes, names: bytes, name: bytes) -> str | None:
    """One header of a head, where `names` is the head in lower case and `name` stands between two lines."""
    at = names.find(name)
    if at < 0:
        return None
    end = head.find(b"\r\n", at + 2)
    return head[at + len(name) : end if end >= 0 else None].decode("latin-1").strip()
