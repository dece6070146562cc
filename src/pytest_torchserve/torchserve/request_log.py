"""The times that TorchServe's frontend logs for each request, joined by request id.

A worker's thread in the frontend writes, in this order and one batch after the other (BatchAggregator, Model
and RestJob of TorchServe 0.12; the level of each is set in `settings`):

    get first job: ID                          the idle worker has taken the first request of a batch
    Sending response for jobId ID              the worker's answer is there; for each request of the batch,
    ts_inference_latency_microseconds…:VALUE   and how long ago the request had arrived,
    ts_queue_latency_microseconds…:VALUE       and how long it took from its arrival to its batch's departure

log4j2 stamps each line with `System.nanoTime()`, which is `CLOCK_MONOTONIC` on Linux: the client's clock.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.frontend_times import FrontendTimes

if TYPE_CHECKING:
    from pathlib import Path

FILE = "requests.log"
METRICS = ("ts_inference_latency_microseconds", "ts_queue_latency_microseconds")
"""The metrics that must be declared for the frontend to log them."""
PATTERN = "%nano %t %m%n"
WANTED = "(get first job|Sending response for jobId|ts_inference_latency_mic|ts_queue_latency_mic).*"

_VALUE = re.compile(r"Microseconds:([0-9.E+-]+)")


def parse(text: str) -> dict[str, FrontendTimes]:
    """Return the times by request id. A request whose lines are not all in the text (yet) is left out."""
    found: dict[str, FrontendTimes] = {}
    taken_ns: dict[str, int] = {}
    answering: dict[str, tuple[str, int]] = {}
    arrived_ns: dict[str, int] = {}
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        thread, _, said = rest.partition(" ")
        if not stamp.isdigit():
            continue
        if said.startswith("get first job: "):
            taken_ns[thread] = int(stamp)
        elif said.startswith("Sending response for jobId "):
            answering[thread] = (said.rpartition(" ")[2], int(stamp))
            arrived_ns.pop(thread, None)
        elif thread in answering and (value := _VALUE.search(said)) is not None:
            request_id, answered_ns = answering[thread]
            ns = round(float(value[1]) * 1e3)
            if said.startswith("ts_inference"):
                arrived_ns[thread] = answered_ns - ns
            elif thread in arrived_ns:
                arrived = arrived_ns[thread]
                found[request_id] = FrontendTimes(arrived, taken_ns.get(thread, arrived), arrived + ns)
                del answering[thread]
    return found


def read(path: Path, start: int = 0) -> dict[str, FrontendTimes]:
    """Return the times from byte `start` of a log on; none where there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return parse(file.read().decode(errors="replace"))
    except OSError:
        return {}
