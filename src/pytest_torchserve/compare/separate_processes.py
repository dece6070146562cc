"""Two arms in processes of their own: rounds of two fresh workers, and restarts for the phases of a start."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import Arms
from pytest_torchserve.compare.pair_batches import batch_times
from pytest_torchserve.compare.params import FEWEST_PAIRS, STRETCH, WANTED_ROUNDS, ComparisonParams
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.measure.cell import FEWEST_SAMPLES, Cell
from pytest_torchserve.measure.init import start_worker
from pytest_torchserve.measure.run import Paired, Run
from pytest_torchserve.measure.warm_up import WARM_UP_BATCHES
from pytest_torchserve.phase import Phase
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.model import Sample

BATCHING_SHARE = 0.4
"""Of a round's time goes into batches; the rest went into starting its two workers."""

Targets = dict[str, "ScalableTarget"]
"""By arm: where `baseline` and `candidate` are registered."""


@dataclass(slots=True)
class _Rounds:
    """Both arms, round after round. `at` is the sample that the next batch begins with."""

    targets: Targets
    arms: Arms
    samples: Sequence[Sample]
    batch_size: int
    order: random.Random
    clock: Clock
    at: int = 0

    def play(self, number: int) -> None:
        """One round: two fresh workers, and batches for a share of the time that starting them took."""
        begun_ns = self.clock.now_ns()
        for arm in _shuffled(self.targets, self.order):
            self.targets[arm].scale(0)
            self.targets[arm].scale(1)
        started_ns = self.clock.now_ns()
        until_ns = started_ns + round((started_ns - begun_ns) * BATCHING_SHARE / (1 - BATCHING_SHARE))
        pairs = 0
        while (self.clock.now_ns() < until_ns or pairs < WARM_UP_BATCHES + FEWEST_PAIRS) and not self.arms.wrong:
            times = {arm: self._batch(arm, number) for arm in _shuffled(self.targets, self.order)}
            pairs, self.at = pairs + 1, self.at + self.batch_size
            if pairs > WARM_UP_BATCHES and all(times.values()) and not self.arms.wrong:
                self.arms.add(number, times["baseline"], times["candidate"])

    def _batch(self, arm: str, number: int) -> dict[Phase, float]:
        """One full batch of one arm: its phases in seconds; nothing where it was split or wrong."""
        samples = [self.samples[index % len(self.samples)] for index in range(self.at, self.at + self.batch_size)]
        answers = ask(self.targets[arm], samples, self.clock)
        reports = [ProbeReport.of(response) for response in answers]
        whole = [
            report
            for response, report in zip(answers, reports, strict=True)
            if self.arms.check(response, report, arm, number) and report is not None
        ]
        if len(whole) < len(samples) or len({report.batch for report in whole}) > 1:
            return {}
        return batch_times(answers, whole[0])


def measure_separate_processes(targets: Targets, params: ComparisonParams) -> Run:
    """`handle`: in each round one fresh worker an arm, their batches interleaved; a round is one sample."""
    clock, batch_size = MonotonicClock(), params.deployment.batching.batch_size
    arms = Arms.of(params.deployment)
    order = random.Random(params.context.budget.seed)  # noqa: S311 - an order, no secret
    rounds, played = _Rounds(targets, arms, params.context.inputs.samples, batch_size, order, clock), 0
    begun_ns, budget_s = clock.now_ns(), params.context.budget.baseline_seconds
    snapshot_ns = params.context.monitor.snapshot()
    while _goes_on(elapsed_s := (clock.now_ns() - begun_ns) / 1e9, budget_s, played) and not arms.wrong:
        params.context.progress(f"round {played + 1}", elapsed_s / budget_s)
        rounds.play(played)
        played += 1
    resident = resident_bytes([worker.pid for worker in targets["candidate"].workers()])
    for target in targets.values():
        target.scale(0)
    paired = Paired(
        params.baseline, arms.whole_pairs(), by_process=True, differs=params.differs, probe_cost_s=arms.probe_cost_s
    )
    run = arms.run(Cell("handle", params.deployment), params.context.inputs, paired, workers=1)
    full = len(paired.pairs.get(Phase.HANDLE, {}))
    return replace(
        run,
        batch_sizes={batch_size: full} if full else {},
        telemetry=params.context.monitor.between(snapshot_ns),
        worker_rss_bytes=resident,
    )


def _goes_on(elapsed_s: float, budget_s: float, rounds: int) -> bool:
    """Until the budget is spent; up to twice as long where there are too few rounds for an interval."""
    return (
        elapsed_s < budget_s or rounds < FEWEST_SAMPLES or (rounds < WANTED_ROUNDS and elapsed_s < STRETCH * budget_s)
    )


def _shuffled(targets: Targets, order: random.Random) -> list[str]:
    return order.sample(sorted(targets), len(targets))


def measure_restarts(targets: Targets, params: ComparisonParams) -> Run:
    """init: both arms' workers started in turn, in an order drawn anew; a pair of starts is one sample."""
    clock = MonotonicClock()
    order = random.Random(params.context.budget.seed)  # noqa: S311 - an order, no secret
    arms = Arms.of(params.deployment)
    begun_ns, rounds, resident = clock.now_ns(), 0, 0
    budget_s = params.context.budget.baseline_seconds
    snapshot_ns = params.context.monitor.snapshot()
    while _goes_on(elapsed_s := (clock.now_ns() - begun_ns) / 1e9, budget_s, rounds):
        params.context.progress(f"round {rounds + 1}", elapsed_s / budget_s)
        times: dict[str, Mapping[Phase, float]] = {}
        for arm in _shuffled(targets, order):
            target = targets[arm]
            start = start_worker(target, params.context.inputs.samples, functools.partial(_checked, arms, arm, rounds))
            if start is None:
                break
            times[arm] = start.seconds
            resident = max(resident, resident_bytes([start.report.pid]) or 0)
            target.scale(0)
        if arms.wrong:
            break
        arms.add(rounds, times["baseline"], times["candidate"])
        rounds += 1
    paired = Paired(params.baseline, arms.whole_pairs(), by_process=True, differs=params.differs)
    run = arms.run(Cell("init", params.deployment), params.context.inputs, paired, workers=1)
    checked = len(arms.pairs[Phase.TOTAL])
    return replace(
        run, checked=checked, telemetry=params.context.monitor.between(snapshot_ns), worker_rss_bytes=resident or None
    )


def _checked(arms: Arms, arm: str, process: int, response: Response) -> ProbeReport | None:
    """Return the probe report of a response whose answer can be taken."""
    report = ProbeReport.of(response)
    return report if arms.check(response, report, arm, process) else None
