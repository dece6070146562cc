"""Search one deployment for its capacity."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_torchserve.measure import traffic, validity
from pytest_torchserve.measure.capacity_result import Capacity
from pytest_torchserve.measure.capacity_search import CapacitySearch
from pytest_torchserve.measure.evidence import Evidence
from pytest_torchserve.measure.run import Run
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.context import Context


def measure_capacity(target: Target, cell: Cell, context: Context) -> Run:
    """Search for the highest rate that meets `budget.slo_s`; the samples are the latencies at that rate.

    Where no rate was shown to meet it, they are those at the highest rate whose percentile was within it.
    """
    inputs = context.inputs
    warm_up = traffic.warm_up_server(target, inputs.samples)
    cold = validity.found(validity.still_warming_up(warm_up))
    found = partial(
        Run.of,
        cell,
        inputs,
        failures_are_wrong=False,
        workers=target.worker_count,
        warm_up=warm_up.report(),
    )
    if not warm_up.answered:
        return found(evidence=Evidence(), seconds={}, invalid=cold)
    searching = CapacitySearch(target, cell, context)
    searching.run()
    plan, best = searching.plan, searching.best
    by_process = traffic.by_process(best.timed if best else [])
    return found(
        evidence=searching.evidence,
        seconds={Phase.LATENCY: by_process} if by_process else {},
        invalid=(*cold, *searching.why_invalid()),
        throughput=plan.meets,
        telemetry=searching.telemetry,
        capacity=Capacity(
            slo_s=plan.slo_s,
            goal=plan.goal,
            rate_per_s=plan.meets,
            missed_per_s=plan.misses,
            crossing_per_s=plan.crossing,
            saturation_per_s=plan.saturation_per_s,
            steps=tuple(sorted(searching.steps, key=lambda step: step.rate_per_s)),
        ),
    )
