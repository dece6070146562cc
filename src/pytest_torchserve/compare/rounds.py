"""Rounds of two fresh processes: their number, and the order in which each starts its arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve.compare.pair_batches import batch_times
from pytest_torchserve.compare.params import FEWEST_PAIRS, STRETCH, WANTED_ROUNDS
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.measure.cell import FEWEST_SAMPLES
from pytest_torchserve.measure.warm_up import WARM_UP_BATCHES

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from pytest_torchserve.compare.arms import Arms
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.model import Sample
    from pytest_torchserve.phase import Phase

Targets = Mapping[str, "ScalableTarget"]
"""By arm, `baseline` or `candidate`: the target where it is registered."""


def goes_on(elapsed_s: float, budget_s: float, rounds: int) -> bool:
    """Return whether to start another round.

    Rounds go on until the budget is spent, up to `STRETCH` times as long while there are fewer than `WANTED_ROUNDS`,
    and without limit while there are too few rounds for an interval.
    """
    return (
        elapsed_s < budget_s or rounds < FEWEST_SAMPLES or (rounds < WANTED_ROUNDS and elapsed_s < STRETCH * budget_s)
    )


def shuffled(targets: Targets, order: random.Random) -> list[str]:
    """Return the arms in an order drawn anew."""
    return order.sample(sorted(targets), len(targets))


BATCHING_SHARE = 0.4
"""The share of a round's time for batches; the rest went into starting its two workers."""


@dataclass(slots=True)
class Rounds:
    """Rounds with both arms, one after the other. `at` is the index of the sample that the next batch begins with."""

    targets: Targets
    arms: Arms
    samples: Sequence[Sample]
    batch_size: int
    order: random.Random
    clock: Clock
    at: int = 0

    def play(self, number: int) -> None:
        """Run one round: start two fresh workers, and send batches for a share of the time that the starts took."""
        begun_ns = self.clock.now_ns()
        for arm in shuffled(self.targets, self.order):
            self.targets[arm].scale(0)
            self.targets[arm].scale(1)
        started_ns = self.clock.now_ns()
        until_ns = started_ns + round((started_ns - begun_ns) * BATCHING_SHARE / (1 - BATCHING_SHARE))
        pairs = 0
        while (self.clock.now_ns() < until_ns or pairs < WARM_UP_BATCHES + FEWEST_PAIRS) and not self.arms.wrong:
            times = {arm: self._batch(arm, number) for arm in shuffled(self.targets, self.order)}
            pairs, self.at = pairs + 1, self.at + self.batch_size
            if pairs > WARM_UP_BATCHES and all(times.values()) and not self.arms.wrong:
                self.arms.add(number, times["baseline"], times["candidate"])

    def _batch(self, arm: str, number: int) -> dict[Phase, float]:
        """Send one full batch to one arm, and return its phases in seconds; nothing where it was split or wrong."""
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
