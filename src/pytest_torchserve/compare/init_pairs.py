"""Start both arms' workers in turn, and time the phases of each start."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import Arms, pairs_so_far
from pytest_torchserve.compare.rounds import goes_on, shuffled
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.cell import Cell
from pytest_torchserve.measure.start import start_worker
from pytest_torchserve.phase import Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.compare.rounds import Targets
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.measure.run import Run


def measure_init_pairs(targets: Targets, params: ComparisonParams) -> Run:
    """Measure `init`: start both arms' workers in turn, in an order drawn anew; a pair of starts is one sample."""
    clock = MonotonicClock()
    order = random.Random(params.context.budget.seed)  # noqa: S311 - an order, no secret
    arms = Arms.of(params.deployment)
    begun_ns, rounds, resident = clock.now_ns(), 0, 0
    budget_s = params.context.budget.baseline_seconds
    snapshot_ns = params.context.monitor.snapshot()
    while goes_on(elapsed_s := (clock.now_ns() - begun_ns) / 1e9, budget_s, rounds):
        params.context.progress(f"round {rounds + 1}", elapsed_s / budget_s)
        times: dict[str, Mapping[Phase, float]] = {}
        for arm in shuffled(targets, order):
            target = targets[arm]
            start = start_worker(target, params.context.inputs.samples, functools.partial(_checked, arms, arm, rounds))
            if start is None:
                break
            times[arm] = start.seconds
            resident = max(resident, resident_bytes([start.report.pid]) or 0)
            target.scale(0)
        if arms.wrong:
            break
        arms.add(rounds, times["baseline"], times["candidate"])
        rounds += 1
        if params.decided(pairs_so_far(params, arms, by_process=True), rounds):
            break
    paired = replace(
        params.looked_at(pairs_so_far(params, arms, by_process=True)), spent_s=(clock.now_ns() - begun_ns) / 1e9
    )
    run = arms.to_run(Cell("init", params.deployment), params.context.inputs, paired, workers=1)
    checked = len(arms.pairs[Phase.TOTAL])
    return replace(
        run, checked=checked, telemetry=params.context.monitor.between(snapshot_ns), worker_rss_bytes=resident or None
    )


def _checked(arms: Arms, arm: str, process: int, response: Response) -> ProbeReport | None:
    """Return the probe report of a response whose answer is right, else None."""
    report = ProbeReport.of(response)
    return report if arms.check(response, report, arm, process) else None
