"""How long a worker takes from nothing to ready, and what its first request pays on top."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.measure import validity
from pytest_torchserve.measure.cell import Budget, Cell
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.run import Run
from pytest_torchserve.phase import INIT_PHASES, Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.model import Sample
    from pytest_torchserve.telemetry.monitor import Monitor

_PROBED = (Phase.LOAD_MODEL, Phase.TO_DEVICE, Phase.WARM_UP)


def measure_init(
    target: ScalableTarget, inputs: ModelInputs, budget: Budget, progress: ProgressCallback, monitor: Monitor
) -> Run:
    """Start `budget.init_rounds` workers, each a new process, each alone. The last one stays.

    `total` runs from the scale request to its answer, which TorchServe gives when the worker is ready; `load_model`,
    `to_device` and `warm_up` are the probe's, the last one only of a handler whose start calls a method of this name;
    `spawn_and_import` is `total` less the handler's whole `initialize`; `first_inference` is the first request as its
    sender sees it. The page cache is warm from the second round on, and from the first where the archive was just
    unpacked.
    """
    checker = Checker.for_cell(target.deployment)
    evidence = checker.evidence
    seconds: dict[Phase, dict[int, tuple[float, ...]]] = {phase: {} for phase in INIT_PHASES}
    resident, gpu_bytes = None, 0
    snapshot_ns = monitor.snapshot()
    for round_ in range(budget.init_rounds):
        progress(f"round {round_ + 1} of {budget.init_rounds}", round_ / budget.init_rounds)
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
    telemetry = monitor.between(snapshot_ns)
    invalid = validity.found(
        validity.errors(evidence.errors, evidence.judged),
        validity.wrong(evidence.wrong_answers, evidence.judged),
        validity.other_processes(telemetry),
    )
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


@dataclass(frozen=True, slots=True)
class Start:
    """One worker's start.

    Attributes:
        seconds: its phases.
        report: what came with its first answer.
    """

    seconds: dict[Phase, float]
    report: ProbeReport


def start_worker(
    target: ScalableTarget, samples: Sequence[Sample], check: Callable[[Response], ProbeReport | None]
) -> Start | None:
    """End the workers there are, start one, and ask it once; None where its answer cannot be taken.

    Raises:
        MeasurementError: somebody else asked it first.
    """
    if target.workers():
        target.scale(0)
    start_ns = time.monotonic_ns()
    total_s = (target.scale(1) - start_ns) / 1e9
    (first,) = ask(target, samples[:1], MonotonicClock())
    report = check(first)
    if report is None:
        return None
    if report.batch != 1:
        raise MeasurementError(
            wanted="the first batch of a new worker",
            found=f"batch {report.batch}: something else sent requests to {target.name}",
            do="leave the server to this session",
        )
    init = report.init_s
    seconds = {
        **{phase: init[phase] for phase in _PROBED if phase in init},
        Phase.SPAWN_AND_IMPORT: total_s - init["initialize"],
        Phase.TOTAL: total_s,
        Phase.FIRST_INFERENCE: (first.done_ns - first.sent_ns) / 1e9,
    }
    return Start(seconds, report)
