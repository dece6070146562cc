"""The verdict on a candidate from pairs of times: regressed, improved, unchanged or inconclusive."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_torchserve.compare.intervals import Interval, interval
from pytest_torchserve.measure.cell import FEWEST_SAMPLES
from pytest_torchserve.phase import METHOD_PHASES, START_PARTS, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_torchserve.measure import Run
    from pytest_torchserve.measure.run import Paired

CONFIDENCE = 0.95
GATING_SHARE = 0.02
"""A phase that takes less of `handle` (or of a worker's whole start) is shown and does not decide the verdict."""

PROBE_COST_SHOWN = 0.01
"""The probe's cost is reported where it is at least this share of a phase."""


class Verdict(StrEnum):
    """The possible verdicts."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits that decide a verdict, and whether it fails the session.

    Attributes:
        min_effect: changes below this are ignored, as a fraction.
        max_regression: a regression whose estimate reaches this fails the session, as a fraction.
        strict: whether an inconclusive comparison fails the session too.
    """

    min_effect: float = 0.02
    max_regression: float = 0.02
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of one phase of one cell: candidate against baseline.

    Attributes:
        baseline_s, candidate_s: medians.
        interval: interval of the ratio; all gating intervals of a session hold together with 95% (Bonferroni).
        pairs, processes: the number of pairs and of processes.
        gating: whether the phase decides the session's result, or is only shown.
        probe_cost: the part of the phase that the probe itself takes, as a fraction of the baseline's time. Smaller
            changes are ignored: they cannot be distinguished from the cost of measuring.
        why: why the verdict is inconclusive, where the interval is not the reason.
        answers_apart: the largest distance of two numbers in both arms' answers to one request, in their own unit.
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
    probe_cost: float = 0.0
    answers_apart: float = 0.0

    def line(self) -> str:
        """Return the verdict, the cell, the phase, and the figures in words."""
        interval = self.interval
        times = f": × {interval.ratio:.3f}" if interval.ratio else ""
        between = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.low and interval.high else ""
        seen = f"; a change of {_share(interval.detectable)} could have been seen" if interval.detectable else ""
        seen += f"; the probe itself takes {self.probe_cost:.1%} of it" if self.probe_cost >= PROBE_COST_SHOWN else ""
        because = f": {self.why}" if self.why else ""
        return (
            f"{self.verdict.value} {self.cell} {self.phase.value}{because}: {self.candidate_s * 1e3:.4g} ms, baseline "
            f"{self.baseline_s * 1e3:.4g} ms{times}{between}{seen}"
        )


def _share(change: float) -> str:
    """Return a change in percent; beyond 100% its digits mean nothing."""
    return f"{change:.1%}" if change <= 1 else "more than 100%"


def judge(found: Interval, min_effect: float) -> Verdict:
    """Return the verdict on an interval: significant and large enough, significantly small, or inconclusive."""
    if found.low is None or found.high is None or found.ratio is None:
        return Verdict.INCONCLUSIVE
    if found.low > 1 and found.ratio >= 1 + min_effect:
        return Verdict.REGRESSED
    if found.high < 1 and found.ratio <= 1 / (1 + min_effect):
        return Verdict.IMPROVED
    if found.low >= 1 / (1 + min_effect) and found.high <= 1 + min_effect:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


def compare(runs: Iterable[Run], rules: Rules) -> list[Comparison]:
    """Compare every phase of every run that has two arms. The confidence depends on the number of gating phases."""
    drafts = [(run, paired, phase) for run in runs if (paired := run.paired) for phase in paired.pairs]
    gating = sum(_gates(paired, phase) for _, paired, phase in drafts)
    confidence = 1 - (1 - CONFIDENCE) / max(1, gating)
    return [
        one
        for run, paired, phase in drafts
        if (one := _compared(run, paired, phase, rules.min_effect, confidence)) is not None
    ]


def _compared(run: Run, paired: Paired, phase: Phase, min_effect: float, confidence: float) -> Comparison | None:
    """Return the comparison of one phase of one run; None where the phase takes no time on either arm."""
    baseline_s, candidate_s = _medians(paired, phase)
    if not baseline_s and not candidate_s:
        return None
    probe_cost = paired.probe_cost_s.get(phase, 0.0) / baseline_s if baseline_s else 0.0
    min_effect = max(min_effect, probe_cost)
    found = interval(paired, phase, confidence, min_effect)
    pairs = sum(map(len, paired.pairs[phase].values()))
    why, verdict = "", Verdict.INCONCLUSIVE
    if run.invalid:
        why = f"INVALID: {'; '.join(run.invalid)}"
    elif not baseline_s or not candidate_s:
        why = f"the {'baseline' if candidate_s else 'candidate'} takes no time for it, or has no such phase"
    elif found.low is None:
        unit = "rounds of processes" if paired.by_process else "processes"
        why = f"{found.processes} {unit}, {FEWEST_SAMPLES} are needed: --ts-baseline-seconds"
    else:
        verdict = judge(found, min_effect)
    return Comparison(
        cell=f"{run.cell.kind} {run.cell.id}",
        phase=phase,
        baseline_s=baseline_s,
        candidate_s=candidate_s,
        interval=found,
        pairs=pairs,
        processes=len(paired.pairs[phase]),
        gating=_gates(paired, phase),
        verdict=verdict,
        why=why,
        probe_cost=probe_cost,
        answers_apart=paired.answers_apart,
    )


def _gates(paired: Paired, phase: Phase) -> bool:
    """Return whether a phase decides the session's result: a whole, or a part that takes at least 2% of it.

    The wholes are `handle` and a worker's `total` start. The part may take 2% on either arm: a part that has grown from
    nothing to much must not be ignored.
    """
    whole = Phase.HANDLE if Phase.HANDLE in paired.pairs else Phase.TOTAL
    if phase is whole:
        return True
    parts = METHOD_PHASES if whole is Phase.HANDLE else START_PARTS
    shares = zip(_medians(paired, phase), _medians(paired, whole), strict=True)
    return phase in parts and any(part >= GATING_SHARE * all_of_it for part, all_of_it in shares)


def _medians(paired: Paired, phase: Phase) -> tuple[float, float]:
    """Return the median times of a phase as (baseline, candidate)."""
    pairs = [pair for of_process in paired.pairs.get(phase, {}).values() for pair in of_process] or [(0.0, 0.0)]
    return statistics.median(old for old, _ in pairs), statistics.median(new for _, new in pairs)


def failing(comparisons: Iterable[Comparison], rules: Rules) -> list[Comparison]:
    """Return the comparisons that fail the session."""
    return [
        one
        for one in comparisons
        if one.gating
        and (
            (
                one.verdict is Verdict.REGRESSED
                and (one.interval.ratio or 0) - 1 >= max(rules.max_regression, one.probe_cost)
            )
            or (rules.strict and one.verdict is Verdict.INCONCLUSIVE)
        )
    ]
