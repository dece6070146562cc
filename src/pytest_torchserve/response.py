"""One request's outcome, and what the probe says in its headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMING_HEADER = "server-timing"
"""Phases of the batch, in milliseconds: the W3C's Server-Timing syntax."""

BATCH_HEADER = "ts-probe-batch"
"""`id=…;size=…;pid=…;device=…;start=…;end=…;gpu=…`: batch, worker, monotonic edges in ns, GPU bytes."""

INIT_HEADER = "ts-probe-init"
"""The worker's own start, in Server-Timing syntax, sent with its first batches only."""


@dataclass(frozen=True, slots=True)
class Response:
    """What became of one request. A failure is data: `error` says what, and nothing is raised.

    Attributes:
        sample: the index of the sample that was sent.
        scheduled_ns: when it should have left; latency counts from here in an open loop.
        sent_ns: when its bytes were handed to the kernel.
        first_byte_ns: when the first byte of the answer was seen; 0 where none was.
        done_ns: when the answer was complete, or the request was given up.
        status: the HTTP status; 0 where none came.
        headers: the answer's headers, names in lower case.
        body: the answer's body.
        error: what went wrong in words, or None. An answer of 400 and above is an error too.

    All times are `CLOCK_MONOTONIC` nanoseconds, the clock that the probe uses on the same host.
    """

    sample: int
    scheduled_ns: int
    sent_ns: int
    first_byte_ns: int
    done_ns: int
    status: int
    headers: Mapping[str, str]
    body: bytes
    error: str | None = None


def parse_server_timing(value: str) -> dict[str, float]:
    """Read a Server-Timing header: `a;dur=1.5, b;dur=2` is `{"a": 0.0015, "b": 0.002}` (seconds).

    Entries without a readable duration are left out; the syntax is the W3C's (Server Timing, section 3).
    """
    found = {}
    for entry in value.split(","):
        name, _, rest = entry.strip().partition(";")
        for parameter in rest.split(";"):
            key, _, number = parameter.strip().partition("=")
            if key == "dur":
                try:
                    found[name] = float(number) / 1e3
                except ValueError:
                    continue
    return found


@dataclass(frozen=True, slots=True)
class Trace:
    """What the probe reported with one answer.

    Attributes:
        phases_s: seconds in each phase of the batch that held this request.
        batch: the batch's number within its worker.
        batch_size: how many requests the batch held.
        pid: the worker process.
        device: where the parameters were, as torch spells it; `none` for a model without any.
        start_ns, end_ns: edges of `handle`, monotonic.
        init_s: seconds in each phase of the worker's start, where this answer carried them.
        gpu_bytes: what torch has reserved on the GPU in this worker; 0 on a CPU.
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

    @classmethod
    def of(cls, response: Response) -> Self | None:
        """The probe's report, or None where the answer carries none (no probe, or the batch failed)."""
        timing = response.headers.get(TIMING_HEADER)
        batch = response.headers.get(BATCH_HEADER)
        if timing is None or batch is None:
            return None
        fields = dict(pair.split("=", 1) for pair in batch.split(";"))
        return cls(
            phases_s=parse_server_timing(timing),
            batch=int(fields["id"]),
            batch_size=int(fields["size"]),
            pid=int(fields["pid"]),
            device=fields["device"],
            start_ns=int(fields["start"]),
            end_ns=int(fields["end"]),
            init_s=parse_server_timing(response.headers.get(INIT_HEADER, "")),
            gpu_bytes=int(fields["gpu"]),
        )
