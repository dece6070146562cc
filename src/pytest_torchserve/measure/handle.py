"""Measurement of full batches, one in flight, over all worker processes of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure import validity_by_kind
from pytest_torchserve.measure.cell import Cell
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.handle_meter import HandleMeter
from pytest_torchserve.measure.run import Run
from pytest_torchserve.measure.warm_up import record
from pytest_torchserve.phase import Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.context import Context


def measure_handle(target: ScalableTarget, context: Context) -> Run:
    """Time full batches on a deployment that has `budget.processes` workers ready."""
    deployment, inputs, budget = target.deployment, context.inputs, context.budget
    checker = Checker.for_cell(deployment)
    clock = MonotonicClock()
    meter = HandleMeter(budget, deployment.batching.batch_size, checker, clock, context.progress)
    snapshot_ns = context.monitor.snapshot()
    target.send(FullBatches(deployment.batching.batch_size), inputs.samples, meter.on_responses, clock)
    telemetry = context.monitor.between(snapshot_ns)
    meter.cut_warm_up()
    pids = list(meter.seconds[Phase.LATENCY])
    return Run.of(
        Cell("handle", deployment),
        inputs,
        checker.evidence,
        failures_are_wrong=True,
        checked=meter.checked,
        workers=budget.processes,
        seconds=meter.samples(),
        invalid=validity_by_kind.of_handle(checker.evidence, meter, telemetry),
        warm_up=record(meter.cut, meter.cut_s, meter.steady),
        telemetry=telemetry,
        batch_sizes=dict(meter.batch_sizes),
        throughput=meter.checked / meter.in_flight_s if meter.in_flight_s else None,
        worker_rss_bytes=resident_bytes(pids),
        gpu_bytes=meter.gpu_bytes,
        threads=meter.threads,
        process_spread=meter.process_spread(),
        precision=meter.precision(),
        accuracy=checker.evidence.accuracy(inputs.samples, inputs.artifacts.weights_kind),
    )
