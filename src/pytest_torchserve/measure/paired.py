"""Full batches of an archive that holds two sides: one worker process after the other, pair after pair."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_torchserve.clock import Clock, MonotonicClock
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.load import FullBatches
from pytest_torchserve.measure import validity
from pytest_torchserve.measure.answers import Agreement
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.handle import Tell, resident_bytes
from pytest_torchserve.measure.run import Cell, Effort, Paired, Run
from pytest_torchserve.model import TOLERANCE
from pytest_torchserve.phase import HANDLE_PHASES, HANDLER_PHASES, Phase
from pytest_torchserve.response import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.endpoint import Endpoint
    from pytest_torchserve.inputs.prepared import Prepared
    from pytest_torchserve.model import Sample
    from pytest_torchserve.response import Response
    from pytest_torchserve.telemetry import Watch

PROCESSES = 3
"""So many worker processes share a cell's budget: which side lies where in memory is drawn anew in each."""

LOAD_SHARE = 0.15
"""Of the budget may be spent on starting them; where one takes longer there are fewer."""

WARM_UP_PAIRS = 3
FEWEST_PAIRS = 2


class ProcessWideError(MeasurementError):
    """The two sides disagree about what belongs to the whole process: one process cannot hold both."""


def twice(samples: Sequence[Sample], batch_size: int) -> list[Sample]:
    """The samples in an order in which every batch comes twice: once for each side of a pair."""
    batches = -(-len(samples) // batch_size)
    found: list[Sample] = []
    for first in range(0, batches * batch_size, batch_size):
        batch = [samples[index % len(samples)] for index in range(first, first + batch_size)]
        found += batch * 2
    return found


@dataclass(slots=True)
class Sides:
    """What came of both sides so far: times of whole pairs, answers, what was wrong.

    Attributes:
        pairs: phase → process → (baseline, candidate).
    """

    candidate: Checker
    baseline: Checker
    agreement: Agreement
    pairs: dict[Phase, dict[int, list[tuple[float, float]]]] = field(
        default_factory=lambda: {phase: defaultdict(list) for phase in HANDLE_PHASES}
    )

    @classmethod
    def of(cls, deployment: Deployment, samples: Sequence[Sample]) -> Sides:
        """Nothing yet. The baseline's answers have no golden ones: they are compared with the candidate's."""
        unknown = [replace(sample, answer=None, label=None) for sample in samples]
        return cls(
            Checker.for_cell(deployment, samples),
            Checker.for_cell(deployment, unknown),
            Agreement(TOLERANCE[deployment.device]),
        )

    def check(self, response: Response, side: str) -> Trace | None:
        """One response's trace where its answer can be taken."""
        checker = self.candidate if side == "candidate" else self.baseline
        trace = checker.check(response)
        if trace is not None:
            self.agreement.take(side, checker.samples[response.sample].name, response.body)
        return trace

    def add(self, process: int, baseline: Mapping[Phase, float], candidate: Mapping[Phase, float]) -> None:
        """One whole pair."""
        for phase in baseline.keys() & candidate.keys():
            self.pairs[phase][process].append((baseline[phase], candidate[phase]))

    @property
    def wrong(self) -> tuple[str, ...]:
        """Why the candidate cannot be taken, and why the baseline cannot be held against it."""
        return (
            *self.candidate.rejected,
            *(f"differs from the baseline: {words}" for words in self.agreement.different),
            *(f"baseline: {words}" for words in self.baseline.rejected),
        )

    def run(self, cell: Cell, prepared: Prepared, paired: Paired, workers: int) -> Run:
        """What was measured. Others on the machine met both sides alike: only what was answered makes it INVALID."""
        checker = self.candidate
        asked = checker.checked + len(checker.rejected)
        invalid = validity.found(validity.errors(checker.errors, asked), validity.wrong(len(self.wrong), asked))
        return Run(
            cell=cell,
            workers=workers,
            seconds={
                phase: {process: tuple(new for _, new in pairs) for process, pairs in by_process.items()}
                for phase, by_process in paired.pairs.items()
            },
            checked=checker.checked,
            wrong=self.wrong,
            errors=dict(checker.errors),
            invalid=invalid,
            devices=tuple(sorted(checker.devices)),
            weights=prepared.served.weights_kind,
            samples=prepared.samples_source,
            paired=paired,
        )

    def whole_pairs(self) -> dict[Phase, dict[int, tuple[tuple[float, float], ...]]]:
        """The pairs of every phase that has any."""
        return {
            phase: {process: tuple(pairs) for process, pairs in by_process.items()}
            for phase, by_process in self.pairs.items()
            if by_process
        }


@dataclass(slots=True)
class PairMeter:
    """Takes in the batches of one worker process, for `seconds`. Its clock may be a fake."""

    sides: Sides
    batch_size: int
    seconds: float
    clock: Clock
    tell: Tell
    batch_sizes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
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


@dataclass(frozen=True, slots=True)
class Told:
    """What a comparison is told.

    Attributes:
        deployment: what is compared.
        baseline: what the candidate is held against, in the user's words.
        differs: which settings of the process made one process impossible; '' for other reasons.
    """

    deployment: Deployment
    baseline: str
    effort: Effort
    tell: Tell
    watch: Watch
    differs: str = ""


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
    left, pids, sizes = PROCESSES, list[int](), dict[int, int]()
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
        sizes = {size: sizes.get(size, 0) + count for size, count in meter.batch_sizes.items()} | {
            size: count for size, count in sizes.items() if size not in meter.batch_sizes
        }
        left -= 1
        if sides.wrong:
            break
    resident = resident_bytes(pids[-1:])
    paired = Paired(told.baseline, sides.whole_pairs())
    run = sides.run(Cell("handle", deployment), prepared, paired, workers=1)
    return replace(run, batch_sizes=sizes, telemetry=told.watch.since(look_ns), worker_rss_bytes=resident)
