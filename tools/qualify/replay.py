"""Recorded comparisons of the same code, judged as they are and with a slowdown planted in one phase.

`verdict.py` records the comparisons and reports the results.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.comparison import Rules, Verdict, judge
from pytest_torchserve.compare.intervals import BIAS, interval, log_ratios, pair_variance
from pytest_torchserve.compare.verdict import CONFIDENCE, compare, gating
from pytest_torchserve.phase import METHOD_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from recordings import Recorded

    from pytest_torchserve.measure.run import Paired

MIN_EFFECT = Rules().min_effect
SMALL_EFFECT = 0.01
SURE = 0.015
"""With --ts-min-effect=1%, cells that say they would detect this much must find 2%."""

CALLED = (Verdict.REGRESSED, Verdict.IMPROVED)


def swapped(paired: Paired) -> Paired:
    """Return the same pairs with the arms exchanged: what holds for one holds for the other."""
    pairs = {
        phase: {process: tuple((new, old) for old, new in of) for process, of in by_process.items()}
        for phase, by_process in paired.pairs.items()
    }
    blocks = tuple(replace(one, baseline=one.candidate, candidate=one.baseline) for one in paired.blocks)
    return replace(paired, pairs=pairs, blocks=blocks)


def slowed(paired: Paired, phase: Phase, factor: float) -> Paired:
    """Return the pairs with the candidate's phase made slower, and the whole of `handle` by as much."""
    added = {process: [new * (factor - 1) for _, new in pairs] for process, pairs in paired.pairs[phase].items()}
    pairs = dict(paired.pairs)
    for slower in (phase, Phase.HANDLE):
        pairs[slower] = {
            process: tuple((old, new + more) for (old, new), more in zip(of, added[process], strict=True))
            for process, of in paired.pairs[slower].items()
        }
    return replace(paired, pairs=pairs)


def alone(paired: Paired, phase: Phase, min_effect: float) -> tuple[Verdict, float]:
    """Return the verdict on one phase, as if nothing else were compared, and the change that it says it can detect."""
    found = interval(paired, phase, 1 - (1 - CONFIDENCE) * paired.error_share, min_effect)
    return judge(found, min_effect), found.detectable or math.inf


def false_ones(recorded: Sequence[Recorded]) -> list[str]:
    """Return, for every disjoint cell of the same code, the metrics that were called changed; judged cell by cell."""
    told = []
    for one in recorded:
        verdicts = compare([one.run], Rules())
        told += [
            f"{one.date} {one.name} {v.metric.value}: {v.verdict.value}, × {v.interval.ratio:.3f}"
            for v in verdicts
            if v.gating and v.verdict in CALLED
        ]
    return told


def cells_called(recorded: Sequence[Recorded], verdicts: Sequence[Verdict] = CALLED) -> int:
    """Return the number of cells with such a verdict on any gating metric."""
    return sum(any(v.gating and v.verdict in verdicts for v in compare([one.run], Rules())) for one in recorded)


def finds(recorded: Recorded, metric: str) -> bool:
    """Return whether a cell that is alone in its session is regressed in this metric."""
    verdicts = compare([recorded.run], Rules())
    return any(v.metric.value == metric and v.verdict is Verdict.REGRESSED for v in verdicts)


def planted(recorded: Sequence[Recorded], phase: Phase, factor: float, min_effect: float = MIN_EFFECT) -> list[bool]:
    """Return, for each handle cell in which the phase gates, and for each arm, whether the planted change is found.

    With a smaller minimum effect, only cells count that say they can detect `SURE`.
    """
    found = []
    for one in recorded:
        if phase not in gating(one.paired) or Phase.HANDLE not in one.paired.pairs:
            continue
        if one.paired.probe_cost_s.get(phase, 0.0) > min_effect * median_s(one.paired, phase):
            continue  # such a change is said to be ignored: measuring costs more
        for paired in (one.paired, swapped(one.paired)):
            verdict, detectable = alone(slowed(paired, phase, factor), phase, min_effect)
            if min_effect == MIN_EFFECT or detectable <= SURE:
                found.append(verdict is Verdict.REGRESSED)
    return found


def median_s(paired: Paired, phase: Phase) -> float:
    """Return the median of the baseline's times."""
    return statistics.median(old for of in paired.pairs[phase].values() for old, _ in of)


def biases(recorded: Sequence[Recorded]) -> list[str]:
    """Return, for each cell and phase, how far the arms of one process differ from process to process.

    Each line: cell, phase, microseconds, processes, the standard deviation of the processes' medians, what the scatter
    of their pairs explains of it, and whether the rest is more than `BIAS`, which intervals assume.
    """
    by_cell: dict[tuple[str, Phase], list[list[float]]] = {}
    times_us: dict[tuple[str, Phase], float] = {}
    for one in recorded:
        for phase in (*METHOD_PHASES, Phase.HANDLE):
            if phase in one.paired.pairs and not one.paired.by_process:
                by_cell.setdefault((one.name, phase), []).extend(log_ratios(one.paired, phase))
                times_us[one.name, phase] = 1e6 * median_s(one.paired, phase)
    lines = []
    for (name, phase), ratios in by_cell.items():
        medians = [statistics.median(of) for of in ratios]
        if len(medians) < 6:  # noqa: PLR2004 - fewer have no standard deviation worth printing
            continue
        spread, (own, _) = statistics.stdev(medians), pair_variance(ratios)
        more = math.sqrt(max(0.0, spread**2 - own))
        note = f"more than {BIAS:.1%}: the process is the sample" if more > BIAS else ""
        figures = f"{times_us[name, phase]:10.1f} {len(medians):3} {spread:7.2%} {math.sqrt(own):7.2%}"
        lines.append(f"{name:30} {phase:12} {figures} {note}")
    return lines


def detectable(recorded: Sequence[Recorded]) -> float | None:
    """Return the median change that `handle` says it can detect, over the handle cells."""
    told = [alone(one.paired, Phase.HANDLE, MIN_EFFECT)[1] for one in recorded if Phase.HANDLE in one.paired.pairs]
    return statistics.median(told) if told else None


def processes(recorded: Sequence[Recorded]) -> int:
    """Return the number of processes, or rounds of them, in all recordings."""
    counts: list[Mapping[int, object]] = [next(iter(one.paired.pairs.values()), {}) for one in recorded]
    return sum(map(len, counts)) + sum(len({block.process for block in one.paired.blocks}) for one in recorded)
