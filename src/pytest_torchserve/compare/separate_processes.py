"""Two arms in processes of their own: rounds of two fresh workers with interleaved batches."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import Arms, pairs_so_far
from pytest_torchserve.compare.rounds import Rounds, Targets, goes_on
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.measure.cell import Cell
from pytest_torchserve.phase import Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.measure.run import Run


def measure_separate_processes(targets: Targets, params: ComparisonParams) -> Run:
    """Measure `handle`: each round interleaves the batches of one fresh worker per arm; a round is one sample."""
    clock, batch_size = MonotonicClock(), params.deployment.batching.batch_size
    arms = Arms.of(params.deployment)
    order = random.Random(params.context.budget.seed)  # noqa: S311 - an order, no secret
    rounds, played = Rounds(targets, arms, params.context.inputs.samples, batch_size, order, clock), 0
    begun_ns, budget_s = clock.now_ns(), params.context.budget.baseline_seconds
    snapshot_ns = params.context.monitor.snapshot()
    while goes_on(elapsed_s := (clock.now_ns() - begun_ns) / 1e9, budget_s, played) and not arms.wrong:
        params.context.progress(f"round {played + 1}", elapsed_s / budget_s)
        rounds.play(played)
        played += 1
        if params.decided(pairs_so_far(params, arms, by_process=True), played):
            break
    resident = resident_bytes([worker.pid for worker in targets["candidate"].workers()])
    for target in targets.values():
        target.scale(0)
    paired = replace(
        params.looked_at(pairs_so_far(params, arms, by_process=True)), spent_s=(clock.now_ns() - begun_ns) / 1e9
    )
    run = arms.to_run(Cell("handle", params.deployment), params.context.inputs, paired, workers=1)
    full = len(paired.pairs.get(Phase.LATENCY, {}))
    return replace(
        run,
        batch_sizes={batch_size: full} if full else {},
        telemetry=params.context.monitor.between(snapshot_ns),
        worker_rss_bytes=resident,
    )
