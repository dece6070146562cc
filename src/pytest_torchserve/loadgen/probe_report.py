"""The probe report: the measurements of the probe in a response's headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, Self

from pytest_torchserve.loadgen.response import CUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.loadgen.response import Response

TIMING_HEADER = "server-timing"
"""Phases of the batch, in milliseconds: the W3C's Server-Timing syntax."""

BATCH_HEADER = "ts-probe-batch"
"""`id=…;size=…;pid=…;device=…;start=…;end=…;gpu=…`: batch, worker, monotonic edges in ns, GPU bytes.

An archive with two arms adds `arm=…;pair=…;differs=…`: the arm, the pair, and the settings of the process in which
the arms differ. `threads=…` is added where phases ran in several threads, and `streamed=1` where the head left before
the batch had ended: there are no phases then.
"""

INIT_HEADER = "ts-probe-init"
"""The phases of the worker's start, in Server-Timing syntax, sent with the worker's first batches only."""

REQUEST_ID_HEADER = "x-request-id"
"""TorchServe's own id of the request; a value that the client sends in this header is ignored."""


def parse_server_timing(value: str) -> dict[str, float]:
    """Read a Server-Timing header: `a;dur=1.5, b;dur=2` is `{"a": 0.0015, "b": 0.002}` (seconds).

    Entries without a readable duration are left out; the syntax is the W3C's (Server Timing, section 3).
    """
    found: dict[str, float] = {}
    for entry in value.split(","):
        name, duration, rest = entry.partition(";dur=")  # as the probe writes it
        if not duration or ";" in name or ";" in rest:
            name, rest = _taken_apart(entry)
        try:
            found[intern(name.strip())] = float(rest) / 1e3  # the name is kept a hundred thousand times over
        except ValueError:
            continue
    return found


def _taken_apart(entry: str) -> tuple[str, str]:
    """Return name and duration of an entry that has other parameters, or blanks between them; '' for no duration."""
    name, *parameters = entry.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return name, next((value for key, _, value in pairs if key.strip() == "dur"), "")


@dataclass(slots=True)
class ProbeReport:
    """The probe's report in one response.

    Attributes:
        phases_s: seconds in each phase of the batch that held this request.
        batch: the batch's number within its worker.
        batch_size: how many requests the batch held.
        pid: the pid of the worker process.
        device: where the parameters were, as torch spells it; `none` for a model without any.
        start_ns, end_ns: edges of `handle`, monotonic, of the worker's host.
        init_s: seconds in each phase of the worker's start, if this response carried them.
        gpu_bytes: bytes that torch has reserved on the GPU in this worker; 0 on a CPU.
        request_id: TorchServe's own id of the request.
        arm: `baseline` or `candidate`, from an archive that holds both.
        pair: the number of the pair that this batch belongs to.
        differs: the settings of the process in which the two arms differ, in words; '' for none.
        threads: number of threads in which phases ran; several add up busy time, which may exceed `handle`.
        streamed: whether the answer came in chunks: `phases_s` is empty, and `end_ns` is 0.
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
    arm: str = ""
    pair: int = 0
    differs: str = ""
    threads: int = 1
    streamed: bool = False

    @classmethod
    def of(cls, response: Response) -> Self | None:
        """Return the probe report, or None if the response has no complete one (no probe, or the batch failed)."""
        # This runs for every response of a load: of a dozen headers only four are searched for and read.
        head = response.head
        batch, timing = _BATCH.search(head), _TIMING.search(head)
        if batch is None or response.failure in CUT:
            return None
        number, size, pid, device, start_ns, end_ns, gpu_bytes, arm, pair, differs, threads, streamed = batch.groups()
        if timing is None and not streamed:
            return None
        init, request_id = _INIT.search(head), _REQUEST_ID.search(head)
        return cls(
            parse_server_timing(timing[1].decode("latin-1")) if timing else {},
            int(number),
            int(size),
            int(pid),
            intern(device.decode("latin-1")),
            int(start_ns),
            int(end_ns),
            parse_server_timing(init[1].decode("latin-1")) if init else {},
            int(gpu_bytes),
            request_id[1].decode("latin-1").strip() if request_id else "",
            intern(arm.decode("latin-1")) if arm else "",
            int(pair or 0),
            differs.decode("latin-1") if differs else "",
            int(threads or 1),
            bool(streamed),
        )


def _header(name: str, value: bytes = rb"([^\r\n]*)") -> re.Pattern[bytes]:
    """Return a pattern for one header's whole line; every line of a head ends in CR LF, except the last."""
    # Greedy throughout: a lazy value takes five times as long.
    return re.compile(rb"\r\n" + re.escape(name.encode()) + rb":[ \t]*" + value + rb"(?=\r\n|\Z)", re.IGNORECASE)


_TIMING, _INIT, _REQUEST_ID = map(_header, (TIMING_HEADER, INIT_HEADER, REQUEST_ID_HEADER))
_BATCH = _header(
    BATCH_HEADER,
    rb"id=(\d+);size=(\d+);pid=(\d+);device=([^;\r\n]*);start=(\d+);end=(\d+);gpu=(\d+)"
    rb"(?:;arm=([^;\r\n]*);pair=(\d+))?(?:;differs=([^;\r\n]*))?"
    rb"(?:;threads=(\d+))?(?:;(streamed)=1)?(?:;[^\r\n]*)?",  # a later probe may add fields
)
