"""The search for the highest rate: the rule, the bracketing, and a queue whose capacity is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import optimize

from fakes import FakeMonitor, silent
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.measure import Budget, Cell, Context, measure_capacity
from pytest_torchserve.measure.bisection import CLOSE_ENOUGH, MOST_STEPS, search
from pytest_torchserve.measure.early_stopping import EarlyAbort, Outcome, decidable_goal, decide, least_sample
from pytest_torchserve.telemetry.monitor import Telemetry


@pytest.mark.parametrize(("p", "least"), [(0.99, 459), (0.95, 90), (0.9, 44), (0.5, 7)])
def test_the_least_sample(p, least):
    """LoadGen's least sample, with no request over the goal, decides; one request fewer is too few."""
    assert least_sample(p) == least
    assert decide(least, 0, p) is Outcome.MEETS
    assert decide(least - 1, 0, p) is Outcome.UNDECIDED


def test_the_rule_both_ways():
    """The outcome is MEETS well below the allowed share of slow requests, MISSES well above, and else UNDECIDED."""
    assert decide(2000, 8, 0.99) is Outcome.MEETS
    assert decide(2000, 20, 0.99) is Outcome.UNDECIDED
    assert decide(2000, 40, 0.99) is Outcome.MISSES
    assert decide(0, 0, 0.99) is Outcome.UNDECIDED


def test_a_small_budget_judges_a_lower_percentile():
    """The goal is p99 where its least sample can be had with some to spare, else p95, p90 or the median."""
    assert [decidable_goal(n) for n in (1377, 1376, 270, 132, 10)] == [0.99, 0.95, 0.95, 0.9, 0.5]


@pytest.mark.parametrize("capacity", [3.0, 47.0, 50.0, 311.0])
@pytest.mark.parametrize("guess", [1.0, 50.0, 1000.0])
def test_the_search_closes_in(capacity, guess):
    """From a guess below, above or far off, the last two rates enclose the capacity within a tenth."""
    probed = []

    def probe(rate):
        probed.append(rate)
        return Outcome.MEETS if rate <= capacity else Outcome.MISSES

    meets, misses = search(probe, guess)
    assert meets <= capacity < misses
    assert misses / meets <= CLOSE_ENOUGH
    assert len(set(probed)) == len(probed)


def test_a_search_that_does_not_close_in_ends():
    """The search ends after `MOST_STEPS` probes where the capacity is out of reach of the guess.

    No rate that misses the goal is returned.
    """
    probed = []
    assert search(lambda rate: probed.append(rate) or Outcome.MEETS, 1.0) == (max(probed), None)
    assert len(probed) == MOST_STEPS


def test_nothing_meets():
    """A search without a rate that meets the goal ends, and returns none."""
    probed = []
    meets, misses = search(lambda rate: probed.append(rate) or Outcome.UNDECIDED, 100.0, lowest_per_s=5.0)
    assert meets is None
    assert misses == min(probed)
    assert 5.0 <= misses < 50.0


def found(queue, cat, **budget):
    """Return the run of a capacity measurement of the queue."""
    cell = Cell("capacity", Deployment(cat.artifacts.model, "cpu", Batching(1, 0)))
    told = {"slo_s": 0.1, "capacity_seconds": 60.0} | budget
    return measure_capacity(queue, cell, Context(cat, Budget(**told), silent, queue.monitor))


def true_capacity(service_s, slo_s, p):
    """Return the rate at which the queue's p-quantile of latency is the goal, by a long Lindley recursion."""
    gaps = np.random.default_rng(1).exponential(1.0, 1_000_000)

    def over(rate):
        walk = np.cumsum(service_s - gaps / rate)
        waits = walk - np.minimum.accumulate(np.minimum(walk, 0.0))
        return (waits + service_s > slo_s).mean()

    return optimize.brentq(lambda rate: over(rate) - (1 - p), 0.1 / service_s, 0.99 / service_s)


