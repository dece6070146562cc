"""The verdicts on a candidate: from pairs of times, and from blocks of a load."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from pytest_torchserve.compare import load_metrics
from pytest_torchserve.compare.comparison import Comparison, Rules, Verdict, judge, more_seconds
from pytest_torchserve.compare.intervals import interval, student
from pytest_torchserve.compare.load_metrics import LoadMetric
from pytest_torchserve.measure.cell import FEWEST_SAMPLES
from pytest_torchserve.phase import METHOD_PHASES, START_PARTS, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_torchserve.measure import Run
    from pytest_torchserve.measure.run import Paired

CONFIDENCE = 0.95
MOST_GATING = {
    "init": 1 + len(START_PARTS),
    "handle": 1 + len(METHOD_PHASES),
    "load": len(load_metrics.GATING),
    "capacity": 1,
}
"""By kind of cell, the number of its metrics that may gate."""

GATING_SHARE = 0.02
"""A phase that takes less of `handle` (or of a worker's whole start) is shown and does not decide the verdict."""


def compare(runs: Iterable[Run], rules: Rules) -> list[Comparison]:
    """Compare every metric of every run that has two arms. The confidence depends on the number of gating metrics."""
    both = [(run, paired) for run in runs if (paired := run.paired)]
    phases = [(run, paired, phase) for run, paired in both for phase in paired.pairs]
    loads = [(run, paired, metric) for run, paired in both if paired.blocks for metric in load_metrics.OF_LOAD]
    searches = [(run, paired) for run, paired in both if paired.capacities]
    error = error_of(
        sum(len(gating(paired)) for _, paired in both)
        + sum(metric in load_metrics.GATING for *_, metric in loads)
        + len(searches)
    )
    found = [_compared(run, paired, phase, rules.min_effect, error) for run, paired, phase in phases]
    found += [_compared_load(run, paired, metric, rules.min_effect, error) for run, paired, metric in loads]
    found += [_compared_capacity(run, paired, rules.min_effect, 1 - error) for run, paired in searches]
    return [one for one in found if one is not None]


def _compared_capacity(run: Run, paired: Paired, min_effect: float, confidence: float) -> Comparison:
    """Return the comparison of the rates that the searches of both arms found; each pair of searches is a sample."""
    whole = [(old, new) for old, new in paired.capacities if old and new]
    found = student([math.log(new / old) for old, new in whole], confidence, min_effect)
    lacking = len(paired.capacities) - len(whole)
    why, verdict = "", Verdict.INCONCLUSIVE
    if run.invalid:
        why = f"INVALID: {'; '.join(run.invalid)}"
    elif len(paired.capacities) < FEWEST_SAMPLES:
        why = f"{len(paired.capacities)} of {FEWEST_SAMPLES} pairs of searches: they ended early"
    elif lacking:
        why = f"{lacking} of {len(paired.capacities)} pairs of searches found no rate in one of the arms"
    else:
        verdict = judge(found, min_effect, more_is_better=True)
    return Comparison(
        cell=f"{run.cell.kind} {run.cell.id}",
        metric=LoadMetric.CAPACITY,
        baseline=statistics.median(old for old, _ in whole) if whole else None,
        candidate=statistics.median(new for _, new in whole) if whole else None,
        interval=found,
        pairs=len(whole),
        processes=len(whole),
        gating=True,
        verdict=verdict,
        why=why,
        unit=LoadMetric.CAPACITY.unit,
        more_is_better=True,
        more_s=more_seconds(found, min_effect, paired.spent_s) if verdict is Verdict.INCONCLUSIVE and not why else None,
        confidence=confidence,
        spent_s=paired.spent_s,
    )


def gating(paired: Paired) -> list[Phase]:
    """Return the phases of a run with two arms that decide the session's result."""
    return [phase for phase in paired.pairs if _gates(paired, phase)]


def error_of(intervals: int) -> float:
    """Return the error that each of so many intervals may make, so that all hold together (Bonferroni)."""
    return (1 - CONFIDENCE) / max(1, intervals)


def decides(paired: Paired, min_effect: float, confidence: float) -> bool:
    """Return whether the samples so far decide every gating metric of a cell, at this confidence."""
    if paired.blocks:
        found = [
            (
                load_metrics.load_ratio(metric, paired.blocks, confidence, min_effect, by_process=paired.by_process),
                metric,
            )
            for metric in load_metrics.GATING
        ]
        return all(
            not one.why
            and judge(one.interval, min_effect, more_is_better=metric.more_is_better) is not Verdict.INCONCLUSIVE
            for one, metric in found
        )
    phases = gating(paired)
    return bool(phases) and all(
        judge(interval(paired, phase, confidence, least), least) is not Verdict.INCONCLUSIVE
        for phase in phases
        for least in [max(min_effect, probe_cost(paired, phase))]
    )


def probe_cost(paired: Paired, phase: Phase) -> float:
    """Return the part of a phase that the probe itself takes, as a fraction of the baseline's time."""
    baseline_s, _ = _medians(paired, phase)
    return paired.probe_cost_s.get(phase, 0.0) / baseline_s if baseline_s else 0.0


def _compared(run: Run, paired: Paired, phase: Phase, min_effect: float, error: float) -> Comparison | None:
    """Return the comparison of one phase of one run; None where the phase takes no time on either arm."""
    baseline_s, candidate_s = _medians(paired, phase)
    if not baseline_s and not candidate_s:
        return None
    cost = probe_cost(paired, phase)
    min_effect, confidence = max(min_effect, cost), 1 - error * paired.error_share
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
        metric=phase,
        baseline=baseline_s,
        candidate=candidate_s,
        interval=found,
        pairs=pairs,
        processes=len(paired.pairs[phase]),
        gating=_gates(paired, phase),
        verdict=verdict,
        why=why,
        probe_cost=cost,
        answers_apart=paired.answers_apart,
        more_s=more_seconds(found, min_effect, paired.spent_s) if verdict is Verdict.INCONCLUSIVE and not why else None,
        confidence=confidence,
        spent_s=paired.spent_s,
    )


