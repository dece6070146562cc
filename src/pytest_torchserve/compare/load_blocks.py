"""Blocks of traffic: both arms get the same arrivals, one after the other, in an order drawn anew."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import OF_BASELINE, Arms
from pytest_torchserve.compare.pair_meter import refuse_process_wide
from pytest_torchserve.compare.rounds import Targets, shuffled
from pytest_torchserve.loadgen.arrivals import OpenLoop, Poisson
from pytest_torchserve.measure import traffic
from pytest_torchserve.measure.blocks import ArmBlock, Block
from pytest_torchserve.measure.capacity_plan import settling_requests
from pytest_torchserve.measure.traffic import Sent
from pytest_torchserve.measure.utilisation import batches_by_process, utilisation
from pytest_torchserve.telemetry.resident import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.model import Sample

ARMS = ("baseline", "candidate")
ARM_HEADER = "TS-Arm"
"""The request header by which a worker that holds both arms knows which is meant (`payload/ts_pair.py`)."""


def by_arm(targets: Targets | ScalableTarget) -> tuple[Targets, bool]:
    """Return the targets by arm, and whether each arm has its own; one registration that holds both stands for both."""
    if isinstance(targets, Mapping):
        return targets, True
    return dict.fromkeys(ARMS, targets), False


BLOCK_REQUESTS = 100
BLOCK_S = 5.0
BLOCK_DELAYS = 10


def wanted_s(schedule: TimedSchedule, max_batch_delay_ms: int) -> float:
    """Return how long a block should last: 5 s, a hundred requests or ten batch delays; a ramp is one block."""
    if isinstance(schedule, OpenLoop) and not schedule.steady:
        return schedule.duration_s
    rate = schedule.mean_rate_per_s if isinstance(schedule, OpenLoop) else float("inf")
    return max(BLOCK_S, BLOCK_REQUESTS / rate, BLOCK_DELAYS * max_batch_delay_ms / 1e3)


def block_of(schedule: TimedSchedule, max_batch_delay_ms: int, longest_s: float, seed: int) -> TimedSchedule:
    """Return the traffic of one block, the same for both arms: a part of the cell's schedule with arrivals of its own.

    Args:
        longest_s: how long a block may last.
        seed: of the arrivals, where they are random.
    """
    if isinstance(schedule, OpenLoop) and not schedule.steady:
        return schedule
    changed = {"duration_s": min(wanted_s(schedule, max_batch_delay_ms), max(longest_s, 1.0))}
    if isinstance(schedule, Poisson):
        changed["seed"] = seed
    return replace(schedule, **changed)  # type: ignore[type-var] # each schedule is a dataclass


@dataclass(slots=True)
class LoadBlocks:
    """The blocks so far, and what was sent in them.

    Attributes:
        targets: by arm, where it is registered; both at one place where one process holds both.
        own_workers: whether each arm has its own, so that their memory tells them apart.
        sent: the candidate's traffic, block by block.
        samples: by arm, what is sent to it.
    """

    cell: Cell
    params: ComparisonParams
    arms: Arms
    targets: Targets
    own_workers: bool
    blocks: list[Block] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    _next: int = 0
    _order: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        """Draw the orders by the session's seed."""
        self._order.seed(self.params.context.budget.seed)
        self.samples = self.samples or dict.fromkeys(ARMS, self.params.context.inputs.samples)

    @property
    def schedule(self) -> TimedSchedule:
        """The cell's traffic."""
        assert self.cell.schedule is not None  # noqa: S101 - a load cell has a schedule
        return self.cell.schedule

    @property
    def block_s(self) -> float:
        """How long a block should last."""
        return wanted_s(self.schedule, self.cell.deployment.batching.max_batch_delay_ms)

    @property
    def workers(self) -> int:
        """The number of workers that share the traffic: the archive's own, where it says so."""
        return self.cell.deployment.workers or self.cell.workers

    @property
    def broken(self) -> bool:
        """True where an answer is wrong, the candidate does not answer at all, or the baseline fails too often.

        A candidate whose requests fail is measured to the end: its goodput tells.
        """
        new, old = self.arms.candidate.evidence, self.arms.baseline.evidence
        return bool(new.wrong or new.unreachable or old.wrong or old.hopeless or self.arms.agreement.different)

    def play(self, process: int, longest_s: float) -> None:
        """Send one block to both arms.

        Args:
            process: pid of the worker that holds both arms, or number of the round.
            longest_s: how long the block may last.
        """
        targets, seed = self.targets, self.params.context.budget.seed + len(self.blocks)
        delay_ms = self.cell.deployment.batching.max_batch_delay_ms
        schedule = block_of(self.schedule, delay_ms, longest_s, seed)
        sent: dict[str, Sent] = {}
        resident: dict[str, int | None] = {}
        for arm in shuffled(targets, self._order):
            sent[arm] = self._send(targets[arm], arm, schedule)
            if self.own_workers:
                resident[arm] = resident_bytes([worker.pid for worker in targets[arm].workers() if worker.pid > 0])
            for response, _ in sent[arm].timed:
                # An answer without its body was too large to keep, and is checked by itself only.
                if response.body and (response.sample.answer is not None or response.sample.trusted):
                    self.arms.agreement.take(arm, process, response.sample.name, response.body)
        # The same requests of both: those that met a queue which had not filled yet, by the slower arm.
        cut = max(_settling(targets[arm], sent[arm], schedule) for arm in ARMS)
        parts = {arm: replace(self._part(sent[arm], cut), rss_bytes=resident.get(arm)) for arm in ARMS}
        self.sent.append(sent["candidate"])
        self._next += len(sent["candidate"].responses)
        self.blocks.append(Block(process, parts["baseline"], parts["candidate"]))

    def _send(self, target: ScalableTarget, arm: str, schedule: TimedSchedule) -> Sent:
        """Send the block's traffic to one arm, and check its answers."""
        checker = self.arms.candidate if arm == "candidate" else self.arms.baseline
        samples, deployment = self.samples[arm], self.params.deployment
        first = self._next % len(samples)  # the block goes on where the last one ended
        samples = [*samples[first:], *samples[:first]]
        sent = traffic.send(target, samples, deployment, schedule, lambda *_: None, checker=checker)
        for report in sent.reports:
            refuse_process_wide(report)
        return sent

    def _part(self, sent: Sent, cut: int) -> ArmBlock:
        """Return what is kept of one arm's part: all but the first `cut` requests."""
        due = sorted(response.scheduled_ns for response in sent.responses)
        from_ns = due[cut] if due else 0
        kept = [pair for pair in sent.timed if pair[0].scheduled_ns >= from_ns]
        settled = replace(sent, timed=kept)
        latencies = tuple(traffic.latencies_s(settled))
        return ArmBlock(
            latencies,
            len(due) - cut,
            traffic.within(settled, self.params.context.budget.slo_s),
            traffic.throughput(sent),
        )

    @property
    def wrong(self) -> tuple[str, ...]:
        """Why the candidate's answers are wrong, and why the baseline cannot be compared with it."""
        old = self.arms.baseline.evidence
        return (
            *self.arms.candidate.evidence.wrong,
            *(f"differs from the baseline: {words}" for words in self.arms.agreement.different),
            *(f"{OF_BASELINE}{words}" for words in (old.rejected if old.hopeless else old.wrong)),
        )

    def merged(self) -> Sent:
        """Return the candidate's traffic of all blocks as one."""
        return Sent(
            self.sent[0].start_ns,
            [response for sent in self.sent for response in sent.responses],
            [pair for sent in self.sent for pair in sent.timed],
            self.arms.candidate.evidence,
        )


def _settling(target: ScalableTarget, sent: Sent, schedule: TimedSchedule) -> int:
    """Return how many requests of one arm pass until its queue has filled."""
    if not (isinstance(schedule, OpenLoop) and schedule.steady):
        return 0
    rate, workers = schedule.mean_rate_per_s, max(1, target.worker_count)
    busy = utilisation(batches_by_process(sent.timed), rate, target.batch_size, workers)
    return settling_requests(len(sent.responses), busy or 0.0)


def addressed(sample: Sample, arm: str) -> Sample:
    """Return the sample with the header that names the arm."""
    return replace(sample, headers={**sample.headers, ARM_HEADER: arm})
