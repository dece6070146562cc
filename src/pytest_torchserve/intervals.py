"""What pairs of times say about a ratio: its estimate, and the interval around it.

The statistic is the median of log(candidate ÷ baseline). Within a pair both met the same machine, so what the machine
does in minutes cancels. What is left has heavy tails (a disturbed batch takes twice as long), which is why it is the
median, and may be correlated over seconds, which is why pairs are not counted as if they were independent:

- Both sides in one process: Woodruff's interval (Journal of the American Statistical Association 47 (1952) 635–646).
  The share of pairs below the median has a standard error, taken between consecutive blocks of pairs; the order
  statistics at that many errors above and below one half enclose the true median.
- Each side in processes of its own: those differ persistently, so a pair of processes is one sample, its median, and
  the interval is Student's over them.
"""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.measure.run import Paired
    from pytest_torchserve.phase import Phase

POWER = 0.8
BLOCKS = 30
FEWEST_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Interval:
    """What blocks of pairs say about candidate ÷ baseline.

    Attributes:
        ratio: the estimate; 1.05 is five per cent slower; None where no pair has a ratio.
        low, high: its interval; None where there are too few blocks for one.
        visible: the smallest change that would have been called one four times in five: 1 outside the interval,
            and the estimate beyond the minimum effect.
        blocks: how many samples it rests on that count as independent.
    """

    ratio: float | None
    low: float | None
    high: float | None
    visible: float | None
    blocks: int


def log_ratios(paired: Paired, phase: Phase) -> list[list[float]]:
    """log(candidate ÷ baseline) of each pair, by process, in the order of time; a time of 0 has no ratio."""
    ratios = [[math.log(new / old) for old, new in pairs if old and new] for pairs in paired.pairs[phase].values()]
    return [of_process for of_process in ratios if of_process]


def blocks_of(by_process: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """Some thirty consecutive blocks, none across two processes."""
    total = sum(map(len, by_process))
    found: list[Sequence[float]] = []
    for ratios in by_process:
        count = min(len(ratios), max(1, round(BLOCKS * len(ratios) / total)))
        edges = [round(index * len(ratios) / count) for index in range(count + 1)]
        found += [ratios[a:b] for a, b in itertools.pairwise(edges)]
    return found


def interval(paired: Paired, phase: Phase, confidence: float, min_effect: float = 0.0) -> Interval:
    """What the pairs of a phase say, with this confidence."""
    by_process = log_ratios(paired, phase)
    if paired.by_process:
        return student([statistics.median(ratios) for ratios in by_process], confidence, min_effect)
    return woodruff(blocks_of(by_process), confidence, min_effect)


def student(values: Sequence[float], confidence: float, min_effect: float = 0.0) -> Interval:
    """Student's t interval of the mean (`scipy.stats.ttest_1samp`), as ratios."""
    from scipy import stats  # noqa: PLC0415 - not to be paid when tests are only collected

    n = len(values)
    ratio = math.exp(statistics.fmean(values)) if n else None
    if ratio is None or n < FEWEST_BLOCKS:
        return Interval(ratio, None, None, None, n)
    if min(values) == max(values):
        return Interval(ratio, ratio, ratio, min_effect, n)
    bounds = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return _interval(ratio, (bounds.low, bounds.high), confidence, n, min_effect)


def woodruff(blocks: Sequence[Sequence[float]], confidence: float, min_effect: float = 0.0) -> Interval:
    """The median's interval between order statistics, where the blocks, not the values, are independent.

    The standard error of the share below the median is that between blocks, but never less than that of as many
    independent values. None where there are too few blocks or values.
    """
    import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected
    from scipy import stats  # noqa: PLC0415

    values = np.concatenate([np.asarray(block) for block in blocks]) if blocks else np.empty(0)
    n, count = len(values), len(blocks)
    middle = float(np.median(values)) if n else 0.0
    if count < FEWEST_BLOCKS:
        return Interval(math.exp(middle) if n else None, None, None, None, count)
    # A value that equals the median lies half below it.
    below = [np.mean(np.asarray(block) < middle) + np.mean(np.asarray(block) == middle) / 2 for block in blocks]
    sizes = np.array([len(block) for block in blocks])
    spread = np.sum((sizes * (np.array(below) - 0.5)) ** 2) * count / (count - 1) / n**2
    error = max(math.sqrt(spread), 0.5 / math.sqrt(n))
    reach = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    if reach > 0.5 - 0.5 / n:
        return Interval(math.exp(middle), None, None, None, count)
    low, high = np.quantile(values, [0.5 - reach, 0.5 + reach]).tolist()
    return _interval(math.exp(middle), (low, high), confidence, count, min_effect)


def _interval(ratio: float, bounds: tuple[float, float], confidence: float, n: int, min_effect: float) -> Interval:
    """From logarithms to ratios; with the smallest change that was visible.

    As many standard errors as t has at the interval's end and at the power together (Bloom, Evaluation Review 19
    (1995) 547–556); and where that is less, the minimum effect and t's errors at the power.
    """
    from scipy import stats  # noqa: PLC0415 - as above

    low, high = bounds
    at_end, at_power = stats.t.ppf([0.5 + confidence / 2, POWER], n - 1).tolist()
    error = (high - low) / 2 / at_end
    visible = math.expm1(max(error * (at_end + at_power), math.log1p(min_effect) + error * at_power))
    return Interval(ratio, math.exp(low), math.exp(high), visible, n)


def fewest_pairs(confidence: float, *, by_process: bool) -> int:
    """How many pairs (or rounds of processes) can have an interval at all."""
    from scipy import stats  # noqa: PLC0415 - as above

    n = FEWEST_BLOCKS
    if by_process:
        return n
    while stats.t.ppf(0.5 + confidence / 2, min(n, BLOCKS) - 1) * 0.5 / math.sqrt(n - 1) > 0.5 - 0.5 / n:
        n += 1
    return n
