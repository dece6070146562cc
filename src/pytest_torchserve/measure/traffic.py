"""Put a deployment under traffic, and check every response."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.process_tuning import without_collecting
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure.check import LARGE_BYTES, Checker
from pytest_torchserve.measure.warm_up import BUDGET_S, ServerWarmUp

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
"""Seconds to wait for answers after the end of the schedule; missing answers then count as unanswered."""

_TELL_EVERY_NS = 250_000_000


KEPT_BYTES = 64 << 20
"""The most bytes of bodies to keep; further ones are checked as they come."""


@dataclass(slots=True)
class Collector:
    """The responses of one schedule, checked when nothing is in flight any more: checking takes the client's time.

    Equal large answers to one sample are kept once. Only bodies beyond `KEPT_BYTES` are checked as they come, and not
    kept: memory stays bounded, and where that makes the client late, the run says so.

    Attributes:
        responses: all responses so far.
    """

    duration_s: float
    clock: Clock
    progress: ProgressCallback
    checker: Checker
    early_abort: Callable[[Sequence[Response]], bool] = lambda _: False
    responses: list[Response] = field(default_factory=list)
    _unjudged: list[Response] = field(default_factory=list)
    _timed: list[tuple[Response, ProbeReport | None]] = field(default_factory=list)
    _bodies: dict[Sample, bytes] = field(default_factory=dict)
    _kept_bytes: int = 0
    _start_ns: int = 0
    _tell_ns: int = 0

    def on_responses(self, fresh: Sequence[Response]) -> bool:
        """Take the new responses; return False once the schedule and the drain are over, or on an early abort."""
        now_ns = self.clock.now_ns()
        self._start_ns = self._start_ns or now_ns
        sizes = [len(response.body) for response in fresh]
        if max(sizes, default=0) >= LARGE_BYTES or self._kept_bytes + sum(sizes) > KEPT_BYTES:
            fresh = [self._light(response) for response in fresh]
        else:
            self._kept_bytes += sum(sizes)
            self._unjudged.extend(fresh)
        self.responses.extend(fresh)
        elapsed_s = (now_ns - self._start_ns) / 1e9
        if now_ns >= self._tell_ns:
            self._tell_ns = now_ns + _TELL_EVERY_NS
            self.progress(f"{len(self.responses)} answered", elapsed_s / self.duration_s)
        return elapsed_s < self.duration_s + DRAIN_S and not self.early_abort(fresh)

    def _light(self, response: Response) -> Response:
        """Return the response to keep: with its body, with an equal one that is kept already, or checked without it."""
        body, known = response.body, self._bodies.get(response.sample)
        if known is not None and known == body:
            response = response._replace(body=known)
        elif self._kept_bytes + len(body) > KEPT_BYTES:
            light = response._replace(body=b"")
            self._timed += [(light, report) for _, report in judged([response], self.checker)]
            return light
        else:
            self._kept_bytes += len(body)
            self._bodies[response.sample] = body
        self._unjudged.append(response)
        return response

    def timed(self) -> list[tuple[Response, ProbeReport | None]]:
        """Check the responses that are left; return all with a right answer, in the order in which they came."""
        early, self._timed = self._timed, []
        found = judged(self._unjudged, self.checker)
        self._unjudged = []
        return sorted([*early, *found], key=lambda pair: pair[0].done_ns) if early else found


@dataclass(frozen=True, slots=True)
class Sent:
    """The traffic of one schedule, all responses checked.

    Attributes:
        start_ns: when the first request could leave.
        responses: all responses.
        timed: the responses with a right answer, each with its probe report where there is one.
        evidence: the result of checking the responses.
    """

    start_ns: int
    responses: list[Response]
    timed: list[tuple[Response, ProbeReport | None]]
    evidence: Evidence

    @property
    def reports(self) -> list[ProbeReport]:
        """The probe reports of the right answers, where there are any."""
        return [report for _, report in self.timed if report is not None]

    @property
    def request_ids(self) -> set[str]:
        """TorchServe's ids of the requests in `reports`."""
        return {report.request_id for report in self.reports}


def warm_up_server(target: Target, samples: Sequence[Sample], budget_s: float = BUDGET_S) -> ServerWarmUp:
    """Send full batches to all workers at once, until they are steady.

    A worker's first batches are slow, and so are the JVM's. TorchServe fills one batch after the other for whichever
    worker is free: as many batches as there are workers reach each of them.
    """
    clock = MonotonicClock()
    start_ns, warm_up = clock.now_ns(), ServerWarmUp(budget_s)

    def on_responses(responses: Sequence[Response]) -> bool:
        warm_up.answered = all(response.status for response in responses)
        warm_up.add((clock.now_ns() - start_ns) / 1e9 - warm_up.spent_s)
        return warm_up.answered and not warm_up.done

    target.send(FullBatches((target.batch_size or 1) * max(1, target.worker_count)), samples, on_responses, clock)
    return warm_up


def send(
    target: Target,
    samples: Sequence[Sample],
    deployment: Deployment,
    schedule: TimedSchedule,
    progress: ProgressCallback,
    early_abort: Callable[[Sequence[Response]], bool] = lambda _: False,
    *,
    checker: Checker | None = None,
) -> Sent:
    """Send a schedule to the deployment and check every response.

    Args:
        checker: checks the responses, and adds them to its evidence; None for a new one.
        early_abort: called with the new responses; once it returns True, nothing more is sent or waited for.
    """
    clock = MonotonicClock()
    checker = checker or Checker.for_cell(deployment, probed=target.probed)
    collector = Collector(schedule.duration_s, clock, progress, checker, early_abort)
    start_ns = clock.now_ns()
    target.send(schedule, samples, collector.on_responses, clock)
    # Not before the first request was due: an engine of many processes needs a moment to begin.
    start_ns = max(start_ns, min((response.scheduled_ns for response in collector.responses), default=0))
    return Sent(start_ns, collector.responses, collector.timed(), checker.evidence)


def judged(responses: Sequence[Response], checker: Checker) -> list[tuple[Response, ProbeReport | None]]:
    """Return the responses with a right answer and their probe reports; `checker` keeps the evidence of all."""
    timed = []
    with without_collecting():
        for response in responses:
            report = ProbeReport.of(response)
            if checker.judge(response, report):
                timed.append((response, report))
    return timed


def by_process(timed: Sequence[tuple[Response, ProbeReport | None]]) -> dict[int, tuple[float, ...]]:
    """Return latencies in seconds by worker process; the process is 0 where there is no probe report."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for response, report in timed:
        seconds[report.pid if report else 0].append(response.latency_s)
    return {pid: tuple(values) for pid, values in seconds.items()}


def latencies_s(sent: Sent) -> list[float]:
    """Return the latencies of the right answers, in the order in which their requests were due."""
    return [response.latency_s for response, _ in sorted(sent.timed, key=lambda pair: pair[0].scheduled_ns)]


def within(sent: Sent, slo_s: float) -> int:
    """Return the number of right answers within a latency goal."""
    return sum(response.latency_s <= slo_s for response, _ in sent.timed)


def throughput(sent: Sent) -> float | None:
    """Return right answers a second, from the first departure to the last answer."""
    if not sent.timed:
        return None
    spent_ns = max(r.done_ns for r, _ in sent.timed) - min(r.sent_ns for r, _ in sent.timed)
    return len(sent.timed) * 1e9 / spent_ns if spent_ns else None
