"""Whether a search for capacity holds, on simulated queues: the rule of one rate, and whole searches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_torchserve.measure.capacity_plan import CapacityPlan, settling_requests
from pytest_torchserve.measure.capacity_rule import SPARE, EarlyAbort, Judged, Outcome, judge, least_sample
from pytest_torchserve.queue_percentiles import relaxation

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from batch_queue import BatchQueue

GOAL = 0.99
NEAR = 0.05
BUDGET_S = 600.0
TIMES_UNLOADED = (2, 5)
_TIMES = (30, 100, 300)
"""Lengths of a probe, in correlation times of the queue."""

_CLOSED_LOOP_S = 10.0
_LONGEST = 60_000


def probe(
    queue: BatchQueue, rate: float, requests: int, slo_s: float, busy: float, rng: np.random.Generator
) -> tuple[Judged, float]:
    """Return what a probe from an empty queue says, and how many seconds it took."""
    simulated = queue.run(rate, requests, rng)
    latencies, most = simulated.latency_s, EarlyAbort(slo_s, GOAL, requests).most
    over = np.cumsum(latencies > slo_s)
    lost = bool(over[-1] > most)
    last = int(np.argmax(over > most)) if lost else requests - 1
    cut = 0 if lost else settling_requests(requests, busy)
    took_s = float(simulated.due_s[last] + latencies[last])
    return judge(latencies[cut : last + 1].tolist(), GOAL, slo_s, busy, lost=lost), took_s


def false_meets(queue: BatchQueue, share: float, true_s: float, runs: int) -> dict[str, float]:
    """Return how often a rate "meets" a goal that is exactly its true percentile, by the number of requests."""
    rate, found = share * queue.capacity_per_s, {}
    for times in _TIMES:
        requests = max(SPARE * least_sample(GOAL), round(times * relaxation(share)))
        if str(requests) in found or requests > _LONGEST:
            continue
        rngs = (np.random.default_rng([seed, requests]) for seed in range(runs))
        meets = [probe(queue, rate, requests, true_s, share, rng)[0].outcome is Outcome.MEETS for rng in rngs]
        found[str(requests)] = round(sum(meets) / runs, 4)
    return found


def unloaded_s(queue: BatchQueue) -> float:
    """Return the latency of a request that meets nobody: it waits for its batch to fill in vain."""
    return (queue.delay_s if queue.size > 1 else 0.0) + queue.per_batch_s + queue.per_request_s


def true_capacity(queue: BatchQueue, slo_s: float) -> float:
    """Return the highest rate whose p99 is the goal, by very long runs: down a grid from the top, then by halving."""

    def meets(share: float, requests: int) -> bool:
        runs = (queue.run(share * queue.capacity_per_s, requests, np.random.default_rng(seed)) for seed in (901, 902))
        return bool(np.mean([(run.latency_s[6000:] > slo_s).mean() for run in runs]) <= 1 - GOAL)

    low = next((share for share in np.arange(0.96, 0.0, -0.04) if meets(share, 200_000)), 0.0)
    high = low + 0.04
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (middle, high) if meets(middle, 1_000_000) else (low, middle)
    return float(low + high) / 2 * queue.capacity_per_s


def search(queue: BatchQueue, slo_s: float, seed: int) -> CapacityPlan:
    """Search as a session does: a closed loop, then what the plan says, until the budget is spent."""
    rng = np.random.default_rng([seed, 77])
    batches = int(_CLOSED_LOOP_S * queue.capacity_per_s / queue.size)
    full = replace(queue, delay_s=0.0).run(1e9, batches * queue.size, rng)
    plan = CapacityPlan.of(batches * queue.size / float(full.end_s[-1]), slo_s, BUDGET_S, float(full.end_s[-1]))
    while (following := plan.next_probe()) is not None:
        rate, seconds = following
        busy = rate / plan.saturation_per_s
        judged, took_s = probe(queue, rate, round(rate * seconds), slo_s, busy, rng)
        plan.add(rate, judged, took_s)
    return plan


def _found(queue: BatchQueue, slo_s: float, seed: int) -> tuple[float, float, float, int]:
    plan = search(queue, slo_s, seed)
    return plan.crossing or 0.0, plan.meets or 0.0, plan.spent_s, len(plan.judged)


def searches(queue: BatchQueue, count: int, pool: ProcessPoolExecutor) -> dict[str, dict[str, float]]:
    """Return what so many searches found, by the goal as a multiple of the unloaded latency."""
    found = {}
    for times in TIMES_UNLOADED:
        slo_s = times * unloaded_s(queue)
        truth = true_capacity(queue, slo_s)
        rows = np.array(list(pool.map(_found, [queue] * count, [slo_s] * count, range(count), chunksize=5)))
        crossing, shown = rows[:, 0] / truth, rows[:, 1] / truth
        found[str(times)] = {
            "utilisation": round(truth / queue.capacity_per_s, 3),
            "capacity_within_5pct": round(float(np.mean(abs(crossing - 1) <= NEAR)), 4),
            "shown_within_5pct": round(float(np.mean(abs(shown - 1) <= NEAR)), 4),
            "shown_above_truth": round(float(np.mean(shown > 1)), 4),
            "shown_median": round(float(np.median(shown)), 3),
            "simulated_s_max": round(float(rows[:, 2].max()), 1),
            "probes": round(float(rows[:, 3].mean()), 1),
        }
    return found
