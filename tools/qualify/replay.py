"""Recorded comparisons of the same code, replayed as cells: how often a verdict would have been right.

`verdict.py` records the comparisons and reports the results.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

from pytest_torchserve.compare.comparison import Rules, Verdict, judge
from pytest_torchserve.compare.intervals import interval
from pytest_torchserve.compare.verdict import CONFIDENCE, compare
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import METHOD_PHASES, Phase

PHASES = (*METHOD_PHASES, Phase.HANDLE)
PLANTS = {
    "found_inference_5pct": (Phase.INFERENCE, 1.05, 98),
    "found_inference_3pct": (Phase.INFERENCE, 1.03, 90),
    "found_preprocess_10pct": (Phase.PREPROCESS, 1.10, 95),
}
PROCESSES = 8
"""The processes of a cell: the default of --ts-baseline-processes."""
START_S = 6.0
"""The time that a worker's start and warm-up take of each process's share of the budget."""
MATRIX = 36
"""The approximate number of gating comparisons in a run of all handle cells."""


Recorded = dict[Phase, list[list[tuple[float, float]]]]
"""Phase → process → pairs of (baseline, candidate), in seconds."""


def paired_of(journals: list[Path], cell: str) -> tuple[Recorded, dict[Phase, float]]:
    """Return a cell's pairs from all journals, all processes together, and the probe's cost in seconds by phase."""
    recorded: Recorded = {phase: [] for phase in (*PHASES, Phase.LATENCY)}
    probe_cost_s: dict[Phase, float] = {}
    for journal in journals:
        lines = map(json.loads, journal.read_text().splitlines())
        for paired in (line["paired"] for line in lines if line.get("paired") and line["cell"] == cell):
            for phase, cost_s in paired.get("probe_cost_s", {}).items():
                probe_cost_s[phase] = max(cost_s, probe_cost_s.get(phase, 0.0))
            for phase, of_phase in recorded.items():
                of_phase += [[tuple(pair) for pair in pairs] for pairs in paired["pairs"][phase].values()]
    return recorded, probe_cost_s


def bias_lines(name: str, recorded: Recorded) -> list[str]:
    """Return how far the arms differ from process to process, and how much of it the scatter of the pairs explains.

    Each line: cell, phase, microseconds, standard deviation of the process medians, the standard deviation that the
    pairs alone would explain, mean, and the mean's standard error.
    """
    lines = []
    for phase in PHASES:
        ratios = [[math.log(new / old) for old, new in pairs if old and new] for pairs in recorded[phase]]
        medians = [statistics.median(of_process) for of_process in ratios]
        # A median of n values has a standard error of 1.25 sd / √n; 1.35 sd lie between a normal sample's quartiles.
        own = [1.25 / 1.35 * _quartiles(of_process) / math.sqrt(len(of_process)) for of_process in ratios]
        own_sd = math.sqrt(statistics.fmean(error**2 for error in own))
        time_us = 1e6 * statistics.median(old for pairs in recorded[phase] for old, _ in pairs)
        lines.append(
            f"{name:10} {phase:12} {time_us:10.1f} {statistics.stdev(medians):8.2%} {own_sd:8.2%} "
            f"{statistics.fmean(medians):+8.2%} ± {statistics.stdev(medians) / math.sqrt(len(medians)):.2%}"
        )
    return lines


def _quartiles(values: list[float]) -> float:
    """Return the distance between the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return high - low


def stretch(recorded: Recorded, pairs: int, rng: random.Random, plant: tuple[Phase, float] | None) -> dict:
    """Return one cell: a stretch of pairs from each of some recorded processes, slowed down as `plant` says.

    The arms of the whole cell are swapped at random. If the arms were swapped by process, a bias that always favours
    the same arm would look like a bias drawn anew for each process, and no false alarm could show it.
    """
    cell: dict = {phase: {} for phase in PHASES}
    processes, swap = len(recorded[Phase.HANDLE]), rng.choice((True, False))
    for process in rng.sample(range(processes), min(PROCESSES, processes)):
        whole = len(recorded[Phase.HANDLE][process])
        length = min(pairs, whole)
        at = rng.randrange(whole - length + 1)
        chosen = {phase: recorded[phase][process][at : at + length] for phase in PHASES}
        if swap:
            chosen = {phase: [(new, old) for old, new in of_phase] for phase, of_phase in chosen.items()}
        if plant:
            phase, factor = plant
            more = [new * (factor - 1) for _, new in chosen[phase]]
            for slower in (phase, Phase.HANDLE):
                chosen[slower] = [(old, new + m) for (old, new), m in zip(chosen[slower], more, strict=True)]
        for phase in PHASES:
            cell[phase][process] = tuple(chosen[phase])
    return cell