def _compared_load(run: Run, paired: Paired, metric: LoadMetric, min_effect: float, error: float) -> Comparison | None:
    """Return the comparison of one metric of a load; None where neither arm has such a figure."""
    confidence = 1 - error * paired.error_share
    found = load_metrics.load_ratio(metric, paired.blocks, confidence, min_effect, by_process=paired.by_process)
    if found.baseline is None and found.candidate is None:
        return None
    why = f"INVALID: {'; '.join(run.invalid)}" if run.invalid else found.why
    if run.errors and not run.invalid and metric is not LoadMetric.GOODPUT:
        why = "requests of the candidate failed, and have no latency: goodput counts them"
    verdict = Verdict.INCONCLUSIVE
    if not why:
        verdict = judge(found.interval, min_effect, more_is_better=metric.more_is_better)
    undecided = verdict is Verdict.INCONCLUSIVE and not why
    return Comparison(
        cell=f"{run.cell.kind} {run.cell.id}",
        metric=metric,
        baseline=found.baseline,
        candidate=found.candidate,
        interval=found.interval,
        pairs=len(paired.blocks),
        processes=len({block.process for block in paired.blocks}),
        gating=metric in load_metrics.GATING,
        verdict=verdict,
        why=why,
        answers_apart=paired.answers_apart,
        unit=metric.unit,
        more_is_better=metric.more_is_better,
        more_s=more_seconds(found.interval, min_effect, paired.spent_s) if undecided else None,
        confidence=confidence,
        spent_s=paired.spent_s,
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
            (one.verdict is Verdict.REGRESSED and one.worse - 1 >= max(rules.max_regression, one.probe_cost))
            or (rules.strict and one.verdict is Verdict.INCONCLUSIVE)
        )
    ]
