"""Measure a load of both arms: in processes that hold both, or in rounds of processes of their own."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.arms import OF_BASELINE, Arms
from pytest_torchserve.compare.load_blocks import LoadBlocks, addressed, by_arm
from pytest_torchserve.compare.load_metrics import LoadMetric, figure
from pytest_torchserve.compare.rounds import Targets, goes_on, shuffled
from pytest_torchserve.compare.same_process import LOAD_SHARE, processes_within, share_s
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.measure import traffic, validity_by_kind
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.cell import FEWEST_SAMPLES
from pytest_torchserve.measure.load import traffic_figures
from pytest_torchserve.measure.run import Paired, Run
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.measure.cell import Cell

BLOCKS_A_PROCESS = 2
"""Blocks that each process, or round of processes, gets at least, where the budget allows them."""

ROUND_SHARE = 0.6
"""The share of a round's time for blocks; the rest goes into starting its workers."""


def measure_load_pairs(targets: Targets | ScalableTarget, cell: Cell, params: ComparisonParams) -> Run:
    """Measure a load cell: both arms get the same arrivals, block after block.

    Args:
        targets: by arm, where it is registered; or the one registration that holds both arms.

    Raises:
        ProcessWideError: the arms cannot share a process.
    """
    arms, own = by_arm(targets)
    candidate = arms["candidate"]
    found = LoadBlocks(cell, params, Arms.of(params.deployment), arms, own)
    clock = MonotonicClock()
    begun_ns = clock.now_ns()
    snapshot_ns, log_offset = params.context.monitor.snapshot(), candidate.log_offset()
    (play_in_rounds if own else play_in_one_process)(found, clock)
    spent_s = (clock.now_ns() - begun_ns) / 1e9
    paired = replace(params.looked_at(_paired(found)), spent_s=spent_s)
    run = _run_of(candidate, found, log_offset)
    return replace(run, paired=paired, telemetry=params.context.monitor.between(snapshot_ns))


def _paired(found: LoadBlocks) -> Paired:
    """Return the blocks so far."""
    return Paired(
        found.params.baseline,
        by_process=found.own_workers,
        differs=found.params.differs,
        answers_apart=found.arms.agreement.largest_distance,
        blocks=tuple(found.blocks),
    )


def _run_of(candidate: ScalableTarget, found: LoadBlocks, log_offset: int) -> Run:
    """Return the run of the candidate's blocks. Only the responses can make it INVALID: all else met both arms."""
    cell, context = found.cell, found.params.context
    sent = found.merged()
    new, old = found.arms.candidate.evidence, found.arms.baseline.evidence
    of_baseline = validity_by_kind.of_comparison(old.errors, old.wrong_answers, old.judged)
    failed = new.errors if new.unreachable else {}  # else goodput tells how many
    reasons = (
        *validity_by_kind.of_comparison(failed, new.wrong_answers + found.arms.agreement.differing, new.judged),
        *(f"{OF_BASELINE}{words}" for words in of_baseline),
    )
    frontend_times = candidate.frontend_times(log_offset, sent.request_ids)
    gathered = batches(sent.reports, frontend_times, candidate.batch_size)
    seconds = traffic.by_process(sent.timed)
    figures = traffic_figures(candidate, found.schedule, sent, frontend_times, gathered, context.budget.slo_s)
    return Run.of(
        cell,
        context.inputs,
        replace(new, wrong=list(found.wrong)),
        failures_are_wrong=False,
        workers=found.workers,
        seconds={Phase.LATENCY: seconds} if seconds else {},
        invalid=reasons,
        batch_sizes=gathered.sizes,
        throughput=figure(LoadMetric.THROUGHPUT, [block.candidate for block in found.blocks]),
        traffic=replace(figures, slices=()),
    )


def play_in_one_process(found: LoadBlocks, clock: Clock) -> None:
    """Send blocks to several processes that hold both arms, one process after the other."""
    budget, target = found.params.context.budget, found.targets["candidate"]
    begun_ns, left, played = clock.now_ns(), 1, 0
    found.samples = {arm: [addressed(one, arm) for one in samples] for arm, samples in found.samples.items()}
    while left > 0 and not found.broken:
        loaded_ns = clock.now_ns()
        if target.workers():
            target.scale(0)
        target.scale(found.workers)
        for samples in found.samples.values():
            traffic.warm_up_server(target, samples)
        loading_s = (clock.now_ns() - loaded_ns) / 1e9
        left = left if played else _processes(found, loading_s)
        spent_s = (clock.now_ns() - begun_ns) / 1e9
        process = next((worker.pid for worker in target.workers()), 0)
        _fill(found, process, share_s(budget.baseline_seconds, spent_s, left, loading_s), clock, begun_ns)
        left, played = left - 1, played + 1
        over = (clock.now_ns() - begun_ns) / 1e9 >= budget.baseline_seconds
        if (over and played >= FEWEST_SAMPLES) or (left and found.params.decided(_paired(found), played)):
            return


def _processes(found: LoadBlocks, loading_s: float) -> int:
    """Return how many processes to sample: so many that each gets some whole blocks, three at least."""
    budget = found.params.context.budget
    affordable = int((1 - LOAD_SHARE) * budget.baseline_seconds / (BLOCKS_A_PROCESS * 2 * found.block_s))
    return max(FEWEST_SAMPLES, min(processes_within(budget, loading_s), affordable))


def play_in_rounds(found: LoadBlocks, clock: Clock) -> None:
    """Send blocks to processes of each arm's own: every round starts fresh ones."""
    budget, targets = found.params.context.budget, found.targets
    begun_ns, rounds = clock.now_ns(), 0
    order = random.Random(budget.seed)  # noqa: S311 - an order, no secret
    while goes_on((clock.now_ns() - begun_ns) / 1e9, budget.baseline_seconds, rounds) and not found.broken:
        loaded_ns = clock.now_ns()
        for arm in shuffled(targets, order):
            targets[arm].scale(0)
            targets[arm].scale(found.workers)
            traffic.warm_up_server(targets[arm], found.samples[arm])
        started_s = (clock.now_ns() - loaded_ns) / 1e9
        # Whole blocks, where three rounds of them are within the budget.
        within_s = budget.baseline_seconds / FEWEST_SAMPLES - started_s
        wanted_s = min(BLOCKS_A_PROCESS * 2 * found.block_s, within_s)
        _fill(found, rounds, max(started_s * ROUND_SHARE / (1 - ROUND_SHARE), wanted_s), clock, begun_ns)
        rounds += 1
        if found.params.decided(_paired(found), rounds):
            return


def _fill(found: LoadBlocks, process: int, seconds: float, clock: Clock, begun_ns: int) -> None:
    """Send blocks for so many seconds, one at least.

    Args:
        begun_ns: when the cell began, for the progress.
    """
    until_ns, context = clock.now_ns() + seconds * 1e9, found.params.context
    while not found.broken:
        block_ns = clock.now_ns()
        share = (block_ns - begun_ns) / 1e9 / context.budget.baseline_seconds
        context.progress(f"block {len(found.blocks) + 1}", share)
        found.play(process, seconds / 2)
        # Another one only where more than half of it is within the time.
        if clock.now_ns() + (clock.now_ns() - block_ns) / 2 >= until_ns:
            return
