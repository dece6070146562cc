"""Full batches, one in flight, over all worker processes of a deployment."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve import stats
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.clock import Clock, MonotonicClock
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure import validity
from pytest_torchserve.measure.cell import Budget, Cell
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.run import Run
from pytest_torchserve.measure.warm_up import WarmUp
from pytest_torchserve.phase import HANDLE_PHASES, HANDLER_PHASES, Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.telemetry.monitor import Monitor, Telemetry

MIN_BATCHES = 36
"""Of each process, before a cell may end early: enough for a p90."""

_PATIENCE = 40
_CHECK_EVERY_S = 0.25


@dataclass(slots=True)
class HandleMeter:
    """Takes in batch after batch and knows when it is enough. Its clock may be a fake."""

    budget: Budget
    batch_size: int
    checker: Checker
    clock: Clock
    progress: ProgressCallback
    seconds: dict[Phase, dict[int, list[float]]] = field(
        default_factory=lambda: {phase: defaultdict(list) for phase in HANDLE_PHASES}
    )
    batch_sizes: Counter[int] = field(default_factory=Counter)
    checked: int = 0
    in_flight_s: float = 0.0
    gpu_bytes: int = 0
    _warm_ups: dict[int, WarmUp] = field(default_factory=lambda: defaultdict(WarmUp))
    done_ns: list[int] = field(default_factory=list)
    _begun_ns: int = 0
    started_ns: int = 0
    _looked_ns: int = 0

    def on_responses(self, responses: Sequence[Response]) -> bool:
        """Take in one batch; whether to send another."""
        self._begun_ns = self._begun_ns or self.clock.now_ns()
        reports = [report for report in map(self.checker.check, responses) if report is not None]
        if len(reports) == len(responses):
            self._take(responses, reports)
        return not self.checker.evidence.hopeless and not self._enough()

    def _take(self, responses: Sequence[Response], reports: Sequence[ProbeReport]) -> None:
        latency_s = (max(r.done_ns for r in responses) - min(r.sent_ns for r in responses)) / 1e9
        first = reports[0]
        if not self.started_ns:
            self._warm_up(first.pid, latency_s)
            return
        if first.pid not in self._warm_ups:
            raise MeasurementError(
                wanted=f"the {self.budget.processes} worker processes that were warmed up",
                found=f"a batch came from process {first.pid}, which is new: a worker died and was replaced",
                do="look into the server's log for why it died",
            )
        for size in {(report.pid, report.batch): report.batch_size for report in reports}.values():
            self.batch_sizes[size] += 1
        if len({(report.pid, report.batch) for report in reports}) > 1:
            return  # it was split: the achieved sizes say so, and its time is no full batch's
        self.checked += len(responses)
        self.done_ns.append(max(response.done_ns for response in responses))
        self.in_flight_s += latency_s
        self.gpu_bytes = max(self.gpu_bytes, first.gpu_bytes)
        for phase in (*HANDLER_PHASES, Phase.HANDLE):
            if phase in first.phases_s:
                self.seconds[phase][first.pid].append(first.phases_s[phase])
        self.seconds[Phase.LATENCY][first.pid].append(latency_s)

    def _warm_up(self, pid: int, latency_s: float) -> None:
        self._warm_ups[pid].add(latency_s)
        if len(self._warm_ups) >= self.budget.processes and all(warm_up.done for warm_up in self._warm_ups.values()):
            self.started_ns = self.clock.now_ns()
        elif sum(warm_up.batches for warm_up in self._warm_ups.values()) > _PATIENCE * self.budget.processes:
            raise MeasurementError(
                wanted=f"batches on {self.budget.processes} worker processes",
                found=f"only {sorted(self._warm_ups)} got any",
                do="see in the server's log whether a worker died",
            )

    def _enough(self) -> bool:
        now_ns = self.clock.now_ns()
        if self.checker.evidence.rejected and now_ns - self._begun_ns >= self.budget.cell_seconds * 1e9:
            return True  # it has failed already: it may not take longer than a good one
        if not self.started_ns:
            return False
        elapsed_s = (now_ns - self.started_ns) / 1e9
        if elapsed_s >= self.budget.cell_seconds:
            return bool(self.batch_sizes or self.checker.evidence.rejected)  # at least one batch, however slow
        if now_ns - self._looked_ns < _CHECK_EVERY_S * 1e9:
            return False
        self._looked_ns = now_ns
        batches = sum(map(len, self.seconds[Phase.HANDLE].values()))
        self.progress(f"{batches} batches", elapsed_s / self.budget.cell_seconds)
        return all(self._precise(phase) for phase in (Phase.HANDLE, Phase.LATENCY))

    def _precise(self, phase: Phase) -> bool:
        by_process = self.seconds[phase]
        if len(by_process) < self.budget.processes or min(map(len, by_process.values())) < MIN_BATCHES:
            return False
        reached = stats.precision(by_process)
        return reached is not None and reached <= self.budget.precision


def measure_handle(
    target: ScalableTarget, inputs: ModelInputs, budget: Budget, progress: ProgressCallback, monitor: Monitor
) -> Run:
    """Time full batches on a deployment that has `budget.processes` workers ready."""
    deployment = target.deployment
    checker = Checker.for_cell(deployment)
    clock = MonotonicClock()
    meter = HandleMeter(budget, deployment.batching.batch_size, checker, clock, progress)
    snapshot_ns = monitor.snapshot()
    target.send(FullBatches(deployment.batching.batch_size), inputs.samples, meter.on_responses, clock)
    telemetry = monitor.between(snapshot_ns)
    pids = [pid for pid in meter.seconds[Phase.HANDLE]]  # noqa: C416 - reads as what it is
    return Run.of(
        Cell("handle", deployment),
        inputs,
        checker.evidence,
        failures_are_wrong=True,
        checked=meter.checked,
        workers=budget.processes,
        seconds={
            phase: {pid: tuple(values) for pid, values in by_process.items()}
            for phase, by_process in meter.seconds.items()
            if by_process
        },
        invalid=_why_invalid(meter, telemetry),
        telemetry=telemetry,
        batch_sizes=dict(meter.batch_sizes),
        throughput=meter.checked / meter.in_flight_s if meter.in_flight_s else None,
        worker_rss_bytes=resident_bytes(pids),
        gpu_bytes=meter.gpu_bytes,
        process_spread={phase: stats.process_spread(values) for phase, values in meter.seconds.items()},
        precision={phase: stats.precision(values) for phase, values in meter.seconds.items()},
        accuracy=checker.evidence.accuracy(inputs.samples, inputs.artifacts.weights_kind),
    )


def _why_invalid(meter: HandleMeter, telemetry: Telemetry | None) -> tuple[str, ...]:
    """Every reason why these figures say something else than they seem to."""
    evidence = meter.checker.evidence
    return validity.found(
        validity.errors(evidence.errors, evidence.judged),
        validity.wrong(evidence.wrong_answers, evidence.judged),
        validity.unstable(None, meter.done_ns, meter.started_ns, max(meter.done_ns, default=0), 1),
        validity.other_processes(telemetry),
    )
