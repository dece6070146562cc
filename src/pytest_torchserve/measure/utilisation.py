"""How busy a load kept the workers: the share of their capacity that was asked for."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.probe_report import ProbeReport

Batch = tuple[int, int, int]
"""Start and end of `handle`, in nanoseconds, and the number of requests."""


def utilisation(
    reports: Sequence[ProbeReport], rate_per_s: float, batch_size: int | None, workers: int
) -> float | None:
    """Return the rate as a share of what the workers can take in full batches.

    A full batch occupies its worker for the median `handle` of full batches, and for the shortest time from the end of
    one batch to the start of the next: where requests were waiting, that is what lies between two batches. Where none
    ever waited, that time is no part of the work, and counts for as much as `handle` at most. Where no batch was full,
    the share of the time in `handle` counts.

    Returns:
        None where nothing is known of the batches.
    """
    processes = _batches(reports)
    batches = list(itertools.chain.from_iterable(processes))
    if not batches:
        return None
    full = [end - start for start, end, size in batches if size == (batch_size or 1)]
    if full:
        gaps = [after[0] - before[1] for of_one in processes for before, after in itertools.pairwise(of_one)]
        handle_ns = statistics.median(full)
        occupied_s = (handle_ns + min(max(0, min(gaps, default=0)), handle_ns)) / 1e9
        return rate_per_s * occupied_s / (workers * (batch_size or 1))
    window_ns = max(end for _, end, _ in batches) - min(start for start, _, _ in batches)
    return sum(end - start for start, end, _ in batches) / (window_ns * workers) if window_ns else None


def _batches(reports: Sequence[ProbeReport]) -> list[list[Batch]]:
    """Return the batches of each process in their order; none whose end is unknown."""
    found: dict[int, dict[int, Batch]] = defaultdict(dict)
    for report in reports:
        if report.end_ns:
            found[report.pid][report.batch] = (report.start_ns, report.end_ns, report.batch_size)
    return [[batch for _, batch in sorted(batches.items())] for batches in found.values()]
