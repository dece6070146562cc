"""Ratios of what users feel under load, with intervals: percentiles of latency, throughput, goodput, memory.

Requests of one block share a queue, so a request is no sample. The estimate of a ratio comes from all blocks together,
its scatter from a few *sections* of consecutive blocks, as the scatter of `queue_percentiles` does (sectioning:
Asmussen and Glynn, Stochastic Simulation, 2007, III.5): Student's interval over the sections' log-ratios. Both arms of
a block get the same arrivals: what these do to a percentile they do to both, and it cancels in the ratio.

Where each arm has processes of its own, a section is a round of processes: two processes of the same code differ by
more than their blocks. Where one process holds both arms, the bias of a process is added (`intervals.BIAS`).
"""

from __future__ import annotations

import itertools
import math
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pytest_torchserve.compare.intervals import BIAS, Interval, around
from pytest_torchserve.measure.cell import FEWEST_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.measure.blocks import ArmBlock, Block

_MOST_SECTIONS = 6
_BEYOND = 6
"""Requests of a section beyond its percentile."""


class LoadMetric(StrEnum):
    """What is compared of a load, and of a search for capacity."""

    P50 = "p50"
    P90 = "p90"
    P99 = "p99"
    THROUGHPUT = "throughput"
    GOODPUT = "goodput"
    MEMORY = "worker memory"
    CAPACITY = "capacity"

    @property
    def more_is_better(self) -> bool:
        """True where a candidate with more is the better one."""
        return self in (LoadMetric.THROUGHPUT, LoadMetric.GOODPUT, LoadMetric.CAPACITY)

    @property
    def unit(self) -> str:
        """The unit of the figure: `s`, `1/s`, `bytes`, or '' for a share."""
        rates = {LoadMetric.THROUGHPUT: "1/s", LoadMetric.CAPACITY: "1/s"}
        return {**rates, LoadMetric.GOODPUT: "", LoadMetric.MEMORY: "bytes"}.get(self, "s")


OF_LOAD = tuple(metric for metric in LoadMetric if metric is not LoadMetric.CAPACITY)
"""The metrics of a load."""

GATING = (LoadMetric.P50, LoadMetric.P99, LoadMetric.GOODPUT)
"""The metrics of a load that decide the verdict."""

_PERCENTILE = {LoadMetric.P50: 0.5, LoadMetric.P90: 0.9, LoadMetric.P99: 0.99}


class LoadRatio(NamedTuple):
    """One metric of both arms.

    Attributes:
        baseline, candidate: the figure over all blocks; None where there is none.
        interval: of candidate ÷ baseline; `processes` counts sections.
        why: why there is no interval.
    """

    baseline: float | None
    candidate: float | None
    interval: Interval
    why: str = ""


def load_ratio(
    metric: LoadMetric, blocks: Sequence[Block], confidence: float, min_effect: float, *, by_process: bool
) -> LoadRatio:
    """Return the ratio of one metric, and its interval at this confidence.

    Args:
        by_process: whether each arm had processes of its own, a pair of them for each round.
    """
    old, new = _both(metric, blocks)
    parts = sections(metric, blocks, by_process=by_process)
    if not old or not new:
        return LoadRatio(old, new, Interval(None, None, None, None, len(parts)), "one of the arms has no such figure")
    middle = math.log(new / old)
    apart = [one - middle for part in parts if (one := _log_ratio(metric, part)) is not None]
    if len(apart) < FEWEST_SAMPLES:
        why = (
            f"{_sample(blocks, metric)} are enough for {len(apart)} of {FEWEST_SAMPLES} sections: --ts-baseline-seconds"
        )
        return LoadRatio(old, new, Interval(math.exp(middle), None, None, None, len(apart)), why)
    n = len(apart)
    variance = sum(one**2 for one in apart) / (n - 1) / n
    if not by_process:
        variance += BIAS**2 / len({block.process for block in blocks}) if metric in _PERCENTILE else 0.0
    if metric is LoadMetric.GOODPUT:
        # Where every answer is in time in both arms nothing scatters, and yet one in so many may come late.
        variance = max(variance, 1 / sum(block.candidate.asked for block in blocks) ** 2)
    return LoadRatio(old, new, around(middle, math.sqrt(variance), n - 1, n, confidence, min_effect))


def figure(metric: LoadMetric, arms: Sequence[ArmBlock]) -> float | None:
    """Return one metric over the blocks of one arm; None where nothing is known."""
    import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected

    if metric in _PERCENTILE:
        values = [latency for arm in arms for latency in arm.latencies_s]
        return float(np.quantile(values, _PERCENTILE[metric], method="weibull")) if values else None
    if metric is LoadMetric.GOODPUT:
        asked = sum(arm.asked for arm in arms)
        # Where none was in time, half a request is: a share of nothing has no ratio, and is the worst of all.
        return max(0.5, sum(arm.within_slo for arm in arms)) / asked if asked else None
    name = "throughput_per_s" if metric is LoadMetric.THROUGHPUT else "rss_bytes"
    found = [value for arm in arms if (value := getattr(arm, name)) is not None]
    return sum(found) / len(found) if found else None


def sections(metric: LoadMetric, blocks: Sequence[Block], *, by_process: bool) -> list[list[Block]]:
    """Return consecutive blocks in sections: a round of processes each, or so many that some values are beyond p."""
    if by_process:
        return _rounds(metric, blocks)
    most = min(_MOST_SECTIONS, len(blocks))
    if metric in _PERCENTILE:
        most = min(most, int(_beyond(metric, blocks) / _BEYOND + 1e-9))
    if most < 1:
        return []
    edges = [round(index * len(blocks) / most) for index in range(most + 1)]
    return [list(blocks[start:end]) for start, end in itertools.pairwise(edges)]


def _rounds(metric: LoadMetric, blocks: Sequence[Block]) -> list[list[Block]]:
    """Return a section for each round of processes, or for so many rounds that enough values are beyond p."""
    rounds: dict[int, list[Block]] = {}
    for block in blocks:
        rounds.setdefault(block.process, []).append(block)
    found: list[list[Block]] = []
    section: list[Block] = []
    for of_round in rounds.values():
        section = [*section, *of_round]
        if metric not in _PERCENTILE or _beyond(metric, section) >= _BEYOND - 1e-9:
            found.append(section)
            section = []
    if found:
        found[-1] = [*found[-1], *section]
    return found


def _beyond(metric: LoadMetric, blocks: Sequence[Block]) -> float:
    """Return how many requests lie beyond the percentile, in the arm that has fewer."""
    counts = (sum(len(getattr(block, arm).latencies_s) for block in blocks) for arm in ("baseline", "candidate"))
    return min(counts) * (1 - _PERCENTILE[metric])


def _log_ratio(metric: LoadMetric, blocks: Sequence[Block]) -> float | None:
    """Return log(candidate ÷ baseline) of one section; None where an arm has no such figure."""
    old, new = _both(metric, blocks)
    return math.log(new / old) if old and new else None


def _both(metric: LoadMetric, blocks: Sequence[Block]) -> tuple[float | None, float | None]:
    """Return the figure of the baseline and of the candidate over these blocks."""
    return figure(metric, [block.baseline for block in blocks]), figure(metric, [block.candidate for block in blocks])


def _sample(blocks: Sequence[Block], metric: LoadMetric) -> str:
    """Return in words what there is to compare."""
    if metric in _PERCENTILE:
        return f"{sum(len(block.candidate.latencies_s) for block in blocks)} requests an arm"
    return f"{len(blocks)} blocks"
