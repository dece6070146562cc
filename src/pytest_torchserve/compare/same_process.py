"""Full batches of an archive that holds two arms: one worker process after the other, pair after pair."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import Arms, pairs_so_far
from pytest_torchserve.compare.pair_batches import twice
from pytest_torchserve.compare.pair_meter import PairMeter
from pytest_torchserve.compare.params import FEWEST_PAIRS, STRETCH, WANTED_PAIRS, ComparisonParams
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure.cell import FEWEST_SAMPLES, Cell
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.cell import Budget
    from pytest_torchserve.measure.run import Run

LOAD_SHARE = 0.4
"""The share of the budget for starting processes; where a start takes longer there are fewer processes."""


def measure_same_process(target: ScalableTarget, params: ComparisonParams) -> Run:
    """Time both arms of a pair archive, in several worker processes one after the other.

    Raises:
        ProcessWideError: the arms cannot share a process.
    """
    clock, deployment, context = MonotonicClock(), params.deployment, params.context
    inputs, budget = context.inputs, context.budget
    samples = twice(inputs.samples, deployment.batching.batch_size)
    arms = Arms.of(deployment)
    begun_ns = clock.now_ns()
    snapshot_ns = context.monitor.snapshot()
    left, pids, sizes = 1, list[int](), Counter[int]()
    while left > 0 and not arms.wrong and not params.decided(pairs_so_far(params, arms, by_process=False), len(pids)):
        loaded_ns = clock.now_ns()
        if target.workers():
            target.scale(0)
        target.scale(1)
        loading_s = (clock.now_ns() - loaded_ns) / 1e9
        left = left if pids else processes_within(budget, loading_s)
        spent_s = (clock.now_ns() - begun_ns) / 1e9
        meter = PairMeter(
            arms,
            deployment.batching.batch_size,
            max(share_s(budget.baseline_seconds, spent_s, left, loading_s), 1.0),
            share_s(STRETCH * budget.baseline_seconds, spent_s, left, loading_s),
            max(FEWEST_PAIRS, -(-(WANTED_PAIRS - arms.count) // left)),
            clock,
            context.progress,
            functools.partial(params.told_all, arms),
        )
        target.send(FullBatches(deployment.batching.batch_size), samples, meter.on_responses, clock)
        pids += [worker.pid for worker in target.workers()]
        sizes.update(meter.batch_sizes)
        left -= 1
        if left == 0 and params.early is not None:
            # Its processes have told all before the time was over: only more of them tell more.
            spent_s = (clock.now_ns() - begun_ns) / 1e9
            left = int(spent_s + 2 * loading_s < budget.baseline_seconds)
    resident = resident_bytes(pids[-1:])
    spent_s = (clock.now_ns() - begun_ns) / 1e9
    paired = replace(params.looked_at(pairs_so_far(params, arms, by_process=False)), spent_s=spent_s)
    run = arms.to_run(Cell("handle", deployment), inputs, paired, workers=1)
    return replace(
        run, batch_sizes=dict(sizes), telemetry=context.monitor.between(snapshot_ns), worker_rss_bytes=resident
    )


def processes_within(budget: Budget, loading_s: float) -> int:
    """Return how many worker processes a cell samples, where starting one takes `loading_s`."""
    affordable = int(LOAD_SHARE * budget.baseline_seconds / loading_s)
    return max(FEWEST_SAMPLES, min(budget.baseline_processes, affordable))


def share_s(budget_s: float, spent_s: float, left: int, loading_s: float) -> float:
    """Return the seconds of batches for each of the `left` processes; all but the first have yet to be started."""
    return (budget_s - spent_s - loading_s * (left - 1)) / left
