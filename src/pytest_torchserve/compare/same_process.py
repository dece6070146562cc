"""Full batches of an archive that holds two arms: one worker process after the other, pair after pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import (
    FEWEST_PAIRS,
    STRETCH,
    WANTED_PAIRS,
    Arms,
    ComparisonParams,
    ProcessWideError,
    batch_times,
    twice,
)
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.clock import Clock, MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure.cell import FEWEST_SAMPLES, Cell
from pytest_torchserve.measure.run import Paired, Run
from pytest_torchserve.measure.warm_up import WarmUp
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.cell import Budget
    from pytest_torchserve.phase import Phase

LOAD_SHARE = 0.4
"""Of the budget may be spent on starting processes; where one takes longer there are fewer."""


@dataclass(slots=True)
class PairMeter:
    """Takes in the batches of one worker process, for `seconds`. Its clock may be a fake.

    It goes on for `at_most_s` until it has the `wanted` number of pairs. A process is warm after three pairs, or
    after one where batches are slow.

    Attributes:
        batch_sizes: achieved size → number of batches.
        split: whether a batch came apart, which ends this process's part.
    """

    arms: Arms
    batch_size: int
    seconds: float
    at_most_s: float
    wanted: int
    clock: Clock
    progress: ProgressCallback
    batch_sizes: Counter[int] = field(default_factory=Counter)
    split: bool = False
    _open: dict[int, dict[str, dict[Phase, float]]] = field(default_factory=dict)
    _pid: int = 0
    _warm_up: WarmUp = field(default_factory=WarmUp)
    _started_ns: int = 0
    _done: int = 0

    def on_responses(self, responses: Sequence[Response]) -> bool:
        """Take in one batch; whether to send another."""
        self._started_ns = self._started_ns or self.clock.now_ns()
        reports = [
            report
            for response in responses
            if self._check(response, report := ProbeReport.of(response)) and report is not None
        ]
        if len(reports) == len(responses):
            self._take(responses, reports)
        elapsed_s = (self.clock.now_ns() - self._started_ns) / 1e9
        self.progress(f"{self._done} pairs", elapsed_s / self.seconds)
        evidence = self.arms.evidence
        least = max(FEWEST_PAIRS, self.wanted) if elapsed_s < self.at_most_s else 1
        enough = elapsed_s >= self.seconds and (self._done >= least or any(one.rejected for one in evidence))
        return not (enough or self.split or any(one.hopeless for one in evidence))

    def _check(self, response: Response, report: ProbeReport | None) -> bool:
        return self.arms.check(response, report, report.arm if report else "", report.pid if report else 0)

    def _take(self, responses: Sequence[Response], reports: Sequence[ProbeReport]) -> None:
        first = reports[0]
        if first.differs:
            raise ProcessWideError(
                wanted="two arms that can share one worker process",
                found=f"they leave it with different settings: {first.differs}",
                do="nothing: they are measured in processes of their own",
            )
        if self._pid not in (0, first.pid):
            raise MeasurementError(
                wanted=f"batches of worker process {self._pid}",
                found=f"one came from process {first.pid}, which is new: a worker died and was replaced",
                do="look into the server's log for why it died",
            )
        self._pid = first.pid
        sizes = {(report.arm, report.batch): report.batch_size for report in reports}
        self.batch_sizes.update(sizes.values())
        if len(sizes) > 1:
            # It took both turns: from here on the arms would get different samples.
            self.split = True
        elif first.batch_size == self.batch_size:
            self._pair_up(responses, first)

    def _pair_up(self, responses: Sequence[Response], first: ProbeReport) -> None:
        """Keep a whole batch until its pair is whole. Pairs of the warm-up do not count."""
        both = self._open.setdefault(first.pair, {})
        both[first.arm] = batch_times(responses, first)
        if len(both) < 2:  # noqa: PLR2004 - both arms
            return
        del self._open[first.pair]
        if self._warm_up.done:
            self._done += 1
            self.arms.add(first.pid, both["baseline"], both["candidate"])
        self._warm_up.add((self.clock.now_ns() - self._started_ns) / 1e9 - self._warm_up.spent_s)


def measure_same_process(target: ScalableTarget, inputs: ModelInputs, params: ComparisonParams) -> Run:
    """Time both arms of a pair archive, in several worker processes one after the other.

    Raises:
        ProcessWideError: the arms cannot share a process.
    """
    clock, deployment, budget = MonotonicClock(), params.deployment, params.budget
    samples = twice(inputs.samples, deployment.batching.batch_size)
    arms = Arms.of(deployment)
    begun_ns = clock.now_ns()
    snapshot_ns = params.monitor.snapshot()
    left, pids, sizes = 1, list[int](), Counter[int]()
    while left > 0 and not arms.wrong:
        loaded_ns = clock.now_ns()
        if target.workers():
            target.scale(0)
        target.scale(1)
        loading_s = (clock.now_ns() - loaded_ns) / 1e9
        left = left if pids else processes_within(budget, loading_s)
        spent_s = (clock.now_ns() - begun_ns) / 1e9
        meter = PairMeter(
            arms,
            deployment.batching.batch_size,
            max(share_s(budget.baseline_seconds, spent_s, left, loading_s), 1.0),
            share_s(STRETCH * budget.baseline_seconds, spent_s, left, loading_s),
            max(FEWEST_PAIRS, -(-(WANTED_PAIRS - arms.count) // left)),
            clock,
            params.progress,
        )
        target.send(FullBatches(deployment.batching.batch_size), samples, meter.on_responses, clock)
        pids += [worker.pid for worker in target.workers()]
        sizes.update(meter.batch_sizes)
        left -= 1
    resident = resident_bytes(pids[-1:])
    paired = Paired(params.baseline, arms.whole_pairs(), probe_cost_s=arms.probe_cost_s)
    run = arms.run(Cell("handle", deployment), inputs, paired, workers=1)
    return replace(
        run, batch_sizes=dict(sizes), telemetry=params.monitor.between(snapshot_ns), worker_rss_bytes=resident
    )


def processes_within(budget: Budget, loading_s: float) -> int:
    """Return how many worker processes a cell samples, where starting one takes so long."""
    affordable = int(LOAD_SHARE * budget.baseline_seconds / loading_s)
    return max(FEWEST_SAMPLES, min(budget.baseline_processes, affordable))


def share_s(budget_s: float, spent_s: float, left: int, loading_s: float) -> float:
    """Return the seconds of batches for each of the processes left, the starts of all but the first still to come."""
    return (budget_s - spent_s - loading_s * (left - 1)) / left
