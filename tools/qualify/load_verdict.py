"""Whether verdicts on a load hold, on simulated queues: false ones, and planted changes that are found.

A cell is what `--ts-baseline` measures in four minutes: blocks of five seconds, the same arrivals for both arms, and
service times of their own. Each worker process has a bias between its arms. A change is planted outside the handler's
methods: it adds to every request's latency, 1.5 times the change that such cells say they could detect. Writes
build/bench/load_verdict.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from batch_queue import BatchQueue, serve

from pytest_torchserve.compare.comparison import Verdict, judge
from pytest_torchserve.compare.intervals import BIAS
from pytest_torchserve.compare.load_metrics import GATING, LoadMetric, load_ratio
from pytest_torchserve.measure.blocks import ArmBlock, Block

QUEUE = BatchQueue()
SHARES = (0.2, 0.5, 0.8)
PROCESSES = 5
BLOCKS = 4
"""Of each process: 4 minutes less five starts, in blocks of twice five seconds."""

BLOCK_S = 5.0
SLO_S = 0.25
MIN_EFFECT = 0.02
OVER_DETECTABLE = 1.5


def cell(share: float, added_s: float, seed: int) -> list[Block]:
    """Return the blocks of one cell in which the candidate's requests take `added_s` longer."""
    rng = np.random.default_rng(seed)
    found = []
    for process in range(PROCESSES):
        bias = float(np.exp(BIAS * rng.standard_normal()))
        for _ in range(BLOCKS):
            requests = rng.poisson(share * QUEUE.capacity_per_s * BLOCK_S)
            due = np.sort(rng.uniform(0, BLOCK_S, max(2, requests)))
            arms = [arm(due, slower, extra, rng) for slower, extra in ((1.0, 0.0), (bias, added_s))]
            found.append(Block(process, *arms))
    return found


def arm(due_s: np.ndarray, slower: float, added_s: float, rng: np.random.Generator) -> ArmBlock:
    """Return one arm's part of a block."""
    noise = np.maximum(0.3, 1 + (QUEUE.noise or 0.0) * rng.standard_normal(len(due_s)))

    def service_s(number: int, size: int) -> float:
        return float((QUEUE.per_batch_s + QUEUE.per_request_s * size) * noise[number] * slower)

    latencies = serve(due_s, QUEUE.size, QUEUE.delay_s, service_s).latency_s + added_s
    return ArmBlock(tuple(latencies.tolist()), len(due_s), int((latencies <= SLO_S).sum()))


def judged(share: float, added_s: float, seed: int) -> dict[str, tuple[str, float, float]]:
    """Return, for each gating metric of one cell, its verdict, its detectable change and its figure."""
    blocks, told = cell(share, added_s, seed), {}
    for metric in GATING:
        found = load_ratio(metric, blocks, 1 - 0.05 / len(GATING), MIN_EFFECT, by_process=False)
        verdict = judge(found.interval, MIN_EFFECT, more_is_better=metric.more_is_better)
        told[metric.value] = (verdict.value, found.interval.detectable or 0.0, found.baseline or 0.0)
    return told


def main() -> None:
    """Simulate the cells, and print shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    cells, result = parser.parse_args().cells, {}
    with ProcessPoolExecutor() as pool:
        for share in SHARES:
            null = list(pool.map(partial(judged, share, 0.0), range(cells)))
            row: dict[str, float] = {}
            for metric in GATING:
                name = metric.value
                verdicts = [told[name][0] for told in null]
                row[f"{name}_false"] = sum(one in (Verdict.REGRESSED, Verdict.IMPROVED) for one in verdicts) / cells
                row[f"{name}_detectable"] = statistics.median(told[name][1] for told in null)
                if metric is LoadMetric.GOODPUT:
                    continue
                figure_s = statistics.median(told[name][2] for told in null)
                added_s = OVER_DETECTABLE * row[f"{name}_detectable"] * figure_s
                planted = pool.map(partial(judged, share, added_s), range(cells, 2 * cells))
                row[f"{name}_found"] = sum(told[name][0] == Verdict.REGRESSED for told in planted) / cells
            result[str(share)] = row
            print(share, {name: round(value, 4) for name, value in row.items()}, flush=True)
    out = Path("build/bench/load_verdict.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"cells": cells, **result}, indent=2))


if __name__ == "__main__":
    main()
