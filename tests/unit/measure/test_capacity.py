"""The search for the highest rate: the rule, the bracketing, and a queue whose capacity is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from scipy import optimize

from fakes import FakeMonitor, silent
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.measure import Budget, Cell, Context, capacity_search, measure_capacity
from pytest_torchserve.measure.capacity_plan import MOST_PROBES, CapacityPlan, settling_requests
from pytest_torchserve.measure.capacity_rule import (
    EarlyAbort,
    Judged,
    Outcome,
    as_latency_s,
    decidable_goal,
    judge,
    least_sample,
    missed_s,
)
from pytest_torchserve.queue_percentiles import relaxation
from pytest_torchserve.telemetry.monitor import Telemetry


@pytest.mark.parametrize(("p", "least"), [(0.99, 459), (0.95, 90), (0.9, 44), (0.5, 7)])
def test_the_least_sample(p, least):
    """Fewer requests than the least sample decide nothing; so many, all far within the goal, are enough."""
    assert least_sample(p) == least
    even = np.linspace(0.01, 0.011, least)
    assert judge(even, p, 1.0, 0.1).outcome is Outcome.MEETS
    assert judge(even[1:], p, 1.0, 0.1).outcome is Outcome.UNDECIDED


def test_the_rule_both_ways():
    """The outcome is MEETS well below the goal, MISSES well above it, and else UNDECIDED."""
    times = np.random.default_rng(1).exponential(0.02, 3000)
    p99 = float(np.quantile(times, 0.99))
    assert judge(times, 0.99, 1.5 * p99, 0.2).outcome is Outcome.MEETS
    assert judge(times, 0.99, p99, 0.2).outcome is Outcome.UNDECIDED
    assert judge(times, 0.99, 0.5 * p99, 0.2).outcome is Outcome.MISSES


def test_near_saturation_the_same_requests_say_less():
    """The upper limit grows with the utilisation, and there is none at saturation: what a run can miss grows."""
    times = np.random.default_rng(1).exponential(0.02, 3000)
    judged = [judge(times, 0.99, 0.2, use) for use in (0.2, 0.8, 0.9, 0.97, 1.0)]
    limits = [one.upper_s for one in judged]
    assert limits == sorted(limits)
    assert limits[3] > 2 * limits[0]
    assert math.isinf(limits[4])
    assert {one.value_s for one in judged} == {judged[0].value_s}
    assert judged[4].outcome is Outcome.UNDECIDED


def test_failed_requests_are_over_the_goal():
    """One failed request in a hundred and more is what a p99 must not have."""
    fast = [0.01] * 990
    assert judge([*fast, 1.0], 0.99, 0.1, 0.2).value_s < 0.1
    assert judge([*fast, *[1.0] * 30], 0.99, 0.1, 0.2).value_s > 0.1


def test_what_a_request_counts(make_response):
    """A failed or wrong request counts ten times the goal; one given up with its probe, as long as it waited."""
    late, refused = make_response(done_s=0.3), make_response(done_s=0.01, error="HTTP 503", failure=Failure.HTTP)
    given_up = make_response(done_s=0.2, error="given up", failure=Failure.UNANSWERED)
    assert as_latency_s(late, 0.1, right=True) == pytest.approx(0.3)
    assert as_latency_s(late, 0.1, right=False) == pytest.approx(1.0)
    assert as_latency_s(refused, 0.1, right=False) == pytest.approx(1.0)
    assert as_latency_s(given_up, 0.1, right=False) == pytest.approx(0.2)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_probe_that_was_lost_at_once(count):
    """A probe that was broken off after some requests misses the goal."""
    judged = judge([3.0] * count, 0.5, 0.1, 1.2, lost=True)
    assert judged.outcome is Outcome.MISSES
    assert judged.value_s >= 1.0


def test_a_small_budget_judges_a_lower_percentile():
    """The goal is p99 where its least sample can be had with some to spare, else p95, p90 or the median."""
    assert [decidable_goal(n) for n in (1377, 1376, 270, 132, 10)] == [0.99, 0.95, 0.95, 0.9, 0.5]


def searched(percentile, saturation, slo_s, budget_s=600.0):
    """Return the plan of a search whose probes all show exactly `percentile(rate)`, and the probes in their order."""
    plan, probes = CapacityPlan.of(saturation, slo_s, budget_s, 10.0), []
    while (following := plan.next_probe()) is not None:
        rate, seconds = following
        probes.append(following)
        value = percentile(rate)
        size = rate * seconds / relaxation(min(rate / saturation, 0.99))
        margin = missed_s(value / 2, plan.goal, size)
        outcome = Outcome.MEETS if value + margin <= slo_s else Outcome.UNDECIDED
        plan.add(rate, Judged(outcome, value, value + margin, value / 2, size), seconds)
    return plan, probes


def waiting(saturation, unloaded_s=0.02):
    """Return a percentile that grows as the waits of a queue do."""
    return lambda rate: unloaded_s * (1 + 1 / max(1 - rate / saturation, 0.001))


@pytest.mark.parametrize("saturation", [19.0, 50.0, 311.0])
@pytest.mark.parametrize("use", [0.6, 0.75, 0.93])
@pytest.mark.parametrize("told", [0.97, 1.0, 1.03])
def test_the_search_closes_in(saturation, use, told):
    """Whatever the goal, and though a closed loop was some per cent off, the crossing is found within 3%.

    No rate above it is said to meet the goal, one not far below it is, and the budget is kept.
    """
    percentile = waiting(saturation)
    plan, probes = searched(percentile, told * saturation, percentile(use * saturation))
    assert plan.crossing == pytest.approx(use * saturation, rel=0.03)
    assert 0.8 * use * saturation <= plan.meets <= use * saturation
    assert len(probes) <= MOST_PROBES
    assert plan.spent_s <= 600.0


def test_latency_that_falls_with_the_rate_hides_no_capacity():
    """At a low rate requests wait for their batch to fill: there the goal may be missed, and met above.

    A search from below would end at the low rate.
    """
    plan, _ = searched(lambda rate: 0.15 + 0.1 * (50 < rate < 100) + 0.002 / (1.0001 - min(1, rate / 200)), 200.0, 0.2)
    assert plan.meets > 150
    assert plan.crossing == pytest.approx(192, rel=0.02)


def test_a_low_rate_over_the_goal_does_not_bend_the_curve():
    """Where requests wait for their batch to fill, many say the same. The crossing is elsewhere."""
    plan = CapacityPlan.of(200.0, 0.2, 600.0, 10.0)
    for rate, value, size in ((60.0, 0.25, 9000.0), (150.0, 0.15, 300.0), (170.0, 0.19, 200.0), (180.0, 0.25, 100.0)):
        plan.add(rate, Judged(Outcome.UNDECIDED, value, 1.0, 0.01, size), 10.0)
    assert 170.0 < plan.crossing < 180.0


def test_what_the_queue_needs_to_settle_is_not_judged(make_queue, cat, monkeypatch):
    """What is left out is not judged: were all but one request, no rate would be shown to meet the goal."""
    monkeypatch.setattr(capacity_search, "settling_requests", lambda requests, use: requests - 1)
    run = found(make_queue(0.01), cat)
    assert run.capacity.rate_per_s is None


def test_an_empty_queue_settles_first():
    """Requests of three correlation times do not count, of a short probe a fifth: the queue was empty before them."""
    assert settling_requests(100_000, 0.5) == 6
    assert settling_requests(100_000, 0.75) == 54
    assert settling_requests(1000, 0.9) == settling_requests(1000, 1.7) == 200


def test_a_closed_loop_that_told_too_little():
    """Where nobody knows how many users fill the server, its throughput says little: the search goes on beyond it."""
    percentile = waiting(1000.0)
    plan, _ = searched(percentile, 100.0, percentile(750.0))
    assert plan.crossing == pytest.approx(750.0, rel=0.05)


def test_what_could_not_be_proven_is_not_tried_again():
    """Of enough tries one succeeds by luck: after a proof that failed only lower rates are tried."""
    plan, tried = CapacityPlan.of(200.0, 0.2, 600.0, 10.0), []
    while (following := plan.next_probe()) is not None:
        rate, seconds = following
        value = waiting(200.0, 0.05)(rate)
        tried += [rate] if plan._proving == rate else []
        plan.add(rate, Judged(Outcome.UNDECIDED, value, 1.0, 0.01, 100.0), seconds)
    assert len(tried) >= 2
    assert tried == sorted(set(tried), reverse=True)


def test_probes_grow_towards_saturation():
    """The nearer to saturation, the longer a short probe, up to an eighth of the budget: the queue remembers longer."""
    percentile = waiting(2000.0)
    _, probes = searched(percentile, 2000.0, percentile(0.995 * 2000.0))
    seconds = [seconds for rate, seconds in probes[:3]]
    assert [rate / 2000 for rate, _ in probes[:3]] == pytest.approx([0.9, 0.95, 0.975])
    assert seconds == sorted(seconds)
    assert seconds[0] == 25
    assert seconds[2] == 75


def test_a_search_that_does_not_close_in_ends():
    """Where every rate meets the goal the search ends, and has no rate that misses it."""
    plan, probes = searched(lambda _: 0.01, 1.0, 10.0)
    assert plan.meets == max(rate for rate, _ in probes)
    assert plan.misses is None
    assert plan.crossing is None
    assert len(probes) <= MOST_PROBES


def test_nothing_meets():
    """A search without a rate within the goal goes down to what the budget can decide, and returns none."""
    plan, probes = searched(lambda _: 1.0, 100.0, 0.1)
    rates = [rate for rate, _ in probes]
    assert rates == sorted(rates, reverse=True)
    assert plan.meets is plan.crossing is None
    assert plan.misses == rates[-1]
    assert rates[-1] < 25


def found(queue, cat, **budget):
    """Return the run of a capacity measurement of the queue."""
    cell = Cell("capacity", Deployment(cat.artifacts.model, "cpu", Batching(1, 0)))
    told = {"slo_s": 0.1, "capacity_seconds": 300.0} | budget
    with mock.patch.object(capacity_search, "MonotonicClock", return_value=queue.clock):
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
    """With a service time of 10 ms, Poisson arrivals and a p99 goal of 100 ms the crossing is near the true rate.

    The rate that is shown to meet the goal is not above it, and below by at most a quarter: the rule is cautious.
    """
    truth = true_capacity(0.01, 0.1, 0.99)
    queue = make_queue(0.01)
    run = found(queue, cat)
    capacity = run.capacity
    assert capacity.goal == 0.99
    assert capacity.saturation_per_s == pytest.approx(100, rel=0.02)
    assert capacity.crossing_per_s == pytest.approx(truth, rel=0.05)
    assert 0.75 <= capacity.rate_per_s / truth <= 1.0
    rates = [step.rate_per_s for step in capacity.steps]
    assert rates == sorted(rates)
    p50 = [step.p50_s for step in capacity.steps if step.p50_s]
    assert p50[0] < p50[-1]  # nearer to saturation
    assert run.invalid == ()
    assert queue.clock.now_s <= 310
    assert any(step.outcome is Outcome.MISSES for step in capacity.steps)
    assert run.errors == {}  # what was in flight when a probe was broken off has not failed
    assert run.failed == ()


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
    queue, rates = make_queue(0.01, refused_above=1000.0), []
    play = queue.send

    def send(load, *others):
        if isinstance(load, Poisson):
            rates.append(load.rate_per_s)
            if len(rates) > 1:
                queue.refuse_above(0.0)
        play(load, *others)

    def between(start_ns):
        return Telemetry(
            window_s=rates[-1], processors=2, cores={}, rss_bytes={}, other_processes_cpu=0.0, stolen_cpu=0.0
        )

    queue.send, queue.monitor = send, SimpleNamespace(snapshot=lambda: 0, between=between)
    run = found(queue, cat, slo_s=0.4)
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
    """A probe is aborted once five times as many requests are over the goal as may be in the whole probe.

    From then on no request is sent or waited for.
    """
    aborts = EarlyAbort(0.1, 0.99, 1000)
    slow, fast = make_response(sent_s=0.0, done_s=0.2), make_response(sent_s=0.0, done_s=0.05)
    assert not aborts([fast] * 500)
    assert not aborts([slow] * 50)
    assert aborts([fast, slow])
    assert aborts.lost
