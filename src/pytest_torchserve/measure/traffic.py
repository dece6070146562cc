"""One deployment under traffic: open or closed loops, every request accounted for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve import stats
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.process_tuning import without_collecting
from pytest_torchserve.loadgen.schedule import ClosedLoop, FullBatches, OpenLoop
from pytest_torchserve.measure import validity
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.latency_breakdown import latency_breakdown
from pytest_torchserve.measure.run import Run, Traffic
from pytest_torchserve.measure.warm_up import WarmUp
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.batches import Batches
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.evidence import Evidence
    from pytest_torchserve.telemetry.monitor import Monitor, Telemetry

DRAIN_S = 30.0
"""So long after the last departure answers are waited for; what is missing then counts as unanswered."""

_TELL_EVERY_NS = 250_000_000


@dataclass(slots=True)
class Collector:
    """Keeps every response and says when enough has been waited.

    Checking comes when nothing is in flight any more: done in between it would make the sender late.
    """

    duration_s: float
    clock: Clock
    progress: ProgressCallback
    early_abort: Callable[[Sequence[Response]], bool] = lambda _: False
    responses: list[Response] = field(default_factory=list)
    _start_ns: int = 0
    _tell_ns: int = 0

    def on_responses(self, fresh: Sequence[Response]) -> bool:
        """Keep them; False once the load is over and the drain too."""
        now_ns = self.clock.now_ns()
        self._start_ns = self._start_ns or now_ns
        self.responses.extend(fresh)
        elapsed_s = (now_ns - self._start_ns) / 1e9
        if now_ns >= self._tell_ns:
            self._tell_ns = now_ns + _TELL_EVERY_NS
            self.progress(f"{len(self.responses)} answered", elapsed_s / self.duration_s)
        return elapsed_s < self.duration_s + DRAIN_S and not self.early_abort(fresh)


@dataclass(frozen=True, slots=True)
class Sent:
    """One load's traffic, judged.

    Attributes:
        start_ns: when the first request could leave.
        responses: all of them.
        timed: those with a right answer, and what the probe said of each.
        evidence: what checking them showed.
    """

    start_ns: int
    responses: list[Response]
    timed: list[tuple[Response, ProbeReport | None]]
    evidence: Evidence

    @property
    def reports(self) -> list[ProbeReport]:
        """What the probe said, where it said anything."""
        return [report for _, report in self.timed if report is not None]

    @property
    def request_ids(self) -> set[str]:
        """TorchServe's names for them."""
        return {report.request_id for report in self.reports}


def warm_up_server(target: Target, inputs: ModelInputs) -> bool:
    """Full batches, at least three and a second long: a worker's first are slow, and the JVM's too.

    Returns:
        Whether the server answered at all.
    """
    clock = MonotonicClock()
    start_ns, warm_up, answered = clock.now_ns(), WarmUp(), True

    def on_responses(responses: Sequence[Response]) -> bool:
        nonlocal answered
        answered = all(response.status for response in responses)
        warm_up.add((clock.now_ns() - start_ns) / 1e9 - warm_up.spent_s)
        return answered and not warm_up.server_done

    target.send(FullBatches(target.batch_size or 1), inputs.samples, on_responses, clock)
    return answered


def send(
    target: Target,
    inputs: ModelInputs,
    cell: Cell,
    schedule: TimedSchedule,
    progress: ProgressCallback,
    early_abort: Callable[[Sequence[Response]], bool] = lambda _: False,
) -> Sent:
    """Put the deployment under a load and judge every answer.

    Args:
        early_abort: shown the responses as they come; once it says yes, nothing more is sent or waited for.
    """
    clock = MonotonicClock()
    collector = Collector(schedule.duration_s, clock, progress, early_abort)
    start_ns = clock.now_ns()
    target.send(schedule, inputs.samples, collector.on_responses, clock)
    # Not before the first was due: an engine of many processes needs a moment to begin.
    start_ns = max(start_ns, min((response.scheduled_ns for response in collector.responses), default=0))
    checker = Checker.for_cell(cell.deployment, probed=target.probed)
    return Sent(start_ns, collector.responses, judged(collector.responses, checker), checker.evidence)


