"""Regressed, improved, unchanged or inconclusive: what pairs of times say about a candidate and its baseline.

The statistic is the logarithm of candidate ÷ baseline. Within a pair both met the same machine, so what the machine
does in minutes cancels; what is left is correlated over seconds still, so pairs are not counted as if they were
independent: they are gathered in consecutive blocks, each block gives its median, and Student's t interval is taken
over the blocks (non-overlapping batch means: Schmeiser, Operations Research 30 (1982) 556–568, who found 10 to 30
blocks to suffice; medians, since single batches have outliers).
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
    from collections.abc import Iterable, Mapping, Sequence

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
        blocks: how many independent samples it rests on.
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


def blocks_of(paired: Paired, phase: Phase) -> list[float]:
    """Log-ratios that may count as independent.

    Of sides in one process: medians of consecutive blocks, none across two processes. Where the sides are processes
    of their own: one median for each two of them, however many batches they ran.
    """
    by_process = [[math.log(new / old) for old, new in pairs] for pairs in paired.pairs.get(phase, {}).values()]
    if paired.by_process:
        return [statistics.median(ratios) for ratios in by_process if ratios]
    total = sum(map(len, by_process))
    found: list[float] = []
    for ratios in by_process:
        count = min(len(ratios), max(1, round(BLOCKS * len(ratios) / total)))
        edges = [round(index * len(ratios) / count) for index in range(count + 1)]
        found += [statistics.median(ratios[a:b]) for a, b in itertools.pairwise(edges) if b > a]
    return found


def interval(blocks: Sequence[float], confidence: float) -> Interval:
    """Student's t interval of the blocks' mean (`scipy.stats.ttest_1samp`), as ratios.

    `visible` is as many standard errors as t has at the interval's end and at the power together (Bloom, Evaluation
    Review 19 (1995) 547–556).
    """
    import numpy as np  # noqa: PLC0415 - scipy and numpy are not to be paid when tests are only collected
    from scipy import stats  # noqa: PLC0415

    n = len(blocks)
    ratio = math.exp(statistics.fmean(blocks)) if n else math.nan
    if n < FEWEST_BLOCKS:
        return Interval(ratio, None, None, None, n)
    error = float(stats.sem(blocks))
    if not error:
        return Interval(ratio, ratio, ratio, 0.0, n)
    bounds = stats.ttest_1samp(blocks, 0.0).confidence_interval(confidence)
    reach = stats.t.ppf(0.5 + confidence / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    low, high, visible = np.exp([bounds.low, bounds.high, reach * error]).tolist()
    return Interval(ratio, low, high, visible - 1, n)


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
        draft = Comparison(
            cell=f"{run.cell.kind} {run.cell.id}",
            phase=phase,
            baseline_s=statistics.median(old for old, _ in pairs),
            candidate_s=statistics.median(new for _, new in pairs),
            interval=interval(blocks_of(paired, phase), confidence),
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
    """`handle` and its parts from 2% of it on; of a worker's start the whole and its parts likewise."""
    whole = Phase.HANDLE if Phase.HANDLE in paired.pairs else Phase.TOTAL
    if phase is whole:
        return True
    parts = HANDLER_PHASES if whole is Phase.HANDLE else _START
    return phase in parts and _median_baseline(paired.pairs, phase) >= GATING_SHARE * _median_baseline(
        paired.pairs, whole
    )


def _median_baseline(pairs: Mapping[Phase, Mapping[int, Sequence[Pair]]], phase: Phase) -> float:
    return statistics.median([old for of_process in pairs.get(phase, {}).values() for old, _ in of_process] or [0.0])


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
