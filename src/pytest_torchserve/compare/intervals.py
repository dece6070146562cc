"""Estimates of the ratio candidate ÷ baseline from pairs of times, and the intervals around them.

Within a pair both arms met the same machine, so slow changes of the machine cancel. The rest of
log(candidate ÷ baseline) has heavy tails (a disturbed batch takes twice as long), so each process contributes the
median of its pairs. The estimate is the mean of these medians.

As long as a process lives an arm keeps its place in memory, and all pairs of the process share the resulting bias: a
few per mille of a large network's batch, several per cent of a handler that does nothing
(docs/decisions/0019-the-bias-of-a-process.md has the figures). So the variance of the estimate has two parts, pairs
and processes. Where the medians scatter more than their pairs and a bias of `BIAS` explain, the process is the sample,
and the interval is Student's over the medians. Otherwise the scatter of the medians is no more than chance, and the
interval uses the variance of the pairs, with `BIAS` added. The reason: where a network takes ten seconds to load,
three or four processes must be enough, and Student's interval over four would be several times too wide. (A
preliminary F-test that pools at the level of 25%: Bancroft, Annals of Mathematical Statistics 15 (1944) 190–204.)
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve.measure.cell import FEWEST_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.measure.run import Paired
    from pytest_torchserve.phase import Phase

POWER = 0.8

BIAS = 0.005
"""The difference between processes of a network, as a standard deviation of log-ratios. For the phases that are timed
in milliseconds, sixteen recorded processes gave 0.003 and 0.004."""

FEWEST_DEGREES = 8


@dataclass(frozen=True, slots=True)
class Interval:
    """The estimate of candidate ÷ baseline, and the confidence interval around it.

    Attributes:
        ratio: the estimate; 1.05 is five per cent slower; None where no pair has a ratio.
        low, high: the ends of the interval; None where there are too few processes.
        detectable: the smallest change that would have been detected four times in five: 1 outside the interval, and
            the estimate beyond the minimum effect.
        processes: number of independent samples: worker processes, or rounds of a process for each arm.
    """

    ratio: float | None
    low: float | None
    high: float | None
    detectable: float | None
    processes: int


def log_ratios(paired: Paired, phase: Phase) -> list[list[float]]:
    """Return log(candidate ÷ baseline) of each pair, by process; a pair with a time of 0 has no ratio."""
    ratios = [[math.log(new / old) for old, new in pairs if old and new] for pairs in paired.pairs[phase].values()]
    return [of_process for of_process in ratios if of_process]


def interval(paired: Paired, phase: Phase, confidence: float, min_effect: float = 0.0) -> Interval:
    """Return the estimate and the interval of a phase's ratio at this confidence."""
    by_process = log_ratios(paired, phase)
    medians = [statistics.median(ratios) for ratios in by_process]
    if len(medians) >= FEWEST_SAMPLES and not paired.by_process:
        own, freedom = pair_variance(by_process)
        if freedom and not _scatter_more(medians, own + BIAS**2, freedom):
            error = math.sqrt((own + BIAS**2) / len(medians))
            return around(statistics.fmean(medians), error, freedom, len(medians), confidence, min_effect)
    return student(medians, confidence, min_effect)


def pair_variance(by_process: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the variance of a process's median that comes from its pairs alone, and its degrees of freedom.

    Each pair's residual is its log-ratio less the median of its process. The residuals' quartiles give the pairs'
    standard deviation: the quartiles of a normal sample are 1.349 standard deviations apart. The median of n values has
    1.571 times their variance ÷ n. The degrees are 0 where there are fewer than `FEWEST_DEGREES` pairs besides one
    for each process: too few for quartiles.
    """
    medians = [statistics.median(ratios) for ratios in by_process]
    left = [ratio - middle for ratios, middle in zip(by_process, medians, strict=True) for ratio in ratios]
    freedom = len(left) - len(by_process)
    if freedom < FEWEST_DEGREES:
        return 0.0, 0
    low, _, high = statistics.quantiles(left, n=4)
    variance = ((high - low) / 1.349) ** 2 * len(left) / freedom
    return 1.571 * variance * statistics.fmean(1 / len(ratios) for ratios in by_process), freedom


def _scatter_more(medians: Sequence[float], variance: float, freedom: int) -> bool:
    """Return whether medians scatter more than such a variance explains in three cases of four."""
    from scipy import stats  # noqa: PLC0415 - not to be paid when tests are only collected

    return statistics.variance(medians) > variance * float(stats.f.ppf(0.75, len(medians) - 1, freedom))


def student(values: Sequence[float], confidence: float, min_effect: float = 0.0) -> Interval:
    """Return Student's t interval of the mean, as ratios."""
    n = len(values)
    if n < FEWEST_SAMPLES:
        return Interval(math.exp(statistics.fmean(values)) if n else None, None, None, None, n)
    error = statistics.stdev(values) / math.sqrt(n)
    return around(statistics.fmean(values), error, n - 1, n, confidence, min_effect)


def around(middle: float, error: float, freedom: int, processes: int, confidence: float, min_effect: float) -> Interval:
    """Return the t interval around an estimate of the log-ratio, as ratios, and the smallest detectable change.

    The detectable change is the standard error times the sum of t's quantiles at the interval's end and at the power
    (Bloom, Evaluation Review 19 (1995) 547–556), or, where this is larger, the minimum effect plus the standard error
    times t's quantile at the power.
    """
    from scipy import stats  # noqa: PLC0415 - as above

    at_end, at_power = stats.t.ppf([0.5 + confidence / 2, POWER], freedom).tolist()
    detectable = math.expm1(max(error * (at_end + at_power), math.log1p(min_effect) + error * at_power))
    low, high = middle - at_end * error, middle + at_end * error
    return Interval(math.exp(middle), math.exp(low), math.exp(high), detectable, processes)
