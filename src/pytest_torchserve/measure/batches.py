"""The batches that the frontend formed under a load."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.probe_report import ProbeReport


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one run.

    Attributes:
        configured: the batch_size that was configured; None where unknown.
        sizes: achieved size → number of batches.
        fill_wait_s: for each batch, how long a worker that could have begun waited for the batch to fill; empty where
            the server's log is out of reach.
    """

    configured: int | None
    sizes: Mapping[int, int]
    fill_wait_s: tuple[float, ...] = ()

    @property
    def count(self) -> int:
        """The number of batches."""
        return sum(self.sizes.values())

    @property
    def cut(self) -> int:
        """The number of batches that left before they were full: TorchServe does so only after max_batch_delay."""
        return sum(count for size, count in self.sizes.items() if self.configured and size < self.configured)

    @property
    def mean_size(self) -> float | None:
        """The mean achieved size; None where there is no batch."""
        return mean_size(self.sizes)


def mean_size(sizes: Mapping[int, int]) -> float | None:
    """Return the mean of size → number of batches; None where there is no batch."""
    count = sum(sizes.values())
    return sum(size * number for size, number in sizes.items()) / count if count else None


def batches(
    reports: Sequence[ProbeReport], frontend_times: Mapping[str, FrontendTimes], configured: int | None
) -> Batches:
    """Return the batches that held these requests."""
    size: dict[tuple[int, int], int] = {}
    fill_s: dict[tuple[int, int], float] = {}
    for report in reports:
        batch = (report.pid, report.batch)
        size[batch] = report.batch_size
        frontend = frontend_times.get(report.request_id)
        if frontend is not None:
            fill_s[batch] = max(0, frontend.left_ns - frontend.taken_ns) / 1e9
    return Batches(configured, dict(sorted(Counter(size.values()).items())), tuple(fill_s.values()))
