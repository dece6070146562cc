"""Search both arms for their capacity, one after the other: a pair of searches in fresh processes is one sample."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.load_blocks import addressed, by_arm
from pytest_torchserve.compare.pair_meter import refuse_process_wide
from pytest_torchserve.compare.rounds import shuffled
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.measure import measure_capacity
from pytest_torchserve.measure.cell import FEWEST_SAMPLES, Budget
from pytest_torchserve.measure.run import Paired, Run

if TYPE_CHECKING:
    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.compare.rounds import Targets
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.cell import Cell


SEEDS_A_ROUND = 1000
"""More than a search has probes: each takes the next seed."""


def rounds_within(budget: Budget) -> int:
    """Return how many pairs of searches a cell makes: three, and more where they fit into --ts-baseline-seconds."""
    return max(FEWEST_SAMPLES, int(budget.baseline_seconds / (2 * budget.capacity_seconds)))


def measure_capacity_pairs(targets: Targets | ScalableTarget, cell: Cell, params: ComparisonParams) -> Run:
    """Measure a capacity cell: in each round both arms are searched, one after the other.

    The run is the candidate's last search, INVALID where any search of either arm was: they lie minutes apart, and what
    disturbed one may have spared the other; and a late sender makes both arms alike.

    Args:
        targets: by arm, where it is registered; or the one registration that holds both arms.

    Raises:
        ProcessWideError: the arms cannot share a process.
    """
    arms, own = by_arm(targets)
    clock, budget = MonotonicClock(), params.context.budget
    order = random.Random(budget.seed)  # noqa: S311 - an order, no secret
    begun_ns, found = clock.now_ns(), list[tuple[float | None, float | None]]()
    run, invalid = None, dict[str, None]()
    for number in range(rounds_within(budget)):
        _restart(arms, cell)
        searched = {arm: _search(arms[arm], arm, cell, params, number, own=own) for arm in shuffled(arms, order)}
        run = searched["candidate"]
        found.append(_rates(searched["baseline"], run))
        invalid |= dict.fromkeys(f"{arm}: {why}" for arm, one in searched.items() for why in one.invalid)
        if run.wrong:
            break
    assert run is not None  # noqa: S101 - there are three rounds at least
    spent_s = (clock.now_ns() - begun_ns) / 1e9
    paired = Paired(params.baseline, by_process=own, differs=params.differs, capacities=tuple(found), spent_s=spent_s)
    return replace(run, invalid=tuple(invalid), paired=paired)


def _restart(targets: Targets, cell: Cell) -> None:
    """Start fresh processes: two processes of the same code differ."""
    for target in {id(target): target for target in targets.values()}.values():
        target.scale(0)
        target.scale(cell.deployment.workers or cell.workers)


def _search(target: ScalableTarget, arm: str, cell: Cell, params: ComparisonParams, number: int, *, own: bool) -> Run:
    """Search one arm. The baseline's answers are not held against golden ones, which may be of another version."""
    context = params.context
    samples = context.inputs.samples
    if arm == "baseline":
        samples = tuple(replace(sample, answer=None, trusted=False) for sample in samples)
    if not own:
        samples = tuple(addressed(sample, arm) for sample in samples)
        (response,) = ask(target, samples[:1], MonotonicClock())
        report = ProbeReport.of(response)
        if report is not None:
            refuse_process_wide(report)
    told = f"{arm} {number + 1} of {rounds_within(context.budget)}"
    return measure_capacity(
        target,
        cell,
        replace(
            context,
            inputs=replace(context.inputs, samples=samples),
            budget=replace(context.budget, seed=context.budget.seed + SEEDS_A_ROUND * number),
            progress=lambda words, share: context.progress(f"{told}: {words}", share),
        ),
    )


def _rates(baseline: Run, candidate: Run) -> tuple[float | None, float | None]:
    """Return the same figure of both: where the percentile crosses the goal, or the rates shown to meet it."""
    old, new = baseline.capacity, candidate.capacity
    if old is None or new is None:
        return None, None
    if old.crossing_per_s and new.crossing_per_s:
        return old.crossing_per_s, new.crossing_per_s
    return old.rate_per_s, new.rate_per_s