def judged(responses: Sequence[Response], checker: Checker) -> list[tuple[Response, ProbeReport | None]]:
    """Those with a right answer, and what the probe said of each; `checker` tells of the others."""
    timed = []
    with without_collecting():
        for response in responses:
            report = ProbeReport.of(response)
            if checker.judge(response, report):
                timed.append((response, report))
    return timed


def by_process(timed: Sequence[tuple[Response, ProbeReport | None]]) -> dict[int, tuple[float, ...]]:
    """Latencies in seconds by worker process; 0 where nobody tells."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for response, report in timed:
        seconds[report.pid if report else 0].append(response.latency_s)
    return {pid: tuple(values) for pid, values in seconds.items()}


def measure_load(target: Target, inputs: ModelInputs, cell: Cell, progress: ProgressCallback, monitor: Monitor) -> Run:
    """Put the deployment under the cell's load and account for every request."""
    assert cell.schedule is not None  # noqa: S101 - this kind of cell has one
    warm_up_server(target, inputs)
    log_offset, snapshot_ns = target.log_offset(), monitor.snapshot()
    sent = send(target, inputs, cell, cell.schedule, progress)
    telemetry = monitor.between(snapshot_ns)
    frontend_times = target.frontend_times(log_offset, sent.request_ids)
    gathered = batches(sent.reports, frontend_times, target.batch_size)
    seconds = by_process(sent.timed)
    return Run.of(
        cell,
        inputs,
        sent.evidence,
        failures_are_wrong=False,
        workers=target.worker_count,
        seconds={Phase.LATENCY: seconds} if seconds else {},
        invalid=why_invalid(cell.schedule, sent, gathered, target.worker_count, telemetry if target.owned else None),
        batch_sizes=gathered.sizes,
        throughput=throughput(sent),
        worker_rss_bytes=telemetry.rss_bytes.get("worker") if telemetry else None,
        gpu_bytes=max((report.gpu_bytes for report in sent.reports), default=0),
        process_spread={Phase.LATENCY: stats.process_spread(seconds)},
        accuracy=sent.evidence.accuracy(inputs.samples, inputs.artifacts.weights_kind),
        telemetry=telemetry,
        traffic=Traffic(
            asked=len(sent.responses),
            offered_per_s=cell.schedule.rate_per_s if isinstance(cell.schedule, OpenLoop) else None,
            schedule_delay=stats.quantiles([(r.sent_ns - r.scheduled_ns) / 1e9 for r in sent.responses]),
            latency=stats.quantiles([r.latency_s for r, _ in sent.timed]),
            waterfall=latency_breakdown(sent.timed, frontend_times, same_host=target.same_host),
            batches=gathered,
        ),
    )


def why_invalid(
    schedule: TimedSchedule, sent: Sent, gathered: Batches, workers: int, telemetry: Telemetry | None
) -> tuple[str, ...]:
    """Every reason why these figures say something else than they seem to."""
    responses, evidence = sent.responses, sent.evidence
    end_ns = sent.start_ns + round(schedule.duration_s * 1e9)
    done_ns = [r.done_ns for r, _ in sent.timed]
    grain = max(gathered.sizes, default=1) * max(1, workers)
    reasons = [
        validity.errors(evidence.errors, len(responses)),
        validity.wrong(evidence.wrong_answers, len(responses)),
        validity.too_few(len(sent.timed)),
        validity.other_processes(telemetry),
    ]
    if isinstance(schedule, OpenLoop):
        full = {(t.pid, t.batch): t.phases_s["handle"] for t in sent.reports if t.batch_size == gathered.configured}
        overloaded = validity.overload(schedule, responses, gathered, list(full.values()), workers)
        due_ns = [r.scheduled_ns for r in responses]
        reasons += [
            validity.schedule_delay(responses),
            validity.rate(schedule, responses),
            overloaded or validity.unstable(due_ns, done_ns, sent.start_ns, end_ns, grain),
        ]
    else:
        users = schedule.concurrency if isinstance(schedule, ClosedLoop) else grain
        reasons.append(validity.unstable(None, done_ns, sent.start_ns, end_ns, min(grain, users)))
    return validity.found(*reasons)


def throughput(sent: Sent) -> float | None:
    """Right answers a second, from the first departure to the last answer."""
    if not sent.timed:
        return None
    spent_ns = max(r.done_ns for r, _ in sent.timed) - min(r.sent_ns for r, _ in sent.timed)
    return len(sent.timed) * 1e9 / spent_ns if spent_ns else None
