"""Collect the batches of one worker process that holds both arms, pair by pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve.compare.pair_batches import batch_times
from pytest_torchserve.compare.params import FEWEST_PAIRS
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.warm_up import WarmUp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.compare.arms import Arms
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.phase import Phase


GROWTH = 1.25
"""Whether a process has told all is asked when it has so many times the pairs."""


def never(_: int) -> bool:
    """Say of no process that it has told all."""
    return False


class ProcessWideError(MeasurementError):
    """The two arms disagree about settings of the whole process: one process cannot hold both."""


def refuse_process_wide(report: ProbeReport) -> None:
    """Refuse the report of a process that its two arms would set differently.

    Raises:
        ProcessWideError: they do.
    """
    if report.differs:
        raise ProcessWideError(
            wanted="two arms that can share one worker process",
            found=f"they leave it with different settings: {report.differs}",
            do="nothing: they are measured in processes of their own",
        )


@dataclass(slots=True)
class PairMeter:
    """The pairs of one worker process, collected for `seconds`. The clock may be a fake.

    Collection goes on for up to `at_most_s` until there are the `wanted` number of pairs. A process is warm after three
    pairs, or after one pair where batches are slow.

    Attributes:
        told_all: whether more pairs of a process (its pid) would tell nothing, which ends the collection from it; asked
            each time that the pairs have grown by a quarter.
        batch_sizes: achieved size → number of batches.
        split: whether a batch came apart, which ends the collection from this process.
    """

    arms: Arms
    batch_size: int
    seconds: float
    at_most_s: float
    wanted: int
    clock: Clock
    progress: ProgressCallback
    told_all: Callable[[int], bool] = never
    batch_sizes: Counter[int] = field(default_factory=Counter)
    split: bool = False
    _open: dict[int, dict[str, dict[Phase, float]]] = field(default_factory=dict)
    _pid: int = 0
    _warm_up: WarmUp = field(default_factory=WarmUp)
    _started_ns: int = 0
    _done: int = 0
    _ask_at: float = 0.0
    _over: bool = False

    def on_responses(self, responses: Sequence[Response]) -> bool:
        """Add one batch, and return whether to send another."""
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
        return not (enough or self.split or self._over or any(one.hopeless for one in evidence))

    def _check(self, response: Response, report: ProbeReport | None) -> bool:
        return self.arms.check(response, report, report.arm if report else "", report.pid if report else 0)

    def _take(self, responses: Sequence[Response], reports: Sequence[ProbeReport]) -> None:
        first = reports[0]
        refuse_process_wide(first)
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
            # The split batch took both turns: from here on the arms would get different samples.
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
            if self._done >= self._ask_at:
                self._ask_at = self._done * GROWTH
                self._over = self.told_all(first.pid)
        self._warm_up.add((self.clock.now_ns() - self._started_ns) / 1e9 - self._warm_up.spent_s)
