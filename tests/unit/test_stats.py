"""Statistics of samples: percentiles, confidence intervals, precision and the spread between processes."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter

import pytest

from pytest_torchserve import stats


@pytest.mark.parametrize(("p", "least"), [(0.5, 6), (0.9, 36), (0.99, 368), (0.999, 3688)])
def test_a_percentile_needs_its_sample(p, least):
    """A percentile is computed from its least number of values, and not from one value fewer."""
    assert stats.percentile(range(least - 1), p) is None
    assert stats.percentile(range(least), p) is not None


def test_percentile_interpolates():
    """A percentile is interpolated between the two nearest order statistics, as numpy's default does."""
    values = [float(value) for value in range(101)]
    random.Random(1).shuffle(values)
    assert stats.percentile(values, 0.9) == pytest.approx(90.0)
    assert stats.percentile([*values, 101.0], 0.5) == pytest.approx(50.5)


def test_percentile_of_nothing():
    """Without values there is no percentile."""
    assert stats.percentile([], 0.5) is None


def test_median_interval_is_exact_for_six():
    """Six values enclose the median with 1 - 2/64 > 95%, five do not."""
    assert stats.median_interval([3, 1, 2, 5, 4, 6]) == (1, 6)
    assert stats.median_interval([1, 2, 3, 4, 5]) is None


@pytest.mark.parametrize("n", [20, 50, 51, 200])
def test_median_interval_covers(n):
    """At least 93% of the intervals (95% less the noise of 2,000 trials) contain the true median, and not all do."""
    rng = random.Random(n)
    hits = 0
    for _ in range(2000):
        low, high = stats.median_interval([rng.expovariate(1) for _ in range(n)])
        hits += low <= 0.6931471805599453 <= high
    assert 0.93 < hits / 2000 < 0.995


def test_precision_ignores_the_spread_between_processes():
    """Two processes with little scatter are precise although their medians differ: the spread is a separate figure."""
    rng = random.Random(2)
    by_process = {1: [1 + rng.gauss(0, 0.01) for _ in range(50)], 2: [1.5 + rng.gauss(0, 0.01) for _ in range(50)]}
    assert stats.precision(by_process) < 0.01
    assert stats.process_spread(by_process) == pytest.approx(0.4, rel=0.1)


def test_precision_is_that_of_the_worst_process():
    """The process with the widest interval sets the precision; a process with too few values leaves it unknown."""
    rng = random.Random(3)
    wide = [rng.uniform(1, 3) for _ in range(20)]
    low, high = stats.median_interval(wide)
    middle = statistics.median(wide)
    assert stats.precision({1: [1.0] * 500, 2: wide}) == pytest.approx(max(high / middle - 1, 1 - low / middle))
    assert stats.precision({1: [1.0] * 500, 2: [1.0] * 5}) is None
    assert stats.precision({}) is None


def test_two_batches_are_no_median():
    """The spread between processes is unknown where a process has too few values for a reliable median."""
    assert stats.process_spread({1: [1.0] * 5, 2: [2.0] * 4}) is None
    assert stats.process_spread({1: [1.0] * 5, 2: [2.0] * 5}) == pytest.approx(2 / 3)


def test_spread_of_one_process_is_unknown():
    """A single process gives no spread between processes, however many values it has."""
    assert stats.process_spread({1: [1.0, 2.0] * 50}) is None


def test_intervals_of_percentiles_cover():
    """At least 92% of the 95% intervals of exponential samples contain the true p50, p90 and p99, and not all do."""
    rng = random.Random(3)
    trials, hits = 200, Counter()
    for _ in range(trials):
        for found in stats.quantiles([rng.expovariate(1) for _ in range(1000)]):
            hits[found.name] += found.low <= -math.log(1 - found.p) <= found.high
    assert set(hits) == {"p50", "p90", "p99"}
    assert all(0.92 < count / trials < 1.0 for count in hits.values())
