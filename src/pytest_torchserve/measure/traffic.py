"""Put a deployment under traffic, and judge every answer."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.process_tuning import without_collecting
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.warm_up import WarmUp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.evidence import Evidence
    from pytest_torchserve.model import Sample

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


def warm_up_server(target: Target, samples: Sequence[Sample]) -> bool:
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

    target.send(FullBatches(target.batch_size or 1), samples, on_responses, clock)
    return answered


def send(
    target: Target,
    samples: Sequence[Sample],
    deployment: Deployment,
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
    target.send(schedule, samples, collector.on_responses, clock)
    # Not before the first was due: an engine of many processes needs a moment to begin.
    start_ns = max(start_ns, min((response.scheduled_ns for response in collector.responses), default=0))
    checker = Checker.for_cell(deployment, probed=target.probed)
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


def throughput(sent: Sent) -> float | None:
    """Right answers a second, from the first departure to the last answer."""
    if not sent.timed:
        return None
    spent_ns = max(r.done_ns for r, _ in sent.timed) - min(r.sent_ns for r, _ in sent.timed)
    return len(sent.timed) * 1e9 / spent_ns if spent_ns else None
