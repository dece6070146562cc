"""The classic run: one request every 0.1 s, whatever the server does."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pytest_torchserve import summary
from pytest_torchserve.load import ConstantRate, MonotonicClock
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.handle import Tell, resident_bytes
from pytest_torchserve.measure.run import Cell, Effort, Run
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.deployment import Batching
    from pytest_torchserve.endpoint import Endpoint
    from pytest_torchserve.inputs.golden import Prepared
    from pytest_torchserve.response import Response, Trace

PATIENCE_S = 30.0
"""From here on a server that is behind is given up on; before, it may catch up."""

_SLACK = 1.25


class PaceMeter:
    """Takes in answers as they come and sees whether the server keeps up.

    A server that keeps up answers within max_batch_delay plus two `handle` times: what is in work when a
    request arrives, and its own batch. `longest_allowed_s` is that with a quarter on top, for a noisy machine.
    """

    def __init__(self, load: ConstantRate, batching: Batching, checker: Checker, start_ns: int, tell: Tell) -> None:
        self._load = load
        self._delay_s = batching.max_batch_delay_ms / 1e3
        self._checker = checker
        self._start_ns = start_ns
        self._tell = tell
        self._handle_s = 0.0
        self.answered: list[Response] = []
        self.timed: list[tuple[Response, Trace]] = []
        self.behind = ""

    @property
    def longest_allowed_s(self) -> float:
        """The longest latency of a server that keeps up, from the slowest batch seen."""
        return _SLACK * (self._delay_s + 2 * self._handle_s)

    def more(self, responses: Sequence[Response], now_ns: int) -> bool:
        """Take in what has been answered since; whether to go on."""
        for response in responses:
            self.answered.append(response)
            trace = self._checker.check(response)
            if trace is not None:
                self.timed.append((response, trace))
                self._handle_s = max(self._handle_s, trace.phases_s["handle"])
        elapsed_s = (now_ns - self._start_ns) / 1e9
        self._tell(
            f"{len(self.answered)} of {self._load.requests} answered",
            len(self.answered) / self._load.requests,
        )
        if elapsed_s >= PATIENCE_S and self._slowest_s(now_ns) > self.longest_allowed_s:
            self.conclude(now_ns)
            return False
        return not self._checker.hopeless

    def _slowest_s(self, now_ns: int) -> float:
        """The longest any request has taken or, for one still unanswered, has waited so far.

        TorchServe answers in order of arrival, so the oldest unanswered is the one after the last answered.
        """
        slowest_ns = max((r.done_ns - r.scheduled_ns for r in self.answered), default=0)
        oldest = len(self.answered)
        if oldest < self._load.requests:
            slowest_ns = max(slowest_ns, now_ns - self._load.due_ns(oldest, self._start_ns))
        return slowest_ns / 1e9

    def conclude(self, now_ns: int) -> None:
        """Say whether the server kept up, now that nothing more is sent."""
        slowest_s = self._slowest_s(now_ns)
        if slowest_s <= self.longest_allowed_s:
            return
        last_ns = max((r.done_ns for r in self.answered), default=now_ns)
        achieved = len(self.answered) * 1e9 / max(1, last_ns - self._start_ns)
        self.behind = (
            f"the server does not keep up with {self._load.rate_per_s:g} requests/s: it answered "
            f"{achieved:.2f}/s, and a request took {slowest_s:.1f} s where {self.longest_allowed_s:.1f} s "
            f"(max_batch_delay and two batches, plus a quarter) are the most for one that does"
        )


def measure_pace(endpoint: Endpoint, prepared: Prepared, effort: Effort, tell: Tell) -> Run:
    """Send at a constant rate and time every request, from when it should have left."""
    deployment = endpoint.deployment
    load = ConstantRate(effort.pace_rate_per_s, effort.pace_requests)
    checker = Checker(prepared.samples, deployment.device)
    clock = MonotonicClock()
    meter = PaceMeter(load, deployment.batching, checker, clock.now_ns(), tell)
    endpoint.send(load, prepared.samples, lambda responses: meter.more(responses, clock.now_ns()), clock)
    meter.conclude(clock.now_ns())
    by_process: dict[int, list[float]] = defaultdict(list)
    for response, trace in meter.timed:
        by_process[trace.pid].append((response.done_ns - response.scheduled_ns) / 1e9)
    batches = {(trace.pid, trace.batch): trace.batch_size for _, trace in meter.timed}
    spent_ns = max((r.done_ns for r in meter.answered), default=0) - min((r.sent_ns for r in meter.answered), default=0)
    return Run(
        cell=Cell("pace", deployment),
        workers=1,
        seconds={Phase.LATENCY: {pid: tuple(values) for pid, values in by_process.items()}},
        checked=len(meter.answered),
        wrong=tuple(checker.wrong),
        batch_sizes=dict(Counter(batches.values())),
        throughput=len(meter.answered) * 1e9 / spent_ns if spent_ns else None,
        worker_rss_bytes=resident_bytes(list(by_process)),
        gpu_bytes=max((trace.gpu_bytes for _, trace in meter.timed), default=0),
        process_spread={Phase.LATENCY: summary.process_spread(by_process)},
        accuracy=checker.accuracy(prepared.served.weights_kind),
        devices=tuple(sorted(checker.devices)),
        behind=meter.behind,
        weights=prepared.served.weights_kind,
        samples=prepared.samples_source,
    )
