"""Whether the figures of a load hold, on simulated queues of known truth: `make bench-stats`.

For each utilisation and number of requests, many runs of a queue in its steady state are given to the functions that
a real run's requests are given to; the share of intervals that hold the true percentile is the coverage. Then how often
a rate "meets" a goal that is its true p99, and how near whole searches for capacity come. Writes
build/bench/stats.json.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from batch_queue import BatchQueue, Simulated
from capacity import false_meets, searches

from pytest_torchserve.measure.utilisation import Batch, utilisation
from pytest_torchserve.queue_percentiles import queue_percentiles

PS = (0.5, 0.9, 0.99)
UTILISATIONS = (0.2, 0.5, 0.8, 0.9)
SIZES = (1377, 5000)
QUEUES = {
    "resnet56": BatchQueue(),
    # Other queues than the one for which the constants were chosen.
    "unbatched": BatchQueue(size=1, delay_s=0.0, per_batch_s=0.0, per_request_s=0.005),
    "exponential": BatchQueue(size=1, delay_s=0.0, per_batch_s=0.0, per_request_s=0.005, noise=None),
    "slow": BatchQueue(size=4, delay_s=0.05, per_batch_s=0.3, per_request_s=0.2),
}
USUAL = "resnet56"
SEARCHED = ("resnet56", "unbatched")
KEYS = ("coverage", "withheld")
SETTLED = 6000
"""Requests before a run's: the queue is in its steady state."""


def truth(queue: BatchQueue, share: float, runs: int = 8, requests: int = 1_000_000) -> list[float]:
    """Return the true percentiles, from very long runs."""
    rate = share * queue.capacity_per_s
    found = [queue.run(rate, requests, np.random.default_rng(seed)).latency_s[SETTLED:] for seed in range(runs)]
    return [float(value) for value in np.quantile(np.concatenate(found), PS)]


def batches(simulated: Simulated, since_s: float) -> list[Batch]:
    """Return the batches of a run that began since then."""
    complete_s = simulated.due_s[np.cumsum(simulated.size) - 1]
    rows = zip(simulated.start_s, simulated.end_s, simulated.size, complete_s, strict=True)
    return [
        Batch(round(start * 1e9), round(end * 1e9), int(size), round(complete * 1e9))
        for start, end, size, complete in rows
        if start >= since_s
    ]


def one(queue: BatchQueue, share: float, requests: int, seed: int, true: list[float]) -> list[tuple[bool, bool]]:
    """Return, for each percentile, whether one run's interval was shown, and whether it holds the true one."""
    rate = share * queue.capacity_per_s
    simulated = queue.run(rate, SETTLED + requests, np.random.default_rng([seed, requests]))
    busy = utilisation([batches(simulated, simulated.due_s[SETTLED])], rate, queue.size, 1)
    found = {q.p: q for q in queue_percentiles(simulated.latency_s[SETTLED:].tolist(), busy, PS).quantiles}
    return [
        (p in found, p in found and found[p].low <= value <= found[p].high) for p, value in zip(PS, true, strict=True)
    ]


def coverage(name: str, share: float, sizes: tuple[int, ...], runs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the coverage of the intervals that are shown, and the share of those that are withheld."""
    queue, found = QUEUES[name], {}
    true = truth(queue, share)
    for requests in sizes:
        told = np.array([one(queue, share, requests, seed, true) for seed in range(runs)])
        shown, held = told[:, :, 0].sum(axis=0), told[:, :, 1].sum(axis=0)
        names = [f"p{100 * p:g}" for p in PS]
        found[str(requests)] = {
            "coverage": {p: round(float(h / s), 4) for p, h, s in zip(names, held, shown, strict=True) if s},
            "withheld": {p: round(1 - float(s) / runs, 4) for p, s in zip(names, shown, strict=True)},
        }
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--queues", nargs="+", default=list(QUEUES))
    parser.add_argument("--out", type=Path, default=Path("build/bench/stats.json"))
    told = parser.parse_args()
    cells = [(name, share) for name in told.queues for share in UTILISATIONS]
    with ProcessPoolExecutor(2) as pool:
        jobs = {cell: pool.submit(coverage, *cell, SIZES, told.runs) for cell in cells}
        found = {cell: job.result() for cell, job in jobs.items()}
        meets = {
            cell: pool.submit(falsely, *cell, max(1, told.runs // (2 if cell[0] == USUAL else 5))) for cell in cells
        }
        falsely_met = {cell: job.result() for cell, job in meets.items()}
        capacity = {name: searches(QUEUES[name], told.searches, pool) for name in SEARCHED if name in told.queues}
    print(f"{'queue':<12} {'busy':>4} {'n':>5}  coverage of p50, p90, p99 (withheld)")
    for (name, share), by_size in found.items():
        for requests, row in by_size.items():
            words = [f"{row['coverage'].get(p, float('nan')):.3f} ({held:.2f})" for p, held in row["withheld"].items()]
            print(f"{name:<12} {share:>4} {requests:>5}  " + "  ".join(words))
    for (name, share), by_size in falsely_met.items():
        words = ", ".join(f"{requests}: {times:.3f}" for requests, times in by_size.items())
        print(f"{name:<12} {share:>4} meets its own p99 as a goal, by requests  {words}")
    for name, by_goal in capacity.items():
        for times, row in by_goal.items():
            print(f"{name:<12} goal {times} × unloaded: " + ", ".join(f"{key} {value:g}" for key, value in row.items()))
    told.out.parent.mkdir(parents=True, exist_ok=True)
    whole = as_json(found, told.runs) | of_capacity(falsely_met, capacity)
    told.out.write_text(json.dumps(whole, indent=1), encoding="utf-8")


def falsely(name: str, share: float, runs: int) -> dict[str, float]:
    """Return how often the rule says "meets" where the goal is the true p99."""
    return false_meets(QUEUES[name], share, truth(QUEUES[name], share)[-1], runs)


def of_capacity(
    falsely_met: dict[tuple[str, float], dict[str, float]], capacity: dict[str, dict[str, dict[str, float]]]
) -> dict[str, object]:
    """Return the figures of capacity: the worst length of each utilisation, the share of searches near it."""
    usual = {str(share): max(rows.values()) for (name, share), rows in falsely_met.items() if name == USUAL}
    others = {f"{name} {share}": rows for (name, share), rows in falsely_met.items() if name != USUAL}
    within = [row["capacity_within_5pct"] for row in capacity.get(USUAL, {}).values()]
    near = {"capacity_within_5pct": min(within)} if within else {}
    return {"false_meets": usual, "other_false_meets": others, **near, "searches": capacity}


def as_json(found: dict[tuple[str, float], dict[str, dict[str, dict[str, float]]]], runs: int) -> dict[str, object]:
    """Return the figures of the usual queue by utilisation, number of requests and percentile, then the others'."""
    usual = {str(share): rows for (name, share), rows in found.items() if name == USUAL}
    others: dict[str, dict[str, object]] = {}
    for (name, share), rows in found.items():
        if name != USUAL:
            others.setdefault(name, {})[str(share)] = rows
    of = {key: {share: {n: row[key] for n, row in rows.items()} for share, rows in usual.items()} for key in KEYS}
    return {"runs": runs, **of, "other_queues": others}


if __name__ == "__main__":
    main()