def test_the_capacity_of_a_known_queue(make_queue, cat):
    """With a service time of 10 ms, Poisson arrivals and a p99 goal of 100 ms the search ends near the true rate.

    The result is above the true rate by at most the search's own step, and below by at most a quarter: the rule is
    cautious, and the requests of a queue are not independent.
    """
    truth = true_capacity(0.01, 0.1, 0.99)
    run = found(make_queue(0.01), cat)
    capacity = run.capacity
    assert capacity.goal == 0.99
    assert 0.75 <= capacity.rate_per_s / truth <= CLOSE_ENOUGH
    assert capacity.rate_per_s < capacity.missed_per_s
    rates = [step.rate_per_s for step in capacity.steps]
    assert rates == sorted(rates)
    p50 = [step.p50_s for step in capacity.steps if step.p50_s]
    assert p50[0] < p50[-1]  # nearer to saturation


def test_a_goal_below_the_service_time_has_no_capacity(make_queue, cat):
    """No rate meets a goal of 5 ms with a service time of 10 ms."""
    run = found(make_queue(0.01), cat, slo_s=0.005)
    assert run.capacity.rate_per_s is None
    assert run.capacity.steps
    assert all(step.outcome is not Outcome.MEETS for step in run.capacity.steps)


def test_wrong_answers_do_not_meet(make_queue, cat):
    """A wrong answer counts as over the goal, even in time.

    Rates with wrong answers miss the goal, and the run names the wrong answers.
    """
    run = found(make_queue(0.001, wrong_above=200.0), cat)
    assert run.capacity.rate_per_s <= 200.0
    assert any("answers were wrong" in reason for reason in run.invalid)


def test_a_rate_that_is_refused_is_missed(make_queue, cat):
    """503s of a full queue show that the rate is too high: they are counted and reported, and the run is VALID."""
    run = found(make_queue(0.001, refused_above=200.0), cat)
    assert 150 < run.capacity.rate_per_s <= 200.0
    assert run.errors["HTTP 503"] >= 10
    assert run.failed
    assert run.invalid == ()


def test_a_server_that_refuses_everything_has_no_capacity_to_tell(make_queue, cat):
    """A run is INVALID and has no samples where errors are the reason that no rate meets the goal.

    The reason names the kind of error and its count.
    """
    run = found(make_queue(0.001, refused_above=0.0), cat)
    assert run.capacity.rate_per_s is None
    assert any(": HTTP 503 × " in reason for reason in run.invalid)
    assert run.seconds == {}


def test_what_is_told_of_the_machine_is_of_the_rate_that_is_told(make_queue, cat):
    """Telemetry is that of the probe whose samples are kept, not that of the last probe."""
    queue, rates = make_queue(0.001, refused_above=150.0), []
    play = queue.send

    def send(load, *others):
        if isinstance(load, Poisson):
            rates.append(load.rate_per_s)
        play(load, *others)

    def between(start_ns):
        return Telemetry(
            window_s=rates[-1], processors=2, cores={}, rss_bytes={}, other_processes_cpu=0.0, stolen_cpu=0.0
        )

    queue.send, queue.monitor = send, SimpleNamespace(snapshot=lambda: 0, between=between)
    run = found(queue, cat)
    assert run.telemetry.window_s == run.capacity.rate_per_s != rates[-1]


@pytest.mark.parametrize("disturbed", ["late", "other processes"])
def test_a_disturbed_probe_is_invalid(make_queue, cat, disturbed):
    """A late client, or other processes, at the rates that enclose the capacity make the run INVALID."""
    queue = make_queue(0.01, late_s=0.005 if disturbed == "late" else 0.0)
    if disturbed == "other processes":
        busy = Telemetry(window_s=1.0, processors=2, cores={}, rss_bytes={}, other_processes_cpu=0.4, stolen_cpu=0.0)
        queue.monitor = FakeMonitor(busy)
    run = found(queue, cat)
    words = {"late": "the sender was late", "other processes": "other processes used the machine: 40% of the CPU"}[
        disturbed
    ]
    assert any(words in reason for reason in run.invalid)


def test_a_probe_ends_when_it_is_lost(make_response):
    """A probe is aborted once more requests are over the goal than are allowed in the whole probe.

    From then on no request is sent or waited for.
    """
    aborts = EarlyAbort(0.1, 0.99, 1000)
    slow = make_response(sent_s=0.0, done_s=0.2)
    fed = next(count for count in range(1, 1000) if aborts([slow]))
    assert 10 < fed < 30
