"""Measure how long a worker takes from its start until it is ready, and what its first request costs on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.measure import validity_by_kind
from pytest_torchserve.measure.cell import Cell
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.run import Run
from pytest_torchserve.measure.start import start_worker
from pytest_torchserve.phase import INIT_PHASES, Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.context import Context


def measure_init(target: ScalableTarget, context: Context) -> Run:
    """Start `budget.init_rounds` workers, each a new process, each alone. The last one stays.

    `total` runs from the scale request to its response, which TorchServe sends when the worker is ready. `load_model`,
    `to_device` and `warm_up` come from the probe; `warm_up` exists only for a handler whose start calls a method of
    this name. `spawn_and_import` is `total` less the handler's whole `initialize`. `first_inference` is the first
    request as the client sees it. The page cache is warm from the second round on, and from the first where the archive
    was just unpacked.
    """
    inputs, rounds = context.inputs, context.budget.init_rounds
    checker = Checker.for_cell(target.deployment)
    evidence = checker.evidence
    seconds: dict[Phase, dict[int, tuple[float, ...]]] = {phase: {} for phase in INIT_PHASES}
    resident, gpu_bytes = None, 0
    snapshot_ns = context.monitor.snapshot()
    for round_ in range(rounds):
        context.progress(f"round {round_ + 1} of {rounds}", round_ / rounds)
        start = start_worker(target, inputs.samples, checker.check)
        if start is None:
            break
        pid = start.report.pid
        if pid in seconds[Phase.TOTAL]:
            raise MeasurementError(
                wanted="a new worker process in every round",
                found=f"process {pid} answered twice",
                do="look into the server's log for a worker that was not ended",
            )
        for phase, value in start.seconds.items():
            seconds[phase][pid] = (value,)
        resident = max(resident or 0, resident_bytes([pid]) or 0)
        gpu_bytes = max(gpu_bytes, start.report.gpu_bytes)
    telemetry = context.monitor.between(snapshot_ns)
    invalid = validity_by_kind.of_init(evidence, telemetry)
    return Run.of(
        Cell("init", target.deployment),
        inputs,
        evidence,
        failures_are_wrong=True,
        workers=1,
        seconds={phase: by_process for phase, by_process in seconds.items() if by_process},
        checked=len(seconds[Phase.TOTAL]),
        invalid=invalid,
        telemetry=telemetry,
        worker_rss_bytes=resident,
        gpu_bytes=gpu_bytes,
    )
