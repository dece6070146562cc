"""Search one deployment for its capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.measure import traffic
from pytest_torchserve.measure.bisection import search
from pytest_torchserve.measure.capacity_result import Capacity
from pytest_torchserve.measure.capacity_search import CapacitySearch
from pytest_torchserve.measure.early_stopping import least_sample
from pytest_torchserve.measure.run import Run
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.context import Context


def measure_capacity(target: Target, cell: Cell, context: Context) -> Run:
    """Search for the highest rate that meets `budget.slo_s`; the samples are the latencies at that rate."""
    inputs, budget = context.inputs, context.budget
    searching = CapacitySearch(target, cell, context)
    meets = misses = None
    if traffic.warm_up_server(target, inputs.samples).answered:
        guess = searching.guess()
        meets, misses = search(searching.probe, guess, least_sample(searching.goal) / budget.capacity_seconds)
    best = searching.best
    by_process = traffic.by_process(best.timed if best else [])
    return Run.of(
        cell,
        inputs,
        searching.evidence,
        failures_are_wrong=False,
        workers=target.worker_count,
        seconds={Phase.LATENCY: by_process} if by_process else {},
        invalid=searching.why_invalid(meets, misses) if searching.steps else ("the server did not answer its warm-up",),
        throughput=meets,
        telemetry=searching.telemetry,
        capacity=Capacity(
            slo_s=budget.slo_s,
            goal=searching.goal,
            rate_per_s=meets,
            missed_per_s=misses,
            steps=tuple(sorted(searching.steps, key=lambda step: step.rate_per_s)),
        ),
    )
