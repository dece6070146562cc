"""When a server is warm."""

from __future__ import annotations

import random

import pytest

from pytest_torchserve.measure import validity
from pytest_torchserve.measure.warm_up import ServerWarmUp, truncation


def series(batch_s, count, scatter=0.1, seed=1):
    """Return times that scatter by this share around `batch_s(index)`."""
    chance = random.Random(seed)
    return [batch_s(index) * chance.lognormvariate(0, scatter) for index in range(count)]


def warmed(times_s, budget_s=10.0):
    """Return the warm-up after as many of these batches as it takes."""
    warm_up = ServerWarmUp(budget_s)
    for time_s in times_s:
        warm_up.add(time_s)
        if warm_up.done:
            break
    return warm_up


@pytest.mark.parametrize("seed", range(20))
def test_the_slow_beginning_is_cut(seed):
    """Of 400 batches the first 100 take twice as long: these are cut, and no more for one that is doubled."""
    times_s = series(lambda index: 0.02 if index < 100 else 0.01, 400, seed=seed)
    times_s[250] *= 2
    cut, steady = truncation(times_s)
    assert steady
    assert cut in range(95, 151)


def test_a_steady_series_is_left_alone():
    """Of 40 series in which nothing changes at most four lose more than a third; one of equal values loses nothing."""
    told = [truncation(series(lambda _: 0.01, 60, seed=seed)) for seed in range(40)]
    assert sum(not steady or cut > 20 for cut, steady in told) <= 4
    assert truncation([0.01] * 60) == (0, True)


@pytest.mark.parametrize("count", [10, 33, 60, 400])
def test_a_series_that_gets_faster_to_its_end_is_not_steady(count):
    """All that may be cut is cut, and that is not enough."""
    cut, steady = truncation(series(lambda index: 0.1 * 0.01 ** (index / count), count))
    assert not steady
    assert cut <= count / 2


def test_a_jvm_that_compiles_is_waited_for():
    """Batches get six times faster within some four seconds: the warm-up lasts for most of them, and ends steady."""
    warm_up = warmed(series(lambda index: 0.005 if index > 250 else 0.03 - index * 0.025 / 250, 5000, 0.01))
    assert warm_up.steady
    assert 3 < warm_up.spent_s < 8
    assert validity.still_warming_up(warm_up) is None


def test_a_server_that_gets_faster_without_end_is_told():
    """The budget bounds a warm-up; a server that is not steady then makes the run INVALID in those words."""
    warm_up = warmed(series(lambda index: 0.05 * 0.98**index, 5000, 0.01), budget_s=2.0)
    assert warm_up.steady is False
    assert warm_up.spent_s >= 2.0
    said = validity.still_warming_up(warm_up)
    assert said == f"the server was still warming up: after {warm_up.batches} batches in {warm_up.spent_s:.3g} s"


def test_batches_too_long_to_tell():
    """Three batches of half a second say nothing about a JVM's milliseconds, and are enough."""
    warm_up = warmed([0.5] * 100)
    assert (warm_up.batches, warm_up.steady) == (3, None)
    assert warm_up.report() == {"batches": 3, "seconds": 1.5, "steady": None}
    assert validity.still_warming_up(warm_up) is None


def test_a_server_that_does_not_answer():
    """No answer to a warm-up is a reason of its own."""
    assert validity.still_warming_up(ServerWarmUp(answered=False)) == "the server did not answer its warm-up"
