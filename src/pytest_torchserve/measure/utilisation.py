"""How busy a load kept the workers: the share of their capacity that was asked for."""

from __future__ import annotations

import itertools
import statistics
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pytest_torchserve.measure.latency_breakdown import share_a_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response


class Batch(NamedTuple):
    """One batch of one worker process.

    Attributes:
        start_ns, end_ns: of `handle`.
        size: number of requests.
        complete_ns: when its last request left the client.
    """

    start_ns: int
    end_ns: int
    size: int
    complete_ns: int


def batches_by_process(timed: Sequence[tuple[Response, ProbeReport | None]]) -> list[list[Batch]]:
    """Return the batches of each process in their order; none whose end is unknown.

    Where client and worker do not share a clock, no batch counts as complete before another ended.
    """
    one_clock = share_a_clock([(response, report) for response, report in timed if report is not None])
    found: dict[int, dict[int, Batch]] = defaultdict(dict)
    for response, report in timed:
        if report is not None and report.end_ns:
            known = found[report.pid].get(report.batch)
            sent_ns = response.sent_ns if one_clock else sys.maxsize
            complete_ns = max(sent_ns, known.complete_ns) if known else sent_ns
            found[report.pid][report.batch] = Batch(report.start_ns, report.end_ns, report.batch_size, complete_ns)
    return [[batch for _, batch in sorted(batches.items())] for batches in found.values()]


def utilisation(
    processes: Sequence[Sequence[Batch]], rate_per_s: float, batch_size: int | None, workers: int
) -> float | None:
    """Return the rate as a share of what the workers can take in full batches.

    A full batch occupies its worker for the median `handle` of full batches, and for the shortest time from the end of
    one batch to the start of a full one that was complete by then: other batches wait to fill, which is no work. Where
    no batch was full, the share of the time in `handle` counts.

    Args:
        processes: the batches of each worker process, in their order.

    Returns:
        None where nothing is known of the batches, or of their configured size.
    """
    batches = list(itertools.chain.from_iterable(processes))
    if not batches or batch_size is None:
        return None
    full = [batch.end_ns - batch.start_ns for batch in batches if batch.size == batch_size]
    if full:
        pairs = itertools.chain.from_iterable(itertools.pairwise(of_one) for of_one in processes)
        waited = ((before, after) for before, after in pairs if after.complete_ns < before.end_ns)
        gaps = [after.start_ns - before.end_ns for before, after in waited if after.size == batch_size]
        occupied_s = (statistics.median(full) + max(0, min(gaps, default=0))) / 1e9
        return rate_per_s * occupied_s / (workers * batch_size)
    window_ns = max(batch.end_ns for batch in batches) - min(batch.start_ns for batch in batches)
    return sum(batch.end_ns - batch.start_ns for batch in batches) / (window_ns * workers) if window_ns else None
