"""The classic run: one request every 0.1 s, whatever the server does."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pytest_torchserve import summary
from pytest_torchserve.load import ConstantRate, FullBatches, MonotonicClock
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.handle import Tell, resident_bytes
from pytest_torchserve.measure.run import Cell, Effort, Run
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.deployment import Batching
    from pytest_torchserve.endpoint import Endpoint
    from pytest_torchserve.inputs.prepared import Prepared
    from pytest_torchserve.response import Response, Trace

PATIENCE_S = 30.0
"""From here on a server that is behind is given up on; before, it may catch up."""

_SLACK = 1.25


class PaceMeter:
    """Takes in answers as they come and sees whether the server keeps up.

    It does not when its full batches show less capacity (batch_size over their median `handle`) than requests
    come, or when a request takes longer than a server that keeps up can need: max_batch_delay and two
    `handle` times, for what is in work when it arrives and for its own batch; a quarter on top for noise.
    """

    def __init__(self, load: ConstantRate, batching: Batching, checker: Checker, start_ns: int, tell: Tell) -> None:
        self._load = load
        self._batching = batching
        self._checker = checker
        self._start_ns = start_ns
        self._tell = tell
        self._handle_s: dict[tuple[int, int], tuple[int, float]] = {}
        self.answered: list[Response] = []
        self.timed: list[tuple[Response, Trace]] = []
        self.behind = ""

    @property
    def longest_allowed_s(self) -> float:
        """The longest latency of a server that keeps up, from the slowest batch seen."""
        slowest_s = max((handle_s for _, handle_s in self._handle_s.values()), default=0.0)
        return _SLACK * (self._batching.max_batch_delay_ms / 1e3 + 2 * slowest_s)

    @property
    def capacity_per_s(self) -> float | None:
        """Requests a second that one worker could do in full batches; None where no batch was full."""
        size = self._batching.batch_size
        full = [handle_s for batch_size, handle_s in self._handle_s.values() if batch_size == size]
        return size / statistics.median(full) if full else None

    def more(self, responses: Sequence[Response], now_ns: int) -> bool:
        """Take in what has been answered since; whether to go on."""
        for response in responses:
            self.answered.append(response)
            trace = self._checker.check(response)
            if trace is not None:
                self.timed.append((response, trace))
                self._handle_s[trace.pid, trace.batch] = (trace.batch_size, trace.phases_s["handle"])
        self._tell(f"{len(self.answered)} of {self._load.requests} answered", len(self.answered) / self._load.requests)
        if now_ns - self._start_ns >= PATIENCE_S * 1e9:
            self.conclude(now_ns)
        return not self.behind and not self._checker.hopeless

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
        """Say in `behind` why the server does not keep up, if so."""
        rate, capacity, slowest_s = self._load.rate_per_s, self.capacity_per_s, self._slowest_s(now_ns)
        reason = ""
        if capacity is not None and capacity < rate:
            reason = f"its full batches make {capacity:.2f}/s"
        elif slowest_s > self.longest_allowed_s:
            longest_s = self.longest_allowed_s
            reason = f"a request took {slowest_s:.1f} s where batching explains {longest_s:.1f} s at most"
        if reason:
            last_ns = max((r.done_ns for r in self.answered), default=now_ns)
            achieved = len(self.answered) * 1e9 / max(1, last_ns - self._start_ns)
            self.behind = (
                f"the server does not keep up with {rate:g} requests/s: it answered {achieved:.2f}/s; {reason}"
            )


def measure_pace(endpoint: Endpoint, prepared: Prepared, effort: Effort, tell: Tell) -> Run:
    """Send at a constant rate and time every request, from when it should have left."""
    deployment = endpoint.deployment
    load = ConstantRate(effort.pace_rate_per_s, effort.pace_requests)
    checker = Checker.for_cell(deployment, prepared.samples)
    clock = MonotonicClock()
    # One full batch to warm up: a worker's first is slow, and would be taken for what the server can do.
    endpoint.send(FullBatches(deployment.batching.batch_size), prepared.samples, lambda _: False, clock)
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
