"""Regressed, improved, unchanged or inconclusive: what pairs of times say about a candidate and its baseline.

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
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_torchserve.phase import HANDLER_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_torchserve.measure import Run
    from pytest_torchserve.measure.run import Paired

CONFIDENCE = 0.95
POWER = 0.8
BLOCKS = 30
FEWEST_BLOCKS = 5
GATING_SHARE = 0.02
"""A phase that takes less of `handle` (or of a worker's whole start) is shown and does not judge."""

_START = (Phase.SPAWN_AND_IMPORT, Phase.LOAD_MODEL, Phase.TO_DEVICE)

Pair = tuple[float, float]
"""(baseline, candidate), in seconds."""


class Verdict(StrEnum):
    """What can be said."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides.

    Attributes:
        min_effect: a smaller change is none, as a fraction.
        max_regression: a regression whose estimate is beyond this fails the session.
        strict: whether an inconclusive one fails it too.
    """

    min_effect: float = 0.02
    max_regression: float = 0.02
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """What blocks of pairs say about candidate ÷ baseline.

    Attributes:
        ratio: the estimate; 1.05 is five per cent slower.
        low, high: its interval; None where there are too few blocks for one.
        visible: the smallest change that would have left 1 outside the interval four times in five.
        blocks: how many samples it rests on that count as independent.
    """

    ratio: float
    low: float | None
    high: float | None
    visible: float | None
    blocks: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One phase of one cell: candidate against baseline.

    Attributes:
        baseline_s, candidate_s: medians.
        interval: of the ratio; all those of a run hold together with 95% (Bonferroni over the gating ones).
        pairs, processes: what it rests on.
        gating: whether it judges, or is only shown.
        why: why it is inconclusive, where that is not for the interval.
    """

    cell: str
    phase: Phase
    baseline_s: float
    candidate_s: float
    interval: Interval
    pairs: int
    processes: int
    gating: bool
    verdict: Verdict = Verdict.INCONCLUSIVE
    why: str = ""

    def line(self) -> str:
        """In words: the cell, the phase, and the figures."""
        interval = self.interval
        between = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.low and interval.high else ""
        seen = f"; a change of {interval.visible:.1%} could have been seen" if interval.visible else ""
        because = f": {self.why}" if self.why else ""
        return (
            f"{self.verdict.value} {self.cell} {self.phase.value}{because}: {self.candidate_s * 1e3:.4g} ms, was "
            f"{self.baseline_s * 1e3:.4g} ms: × {interval.ratio:.3f}{between}{seen}"
        )


def log_ratios(paired: Paired, phase: Phase) -> list[list[float]]:
    """log(candidate ÷ baseline) of each pair, by process, in the order of time."""
    return [[math.log(new / old) for old, new in pairs] for pairs in paired.pairs.get(phase, {}).values() if pairs]


def blocks_of(by_process: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """Some thirty consecutive blocks, none across two processes."""
    total = sum(map(len, by_process))
    found: list[Sequence[float]] = []
    for ratios in by_process:
        count = min(len(ratios), max(1, round(BLOCKS * len(ratios) / total)))
        edges = [round(index * len(ratios) / count) for index in range(count + 1)]
        found += [ratios[a:b] for a, b in itertools.pairwise(edges)]
    return found


def interval(paired: Paired, phase: Phase, confidence: float) -> Interval:
    """What the pairs of a phase say, with this confidence."""
    by_process = log_ratios(paired, phase)
    if paired.by_process:
        return student([statistics.median(ratios) for ratios in by_process], confidence)
    return woodruff(blocks_of(by_process), confidence)


def student(values: Sequence[float], confidence: float) -> Interval:
    """Student's t interval of the mean (`scipy.stats.ttest_1samp`), as ratios."""
    from scipy import stats  # noqa: PLC0415 - not to be paid when tests are only collected

    n = len(values)
    ratio = math.exp(statistics.fmean(values)) if n else math.nan
    if n < FEWEST_BLOCKS:
        return Interval(ratio, None, None, None, n)
    if min(values) == max(values):
        return Interval(ratio, ratio, ratio, 0.0, n)
    bounds = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return _interval(ratio, bounds.low, bounds.high, confidence, n)


def woodruff(blocks: Sequence[Sequence[float]], confidence: float) -> Interval:
    """The median's interval between order statistics, where the blocks, not the values, are independent.

    The standard error of the share below the median is that between blocks, but never less than that of as many
    independent values. None where there are too few blocks or values.
    """
    import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected
    from scipy import stats  # noqa: PLC0415

    values = np.concatenate([np.asarray(block) for block in blocks]) if blocks else np.empty(0)
    n, count = len(values), len(blocks)
    middle = float(np.median(values)) if n else math.nan
    if count < FEWEST_BLOCKS:
        return Interval(math.exp(middle), None, None, None, count)
    # A value that equals the median lies half below it.
    below = [np.mean(np.asarray(block) < middle) + np.mean(np.asarray(block) == middle) / 2 for block in blocks]
    sizes = np.array([len(block) for block in blocks])
    spread = np.sum((sizes * (np.array(below) - 0.5)) ** 2) * count / (count - 1) / n**2
    error = max(math.sqrt(spread), 0.5 / math.sqrt(n))
    reach = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    if reach > 0.5 - 0.5 / n:
        return Interval(math.exp(middle), None, None, None, count)
    low, high = np.quantile(values, [0.5 - reach, 0.5 + reach]).tolist()
    return _interval(math.exp(middle), low, high, confidence, count)


def _interval(ratio: float, low: float, high: float, confidence: float, n: int) -> Interval:
    """From logarithms to ratios; with the smallest change that was visible.

    As many standard errors as t has at the interval's end and at the power together (Bloom, Evaluation Review 19
    (1995) 547–556).
    """
    from scipy import stats  # noqa: PLC0415

    at_end, at_power = stats.t.ppf([0.5 + confidence / 2, POWER], n - 1)
    visible = math.expm1((high - low) / 2 * (at_end + at_power) / at_end)
    return Interval(ratio, math.exp(low), math.exp(high), visible, n)


def judge(found: Interval, min_effect: float) -> Verdict:
    """The rule: beyond doubt and large enough, or beyond doubt small enough, or nothing."""
    if found.low is None or found.high is None:
        return Verdict.INCONCLUSIVE
    if found.low > 1 and found.ratio >= 1 + min_effect:
        return Verdict.REGRESSED
    if found.high < 1 and found.ratio <= 1 / (1 + min_effect):
        return Verdict.IMPROVED
    if found.low >= 1 / (1 + min_effect) and found.high <= 1 + min_effect:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


def compare(runs: Iterable[Run], rules: Rules) -> list[Comparison]:
    """Every phase of every run that has two sides; how sure one must be depends on how many judge."""
    drafts = [(run, paired, phase) for run in runs if (paired := run.paired) for phase in paired.pairs]
    gating = sum(_gates(paired, phase) for _, paired, phase in drafts)
    confidence = 1 - (1 - CONFIDENCE) / max(1, gating)
    found = []
    for run, paired, phase in drafts:
        pairs = [pair for of_process in paired.pairs[phase].values() for pair in of_process]
        if not pairs or min(map(min, pairs)) <= 0:
            continue  # a phase that takes no time has no ratio
        medians = _medians(paired, phase)
        draft = Comparison(
            cell=f"{run.cell.kind} {run.cell.id}",
            phase=phase,
            baseline_s=medians[0],
            candidate_s=medians[1],
            interval=interval(paired, phase, confidence),
            pairs=len(pairs),
            processes=len(paired.pairs[phase]),
            gating=_gates(paired, phase),
        )
        if run.invalid:
            found.append(replace(draft, why=f"INVALID: {'; '.join(run.invalid)}"))
        else:
            found.append(replace(draft, verdict=judge(draft.interval, rules.min_effect)))
    return found


def _gates(paired: Paired, phase: Phase) -> bool:
    """`handle` and its parts from 2% of it on; of a worker's start the whole and its parts likewise.

    On either side: a part that was nothing and has become much must not pass for having been nothing.
    """
    whole = Phase.HANDLE if Phase.HANDLE in paired.pairs else Phase.TOTAL
    if phase is whole:
        return True
    parts = HANDLER_PHASES if whole is Phase.HANDLE else _START
    shares = zip(_medians(paired, phase), _medians(paired, whole), strict=True)
    return phase in parts and any(part >= GATING_SHARE * all_of_it for part, all_of_it in shares)


def _medians(paired: Paired, phase: Phase) -> tuple[float, float]:
    """(baseline, candidate)."""
    pairs = [pair for of_process in paired.pairs.get(phase, {}).values() for pair in of_process] or [(0.0, 0.0)]
    return statistics.median(old for old, _ in pairs), statistics.median(new for _, new in pairs)


def failing(comparisons: Iterable[Comparison], rules: Rules) -> list[Comparison]:
    """Those that fail the session."""
    return [
        one
        for one in comparisons
        if one.gating
        and (
            (one.verdict is Verdict.REGRESSED and one.interval.ratio - 1 >= rules.max_regression)
            or (rules.strict and one.verdict is Verdict.INCONCLUSIVE)
        )
    ]
