"""Full batches of an archive that holds two sides: one worker process after the other, pair after pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_torchserve.clock import Clock, MonotonicClock
from pytest_torchserve.load import FullBatches
from pytest_torchserve.measure.handle import Tell, resident_bytes
from pytest_torchserve.measure.run import Cell, Paired, Run
from pytest_torchserve.measure.sides import FEWEST_PAIRS, WARM_UP_PAIRS, ProcessWideError, Sides, Told, twice
from pytest_torchserve.phase import HANDLER_PHASES, Phase
from pytest_torchserve.response import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.endpoint import Endpoint
    from pytest_torchserve.inputs.prepared import Prepared
    from pytest_torchserve.response import Response

PROCESSES = 3
"""So many worker processes share a cell's budget: which side lies where in memory is drawn anew in each."""

LOAD_SHARE = 0.15
"""Of the budget may be spent on starting them; where one takes longer there are fewer."""


@dataclass(slots=True)
class PairMeter:
    """Takes in the batches of one worker process, for `seconds`. Its clock may be a fake."""

    sides: Sides
    batch_size: int
    seconds: float
    clock: Clock
    tell: Tell
    batch_sizes: Counter[int] = field(default_factory=Counter)
    _open: dict[int, dict[str, dict[Phase, float]]] = field(default_factory=dict)
    _started_ns: int = 0
    _done: int = 0

    def more(self, responses: Sequence[Response]) -> bool:
        """Take in one batch; whether to send another."""
        self._started_ns = self._started_ns or self.clock.now_ns()
        checkers = (self.sides.candidate, self.sides.baseline)
        side = next((trace.side for trace in map(Trace.of, responses) if trace is not None), "candidate")
        traces = [trace for response in responses if (trace := self.sides.check(response, side)) is not None]
        if len(traces) == len(responses):
            self._take(responses, traces)
        elapsed_s = (self.clock.now_ns() - self._started_ns) / 1e9
        self.tell(f"{self._done} pairs", elapsed_s / self.seconds)
        enough = elapsed_s >= self.seconds and (self._done >= FEWEST_PAIRS or any(c.rejected for c in checkers))
        return not (enough or any(checker.hopeless for checker in checkers))

    def _take(self, responses: Sequence[Response], traces: Sequence[Trace]) -> None:
        first = traces[0]
        if first.differs:
            raise ProcessWideError(
                wanted="two sides that can share one worker process",
                found=f"they leave it with different settings: {first.differs}",
                do="nothing: they are measured in processes of their own",
            )
        if first.pair > WARM_UP_PAIRS:
            for size in {trace.batch: trace.batch_size for trace in traces}.values():
                self.batch_sizes[size] += 1
        if len({(trace.side, trace.batch) for trace in traces}) > 1 or first.batch_size != self.batch_size:
            return  # it was split, and its pair stays open
        times = {phase: first.phases_s[phase] for phase in (*HANDLER_PHASES, Phase.HANDLE) if phase in first.phases_s}
        times[Phase.LATENCY] = (max(r.done_ns for r in responses) - min(r.sent_ns for r in responses)) / 1e9
        both = self._open.setdefault(first.pair, {})
        both[first.side] = times
        if len(both) == 2:  # noqa: PLR2004 - both sides
            del self._open[first.pair]
            if first.pair > WARM_UP_PAIRS:
                self._done += 1
                self.sides.add(first.pid, both["baseline"], both["candidate"])


def measure_pairs(endpoint: Endpoint, prepared: Prepared, told: Told) -> Run:
    """Time both sides of a pair archive, in several worker processes one after the other.

    Raises:
        ProcessWideError: the sides cannot share a process.
    """
    clock, deployment, effort = MonotonicClock(), told.deployment, told.effort
    samples = twice(prepared.samples, deployment.batching.batch_size)
    sides = Sides.of(deployment, samples)
    deadline_ns = clock.now_ns() + round(effort.baseline_seconds * 1e9)
    look_ns = told.watch.look_now()
    left, pids, sizes = PROCESSES, list[int](), Counter[int]()
    while left > 0:
        begun_ns = clock.now_ns()
        if endpoint.workers():
            endpoint.scale(0)
        endpoint.scale(1)
        loading_s = (clock.now_ns() - begun_ns) / 1e9
        if not pids:
            left = max(1, min(PROCESSES, int(LOAD_SHARE * effort.baseline_seconds / loading_s)))
        seconds = (deadline_ns - clock.now_ns()) / 1e9 / left - loading_s * (left - 1) / left
        meter = PairMeter(sides, deployment.batching.batch_size, max(seconds, 1.0), clock, told.tell)
        endpoint.send(FullBatches(deployment.batching.batch_size), samples, meter.more, clock)
        pids += [worker.pid for worker in endpoint.workers()]
        sizes.update(meter.batch_sizes)
        left -= 1
        if sides.wrong:
            break
    resident = resident_bytes(pids[-1:])
    paired = Paired(told.baseline, sides.whole_pairs())
    run = sides.run(Cell("handle", deployment), prepared, paired, workers=1)
    return replace(run, batch_sizes=dict(sizes), telemetry=told.watch.since(look_ns), worker_rss_bytes=resident)
