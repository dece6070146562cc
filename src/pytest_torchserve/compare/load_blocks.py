"""Blocks of traffic: both arms get the same arrivals, one after the other, in an order drawn anew."""

from __future__ import annotations

import random
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
    from collections.abc import Mapping, Sequence

    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.model import Sample

ARMS = ("baseline", "candidate")
ARM_HEADER = "TS-Arm"
"""The request header by which a worker that holds both arms knows which is meant (`payload/ts_pair.py`)."""

BLOCK_REQUESTS = 100
BLOCK_S = 5.0
BLOCK_DELAYS = 10


def block_of(schedule: TimedSchedule, max_batch_delay_ms: int, longest_s: float, seed: int) -> TimedSchedule:
    """Return the traffic of one block, the same for both arms: a part of the cell's schedule with arrivals of its own.

    A block lasts five seconds, or longer where a hundred requests or ten batch delays take longer; a ramp is one block.

    Args:
        longest_s: how long a block may last.
        seed: of the arrivals, where they are random.
    """
    if isinstance(schedule, OpenLoop) and not schedule.steady:
        return schedule
    rate = schedule.mean_rate_per_s if isinstance(schedule, OpenLoop) else float("inf")
    wanted = max(BLOCK_S, BLOCK_REQUESTS / rate, BLOCK_DELAYS * max_batch_delay_ms / 1e3)
    changed = {"duration_s": min(wanted, max(longest_s, 1.0))}
    if isinstance(schedule, Poisson):
        changed["seed"] = seed
    return replace(schedule, **changed)  # type: ignore[type-var] # each schedule is a dataclass


@dataclass(slots=True)
class LoadBlocks:
    """The blocks so far, and what was sent in them.

    Attributes:
        sent: the candidate's traffic, block by block.
        samples: by arm, what is sent to it.
    """

    cell: Cell
    params: ComparisonParams
    arms: Arms
    blocks: list[Block] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    _order: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        """Draw the orders by the session's seed."""
        self._order.seed(self.params.context.budget.seed)
        self.samples = self.samples or dict.fromkeys(ARMS, self.params.context.inputs.samples)

    @property
    def broken(self) -> bool:
        """True where an answer is wrong, or too much fails for a measurement."""
        evidence = self.arms.evidence
        return any(one.wrong or one.hopeless for one in evidence) or bool(self.arms.agreement.different)

    def play(self, targets: Targets, process: int, longest_s: float, *, own_workers: bool) -> None:
        """Send one block to both arms.

        Args:
            process: pid of the worker that holds both arms, or number of the round.
            own_workers: whether each arm has its own, so that their memory tells them apart.
        """
        deployment, seed = self.params.deployment, self.params.context.budget.seed + len(self.blocks)
        assert self.cell.schedule is not None  # noqa: S101 - a load cell has a schedule
        schedule = block_of(self.cell.schedule, deployment.batching.max_batch_delay_ms, longest_s, seed)
        parts: dict[str, ArmBlock] = {}
        for arm in shuffled(targets, self._order):
            sent = self._send(targets[arm], arm, schedule)
            parts[arm] = self._part(targets[arm], sent, schedule)
            if own_workers:
                resident = resident_bytes([worker.pid for worker in targets[arm].workers()])
                parts[arm] = replace(parts[arm], rss_bytes=resident)
            for response, _ in sent.timed:
                if response.sample.answer is not None or response.sample.trusted:
                    self.arms.agreement.take(arm, process, response.sample.name, response.body)
            if arm == "candidate":
                self.sent.append(sent)
        self.blocks.append(Block(process, parts["baseline"], parts["candidate"]))

    def _send(self, target: ScalableTarget, arm: str, schedule: TimedSchedule) -> Sent:
        """Send the block's traffic to one arm, and check its answers."""
        checker = self.arms.candidate if arm == "candidate" else self.arms.baseline
        samples, deployment = self.samples[arm], self.params.deployment
        sent = traffic.send(target, samples, deployment, schedule, lambda *_: None, checker=checker)
        for report in sent.reports:
            refuse_process_wide(report)
        return sent

    def _part(self, target: ScalableTarget, sent: Sent, schedule: TimedSchedule) -> ArmBlock:
        """Return what is kept of one arm's part, once its queue has filled."""
        cut = 0
        if isinstance(schedule, OpenLoop) and schedule.steady:
            rate, workers = schedule.mean_rate_per_s, max(1, target.worker_count)
            busy = utilisation(batches_by_process(sent.timed), rate, target.batch_size, workers)
            cut = settling_requests(len(sent.responses), busy or 0.0)
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


def addressed(sample: Sample, arm: str) -> Sample:
    """Return the sample with the header that names the arm."""
    return replace(sample, headers={**sample.headers, ARM_HEADER: arm})
