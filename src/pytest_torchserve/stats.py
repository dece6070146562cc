"""Statistics of samples: medians, percentiles that the sample can support, spread between processes."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONFIDENCE = 0.95
_Z = statistics.NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_LARGE = 50
_FEWEST = 5


PERCENTILES = (0.5, 0.9, 0.99, 0.999)
"""The percentiles to report, where the sample supports them."""


@dataclass(frozen=True, slots=True)
class Quantile:
    """A percentile with its confidence interval.

    Attributes:
        p: the percentile as a fraction, 0.99 for p99.
        value: the estimate, by linear interpolation.
        low, high: the order statistics that enclose the true percentile with 95% confidence, whatever the
            shape of the distribution (Conover, Practical Nonparametric Statistics, 3.2).
    """

    p: float
    value: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """The name of the percentile: `p50`, `p99.9`."""
        return f"p{100 * self.p:g}"


def supports(n: int, p: float) -> bool:
    """Return whether the p-quantile (p ≥ 1/2) lies between two of n values with 95% confidence.

    The largest value must exceed the quantile with a probability of 97.5%, that is 1 - p**n ≥ 0.975: p50 needs
    6 values, p90 36, p99 368, p99.9 3,688. With fewer values the "p99" would just be the largest value seen.
    """
    return n > 0 and 1 - p**n >= 1 - (1 - CONFIDENCE) / 2


def percentile(values: Sequence[float], p: float) -> float | None:
    """Return the p-quantile by linear interpolation, or None where the sample does not support it."""
    n = len(values)
    if not supports(n, p):
        return None
    ordered = sorted(values)
    at = p * (n - 1)
    below = math.floor(at)
    above = min(below + 1, n - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def quantiles(values: Sequence[float], ps: Sequence[float] = PERCENTILES) -> tuple[Quantile, ...]:
    """Return the percentiles that the sample supports, with intervals by `scipy.stats.quantile_test`."""
    from scipy import stats  # noqa: PLC0415 - a second of import, not to be paid when tests are only collected

    found = []
    for p in ps:
        value = percentile(values, p)
        if value is not None:
            interval = stats.quantile_test(values, p=p).confidence_interval(CONFIDENCE)
            found.append(Quantile(p, value, float(interval.low), float(interval.high)))
    return tuple(found)


@cache
def median_ranks(n: int) -> tuple[int, int] | None:
    """Return the ranks (from 0) of the order statistics that enclose the median with at least 95% confidence.

    From the binomial distribution with p = 1/2: no assumption about the distribution's shape (Conover, 3.2);
    by the normal approximation above 50 values. None below six values, where even the smallest and the
    largest value enclose the median with less confidence.
    """
    if n > _LARGE:
        rank = math.floor((n - _Z * math.sqrt(n)) / 2)
    else:
        tail, rank = 0.0, 0
        while rank < n // 2:
            tail += math.comb(n, rank) / 2**n
            if 2 * tail > 1 - CONFIDENCE:
                break
            rank += 1
    return (rank - 1, n - rank) if rank else None


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% confidence interval of the median, or None below six values."""
    ranks = median_ranks(len(values))
    if ranks is None:
        return None
    ordered = sorted(values)
    return ordered[ranks[0]], ordered[ranks[1]]


def precision(by_process: Mapping[int, Sequence[float]]) -> float | None:
    """Return the widest 95% confidence interval of any process's median, as a fraction.

    Each process by itself: a difference between processes, which more samples cannot shrink, does not count.
    The fraction is the larger distance of the interval's ends from the median. None where a process has too
    few values for an interval.
    """
    widest = 0.0
    for values in by_process.values():
        interval = median_interval(values)
        if interval is None:
            return None
        middle = statistics.median(values)
        widest = max(widest, interval[1] / middle - 1, 1 - interval[0] / middle)
    return widest if by_process else None


def process_spread(by_process: Mapping[int, Sequence[float]]) -> float | None:
    """Return the spread of the processes' medians: (largest - smallest) / their median.

    None for one process, and where a process has fewer than five values: its median would be too uncertain.
    """
    if any(len(values) < _FEWEST for values in by_process.values()):
        return None
    medians = [statistics.median(values) for values in by_process.values()]
    if len(medians) < 2:  # noqa: PLR2004 - a spread needs two
        return None
    return (max(medians) - min(medians)) / statistics.median(medians)
