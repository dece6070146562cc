"""Intervals of percentiles for requests that share a queue."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_torchserve import stats
from pytest_torchserve.queue_percentiles import correlation_time, queue_percentiles, relaxation, sections

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "qualify"))

from batch_queue import BatchQueue


def interval(values, p=0.5, **rest):
    """Return the interval of one percentile."""
    (found,) = queue_percentiles(values, ps=(p,), **rest).quantiles
    return found


def test_independent_requests_count_in_full():
    """Independent values are as many as there are; each percentile is the usual one, within its interval."""
    chance = random.Random(7)
    values = [chance.expovariate(1.0) for _ in range(5000)]
    found = queue_percentiles(values)
    assert found.effective_size > 0.6 * len(values)
    assert [q.name for q in found.quantiles] == ["p50", "p90", "p99", "p99.9"]
    assert [q.value for q in found.quantiles] == [stats.percentile(values, q.p) for q in found.quantiles]
    assert all(0 < q.low < q.value < q.high for q in found.quantiles)


def test_requests_of_one_batch_count_once():
    """Where ten neighbours have one value, a tenth is independent, and the interval is wider than it would be."""
    chance = random.Random(3)
    values = [value for value in (chance.uniform(1, 2) for _ in range(300)) for _ in range(10)]
    mixed = chance.sample(values, len(values))
    assert correlation_time(np.array(values), 0.5) == pytest.approx(10, rel=0.3)
    assert queue_percentiles(values).effective_size == pytest.approx(300, rel=0.3)
    together, apart = interval(values), interval(mixed)
    assert together.value == apart.value
    assert math.log(together.high / together.low) > 1.5 * math.log(apart.high / apart.low)


def test_near_saturation_a_run_says_less_than_it_shows():
    """What utilisation says of a queue's memory counts where the run's own values show less of it."""
    chance = random.Random(5)
    values = [chance.uniform(1, 2) for _ in range(2000)]
    quiet, busy, full = (queue_percentiles(values, share) for share in (0.2, 0.9, 1.2))
    assert [q.name for q in quiet.quantiles] == ["p50", "p90", "p99"]
    assert [q.name for q in busy.quantiles] == [q.name for q in full.quantiles] == ["p50", "p90"]
    assert busy.effective_size == pytest.approx(2000 / 162)
    assert quiet.effective_size > busy.effective_size > full.effective_size == 0
    assert busy.quantiles[0].high - busy.quantiles[0].low > quiet.quantiles[0].high - quiet.quantiles[0].low


def test_relaxation_is_whitts():
    """2 (u ÷ (1 - u))² requests, at least one, without end from saturation on; one where nothing is known."""
    assert relaxation(0.8) == pytest.approx(32)
    assert relaxation(0.9) == pytest.approx(162)
    assert [relaxation(share) for share in (None, 0.0, 0.3, 1.0, 1.5)] == [1, 1, 1, math.inf, math.inf]


@pytest.mark.parametrize(
    ("n", "p", "effective", "wanted"),
    [
        (5000, 0.5, 5000, 6),
        (5000, 0.99, 5000, 6),
        (400, 0.99, 400, 4),
        (36, 0.9, 36, 3),
        (5000, 0.5, 30, 2),
        (6, 0.5, 0, 2),
    ],
)
def test_sections(n, p, effective, wanted):
    """A section has twelve correlation times and a value beyond the quantile; there are two to six."""
    assert sections(n, p, effective) == wanted


def test_too_few_and_odd_values():
    """None of nothing and of five values; equal values have an interval without width; no number overflows."""
    assert queue_percentiles([]).quantiles == ()
    assert queue_percentiles([1.0] * 5).quantiles == ()
    same = interval([0.25] * 50)
    assert (same.low, same.value, same.high) == pytest.approx((0.25, 0.25, 0.25))
    wild = interval([1e-9] * 25 + [1e9] * 25)
    assert 1e-9 == wild.low <= wild.value <= wild.high == pytest.approx(1e10)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_truth_is_in_nearly_every_interval(share):
    """Of 60 runs of a batching queue the 95% intervals of p50 and p90 hold the true value in 52 at least.

    Were the coverage the 0.80 of intervals for independent requests, so many would be a chance of one in sixty.
    """
    queue = BatchQueue()
    rate = share * queue.capacity_per_s
    true = np.quantile(queue.run(rate, 400_000, np.random.default_rng(0)).latency_s[6000:], (0.5, 0.9))
    held = np.zeros(2)
    for seed in range(1, 61):
        values = queue.run(rate, 7377, np.random.default_rng(seed)).latency_s[6000:].tolist()
        found = queue_percentiles(values, share, (0.5, 0.9)).quantiles
        held += [q.low <= value <= q.high for q, value in zip(found, true, strict=True)]
    assert held.min() >= 52