def verdicts(cell: dict, rules: Rules, probe_cost_s: dict[Phase, float] | None = None) -> dict[Phase, Verdict]:
    """Return the suite's verdict on each gating phase of one cell that is alone in its run."""
    deployment = Deployment(Model("resnet56", "", Path(), "cifar10"), "cpu", Batching(16))
    paired = Paired("itself", cell, probe_cost_s=probe_cost_s or {})
    run = Run(cell=Cell("handle", deployment), seconds={}, workers=1, paired=paired)
    return {one.metric: one.verdict for one in compare([run], rules) if one.gating}


def among(cell: dict, phase: Phase, rules: Rules) -> Verdict:
    """Return the verdict on one phase in a run of `MATRIX` comparisons, which requires a higher confidence."""
    found = interval(Paired("itself", cell), phase, 1 - (1 - CONFIDENCE) / MATRIX, rules.min_effect)
    return judge(found, rules.min_effect)


def threshold_is_crossed(earlier: dict, later: dict, limit: float = 0.05) -> bool:
    """Return whether `--benchmark-compare-fail=median:5%` would fail between two runs of the same code.

    Any entry may cross the threshold; each run has one arm.
    """
    medians = [
        {phase: statistics.median(new for by in cell[phase].values() for _, new in by) for phase in PHASES}
        for cell in (earlier, later)
    ]
    return any(medians[1][phase] / medians[0][phase] - 1 > limit for phase in PHASES)


def simulate(recorded: dict, pairs: int, cells: int, seed: int) -> dict[str, int]:
    """Simulate `cells` cells of each kind; return by name how many cells got the verdict in question."""
    rng, rules = random.Random(seed), Rules()  # noqa: S311 - a simulation
    others = ["false_regressed", "null_unchanged", "pytest_benchmark_false", "found_inference_3pct_of_36"]
    found = dict.fromkeys([*others, *PLANTS], 0)
    for _ in range(cells):
        null = stretch(recorded, pairs, rng, None)
        said = verdicts(null, rules)
        found["false_regressed"] += Verdict.REGRESSED in said.values()
        found["null_unchanged"] += set(said.values()) == {Verdict.UNCHANGED}
        found["pytest_benchmark_false"] += threshold_is_crossed(null, stretch(recorded, pairs, rng, None))
        for name, (phase, factor, _) in PLANTS.items():
            cell = stretch(recorded, pairs, rng, (phase, factor))
            found[name] += verdicts(cell, rules).get(phase) is Verdict.REGRESSED
            if name == "found_inference_3pct":
                found["found_inference_3pct_of_36"] += among(cell, phase, rules) is Verdict.REGRESSED
    return found


def false_alarms(recorded: Recorded, probe_cost_s: dict[Phase, float], pairs: int, cells: int, seed: int) -> int:
    """Return how many of `cells` cells of the same code are regressed or improved in any gating phase."""
    rng, rules = random.Random(seed), Rules()  # noqa: S311 - a simulation
    said = (verdicts(stretch(recorded, pairs, rng, None), rules, probe_cost_s).values() for _ in range(cells))
    return sum(not {Verdict.REGRESSED, Verdict.IMPROVED}.isdisjoint(of_cell) for of_cell in said)


def pairs_within(recorded: Recorded, cell_s: float) -> int:
    """Return how many pairs each process of a cell has time for, at the pace of the recording."""
    pair_s = 2 * statistics.median(new for by in recorded[Phase.LATENCY] for _, new in by)
    return max(2, int((cell_s / PROCESSES - START_S) / pair_s))
