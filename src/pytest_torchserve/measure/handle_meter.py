"""Collect full batches of one deployment, process by process, until there are enough."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve import stats
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.measure import validity
from pytest_torchserve.measure.warm_up import WarmUp, truncation
from pytest_torchserve.phase import HANDLE_PHASES, METHOD_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.measure.cell import Budget
    from pytest_torchserve.measure.check import Checker

MIN_BATCHES = 36
"""Batches of each process before a cell may end early: enough for a p90."""

FEWEST_TO_TELL = 10
"""Batches that can tell whether they are stationary; fewer are so long that the JVM's part in them is small."""

_PATIENCE = 40
_CHECK_EVERY_S = 0.25


@dataclass(slots=True)
class HandleMeter:
    """The times of full batches, collected until there are enough. The clock may be a fake.

    Attributes:
        cut, cut_s: number and seconds of the timed batches that `cut_warm_up` has taken away.
        steady: whether the batches were stationary after that; None where too few can tell.
    """

    budget: Budget
    batch_size: int
    checker: Checker
    clock: Clock
    progress: ProgressCallback
    seconds: dict[Phase, dict[int, list[float]]] = field(
        default_factory=lambda: {phase: defaultdict(list) for phase in (*HANDLE_PHASES, Phase.FIRST_CHUNK)}
    )
    batch_sizes: Counter[int] = field(default_factory=Counter)
    checked: int = 0
    in_flight_s: float = 0.0
    gpu_bytes: int = 0
    threads: int = 1
    _warm_ups: dict[int, WarmUp] = field(default_factory=lambda: defaultdict(WarmUp))
    done_ns: list[int] = field(default_factory=list)
    cut: int = 0
    cut_s: float = 0.0
    steady: bool | None = None
    _timed: list[tuple[int, float]] = field(default_factory=list)
    _begun_ns: int = 0
    started_ns: int = 0
    _looked_ns: int = 0

    def on_responses(self, responses: Sequence[Response]) -> bool:
        """Add one batch, and return whether to send another."""
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
            return  # the batch was split: `batch_sizes` shows it, and its time is not a full batch's
        self.checked += len(responses)
        self.done_ns.append(max(response.done_ns for response in responses))
        self.in_flight_s += latency_s
        self.gpu_bytes = max(self.gpu_bytes, first.gpu_bytes)
        for phase in (*METHOD_PHASES, Phase.HANDLE):
            if phase in first.phases_s:
                self.seconds[phase][first.pid].append(first.phases_s[phase])
        if first.streamed:
            chunk_s = (max(r.first_byte_ns for r in responses) - min(r.sent_ns for r in responses)) / 1e9
            self.seconds[Phase.FIRST_CHUNK][first.pid].append(chunk_s)
        self.threads = max(self.threads, first.threads)
        self.seconds[Phase.LATENCY][first.pid].append(latency_s)
        self._timed.append((first.pid, latency_s))

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
            return True  # the cell has failed already: it may not take longer than a good cell
        if not self.started_ns:
            return False
        elapsed_s = (now_ns - self.started_ns) / 1e9
        if elapsed_s >= self.budget.cell_seconds:
            return bool(self.batch_sizes or self.checker.evidence.rejected)  # at least one batch, however slow
        if now_ns - self._looked_ns < _CHECK_EVERY_S * 1e9:
            return False
        self._looked_ns = now_ns
        batches = sum(map(len, self.seconds[Phase.LATENCY].values()))
        self.progress(f"{batches} batches", elapsed_s / self.budget.cell_seconds)
        # A streamed answer has no `handle`.
        precise = self._precise(Phase.LATENCY) and (not self.seconds[Phase.HANDLE] or self._precise(Phase.HANDLE))
        return precise and self._settled()

    def _settled(self) -> bool:
        """Return whether the batches are stationary by now, and those that would be kept evenly spread over time.

        The server may get faster so slowly, or so unevenly, that MSER alone does not see it.
        """
        cut, steady = truncation([latency_s for _, latency_s in self._timed])
        start_ns = self.done_ns[cut - 1] if cut else self.started_ns
        return steady and validity.unstable(None, self.done_ns[cut:], start_ns, self.done_ns[-1], 1) is None

    def _precise(self, phase: Phase) -> bool:
        by_process = self.seconds[phase]
        if len(by_process) < self.budget.processes or min(map(len, by_process.values())) < MIN_BATCHES:
            return False
        reached = stats.precision(by_process)
        return reached is not None and reached <= self.budget.precision

    def cut_warm_up(self) -> None:
        """Take away the batches during which the server was still warming up, at most half of all."""
        if len(self._timed) < FEWEST_TO_TELL:
            return
        cut, self.steady = truncation([latency_s for _, latency_s in self._timed])
        if not self.steady or not cut:
            return
        self.cut, self.cut_s = cut, sum(latency_s for _, latency_s in self._timed[:cut])
        every, gone = Counter(pid for pid, _ in self._timed), Counter(pid for pid, _ in self._timed[:cut])
        for by_process in self.seconds.values():
            for pid, values in by_process.items():
                # A phase that the first batches did not have has fewer values than there are batches.
                del values[: max(0, gone[pid] - (every[pid] - len(values)))]
        self.checked -= cut * self.batch_size
        self.in_flight_s -= self.cut_s
        self.started_ns = self.done_ns[cut - 1]
        del self.done_ns[:cut], self._timed[:cut]

    def samples(self) -> dict[Phase, dict[int, tuple[float, ...]]]:
        """Return the seconds of each phase, by worker process; phases without samples are left out."""
        return {
            phase: {pid: tuple(values) for pid, values in by_process.items()}
            for phase, by_process in self.seconds.items()
            if by_process
        }

    def process_spread(self) -> Mapping[Phase, float | None]:
        """Return by phase how far the processes' medians lie apart, as a fraction."""
        return {phase: stats.process_spread(values) for phase, values in self.seconds.items()}

    def precision(self) -> Mapping[Phase, float | None]:
        """Return by phase the widest 95% interval of any process's median, as a fraction of that median."""
        return {phase: stats.precision(values) for phase, values in self.seconds.items()}
