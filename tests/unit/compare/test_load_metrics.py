"""Ratios of a load's metrics, from blocks of the same arrivals."""

from __future__ import annotations

import math
import random

import pytest

from pytest_torchserve.compare.comparison import Verdict, judge, more_seconds, quantity
from pytest_torchserve.compare.intervals import Interval
from pytest_torchserve.compare.load_metrics import LoadMetric, load_ratio, sections
from pytest_torchserve.measure.blocks import ArmBlock, Block


def arm(draw, slower, requests=250, *, slo_s=0.2, rss=None):
    """Return one arm's part: latencies around 100 ms with a tail."""
    latencies = tuple(slower * (0.08 + draw.expovariate(50)) for _ in range(requests))
    within = sum(latency <= slo_s for latency in latencies)
    return ArmBlock(latencies, requests, within, 50.0, rss)


def blocks(slower=1.0, count=24, seed=1, requests=250, **more):
    """Return blocks of three processes; the candidate takes `slower` times as long."""
    draw = random.Random(seed)
    return [
        Block(index * 3 // count, arm(draw, 1.0, requests, **more), arm(draw, slower, requests, **more))
        for index in range(count)
    ]


def verdict(metric, found, min_effect=0.02, *, by_process=False):
    """Return the verdict on one metric."""
    ratio = load_ratio(metric, found, 0.95, min_effect, by_process=by_process)
    return judge(ratio.interval, min_effect, more_is_better=metric.more_is_better)


@pytest.mark.parametrize("metric", [LoadMetric.P50, LoadMetric.P90, LoadMetric.P99])
def test_a_percentile_that_moves_is_found_and_one_that_does_not_is_no_regression(metric):
    """The estimate is the ratio of both arms' percentiles over all blocks, and lies within its interval."""
    found = load_ratio(metric, blocks(1.2), 0.95, 0.02, by_process=False)
    assert found.candidate / found.baseline == pytest.approx(found.interval.ratio)
    assert found.interval.low < 1.2 < found.interval.high
    assert verdict(metric, blocks(1.2)) is Verdict.REGRESSED
    assert verdict(metric, blocks(1 / 1.2)) is Verdict.IMPROVED
    assert verdict(metric, blocks(1.0)) in (Verdict.UNCHANGED, Verdict.INCONCLUSIVE)


def test_false_alarms_are_as_rare_as_the_interval_says():
    """Of 200 cells of the same code, about five per cent of the 95% intervals leave 1 out, and no more than ten."""
    missed = dict.fromkeys((LoadMetric.P50, LoadMetric.P99), 0)
    for seed in range(200):
        same = blocks(seed=seed, count=12, requests=200)
        for metric in missed:
            interval = load_ratio(metric, same, 0.95, 0.02, by_process=False).interval
            missed[metric] += not interval.low <= 1 <= interval.high
    assert all(count <= 20 for count in missed.values()), missed


def test_of_goodput_less_is_worse():
    """A candidate with fewer answers in time has regressed; one with more has improved."""
    assert verdict(LoadMetric.GOODPUT, blocks(1.2, slo_s=0.12)) is Verdict.REGRESSED
    assert verdict(LoadMetric.GOODPUT, blocks(1 / 1.2, slo_s=0.12)) is Verdict.IMPROVED


def test_all_answers_in_time_is_unchanged():
    """Nothing scatters where every answer is in time; the interval is then as wide as one late answer makes it."""
    found = load_ratio(LoadMetric.GOODPUT, blocks(slo_s=9.0), 0.95, 0.02, by_process=False)
    assert found.interval.ratio == 1
    assert found.interval.low < 1 < found.interval.high
    assert verdict(LoadMetric.GOODPUT, blocks(slo_s=9.0)) is Verdict.UNCHANGED


def test_no_answer_in_time_is_the_worst_of_all():
    """A candidate without a single answer in time has regressed; half an answer stands for none."""
    late = [Block(b.process, b.baseline, arm(random.Random(1), 9.0)) for b in blocks()]
    found = load_ratio(LoadMetric.GOODPUT, late, 0.95, 0.02, by_process=False)
    assert found.interval.ratio < 0.001
    assert verdict(LoadMetric.GOODPUT, late) is Verdict.REGRESSED
    assert verdict(LoadMetric.GOODPUT, blocks(slo_s=0.0)) is Verdict.UNCHANGED


def test_a_tail_needs_its_requests():
    """A p99 with six values beyond it in one section only has no interval, and says so."""
    found = load_ratio(LoadMetric.P99, blocks(count=6, requests=110), 0.95, 0.02, by_process=False)
    assert found.interval.low is None
    assert found.why == "660 requests an arm are enough for 1 of 3 sections: --ts-baseline-seconds"


def test_in_rounds_a_round_is_a_section():
    """Two processes of the same code differ by more than their blocks do."""
    rounds = sections(LoadMetric.P50, blocks(count=24), by_process=True)
    assert [len(part) for part in rounds] == [8, 8, 8]
    assert len(sections(LoadMetric.P50, blocks(count=24), by_process=False)) == 6


def test_rounds_of_few_requests_are_joined():
    """The largest of ten requests is no p99: rounds make one section until six requests lie beyond the percentile."""
    small = [Block(number, *(arm(random.Random(number + seed), 1.0, 40) for seed in (0, 100))) for number in range(20)]
    assert len(sections(LoadMetric.P50, small, by_process=True)) == 20
    assert [len(part) for part in sections(LoadMetric.P90, small, by_process=True)] == [2] * 10
    assert [len(part) for part in sections(LoadMetric.P99, small, by_process=True)] == [20]
    assert load_ratio(LoadMetric.P99, small, 0.95, 0.02, by_process=True).interval.low is None


def test_memory_is_known_in_rounds_only():
    """One process that holds both arms does not tell whose its memory is."""
    alone = load_ratio(LoadMetric.MEMORY, blocks(), 0.95, 0.02, by_process=False)
    assert (alone.baseline, alone.candidate) == (None, None)
    in_rounds = load_ratio(LoadMetric.MEMORY, blocks(rss=100), 0.95, 0.02, by_process=True)
    assert in_rounds.interval.ratio == 1


@pytest.mark.parametrize(
    ("ratio", "half", "expected"),
    [
        (1.0, 2 * math.log(1.02), 3.0),  # twice as wide as it may be: four times the time
        (1.1, 3 * math.log(1.1), 8.0),
        (1.0, 0.5 * math.log(1.02), None),
    ],
)
def test_how_much_more_time_would_tell(ratio, half, expected):
    """The half-width shrinks with the square root of the time, until one verdict is out of the question."""
    found = Interval(ratio, math.exp(math.log(ratio) - half), math.exp(math.log(ratio) + half), 0.1, 5)
    assert more_seconds(found, 0.02, 1.0) == (None if expected is None else pytest.approx(expected))


def test_units():
    """Each figure is shown in the unit that people read."""
    assert [quantity(0.1234, "s"), quantity(50.0, "1/s"), quantity(0.998, ""), quantity(2**20, "bytes")] == [
        "123.4 ms",
        "50/s",
        "99.8%",
        "1 MiB",
    ]
