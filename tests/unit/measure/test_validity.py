"""The rules of validity, on made-up responses, each on both sides of its limit."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fakes import FakeClock, silent
from pytest_torchserve.loadgen.arrivals import ConstantRate, Poisson
from pytest_torchserve.measure import Budget, validity, validity_by_kind
from pytest_torchserve.measure.advice import ADVICE, advice
from pytest_torchserve.measure.batches import Batches
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.evidence import Evidence
from pytest_torchserve.measure.handle_meter import HandleMeter
from pytest_torchserve.measure.traffic import Sent
from pytest_torchserve.measure.warm_up import ServerWarmUp
from pytest_torchserve.telemetry.monitor import Telemetry


@pytest.fixture
def answered(make_response):
    """`answered(rate, n, latency_s, late_s)`: an open loop's responses; both times may be functions of the index."""

    def answered_(rate, n, latency_s, late_s=0.0):
        latency = latency_s if callable(latency_s) else lambda index: latency_s
        late = late_s if callable(late_s) else lambda index: late_s
        return [
            make_response(
                scheduled_s=index / rate, sent_s=index / rate + late(index), done_s=index / rate + latency(index)
            )
            for index in range(n)
        ]

    return answered_


@pytest.mark.parametrize(("late_s", "valid"), [(0.0, True), (0.004, True), (0.006, False)])
def test_a_late_sender(answered, late_s, valid):
    """A p99 schedule delay of up to 5% of the median latency is allowed, more is not."""
    found = validity.schedule_delay(answered(10, 200, 0.1, late_s))
    assert (found is None) is valid
    if not valid:
        assert "the sender was late: p99 6 ms, 6% of the median" in found


def test_one_late_request_of_a_hundred_is_no_lateness(answered):
    """The rule is about the p99 of the schedule delay, not the maximum."""
    assert validity.schedule_delay(answered(10, 200, 0.1, lambda index: 0.05 * (index == 7))) is None


def test_a_rate_that_was_not_reached(answered):
    """A client that needs 12 s for what should leave in 10 s did not reach the rate."""
    assert validity.rate(ConstantRate(10, 10), answered(10, 100, 0.1)) is None
    slower = answered(10, 100, 5.0, lambda index: index / 50)
    assert "the rate was not reached: 8.33/s left of 10/s" in validity.rate(ConstantRate(10, 10), slower)
    assert validity.rate(ConstantRate(10, 10), []) is not None


def test_errors_are_listed_by_kind():
    """Each kind of error is listed with its count; without errors there is no reason."""
    assert validity.errors({}, 10) is None
    assert (
        validity.errors({"HTTP 503": 2, "timed out": 1}, 10) == "requests failed: 3 of 10: HTTP 503 × 2, timed out × 1"
    )
    assert validity.wrong(0, 10) is None
    assert validity.wrong(2, 10) == "answers were wrong: 2 of 10"


def even(n, seconds=10.0):
    """Return n times in nanoseconds, evenly spread over a window."""
    return [round(index * seconds / n * 1e9) for index in range(n)]


def test_steady_throughput():
    """Throughput is stable where all windows are equal; a gap of one window is found, in closed and in open loops."""
    window = (0, round(10e9))
    assert validity.unstable(None, even(1000), *window, 1) is None
    hole = [at for at in even(1000) if not 4e9 <= at < 5.8e9]
    found = validity.unstable(None, hole, *window, 1)
    assert "throughput was not stable: 10/s in window 3 of 5, where 100/s is usual" in found
    assert "were due" in validity.unstable(even(1000), hole, *window, 1)
    assert " batches/s in window " in validity.unstable(None, hole, *window, 1, unit=" batches")


def test_chance_and_a_batch_are_no_instability():
    """Windows may differ by chance, as Poisson counts do, and by a batch more or less."""
    load = Poisson(10, 100.0, seed=5)
    due = list(load.departures_ns())
    assert validity.unstable(None, due, 0, round(100e9), 1) is None
    batches_of_16 = [at for at in even(10) for _ in range(16)]
    assert validity.unstable(None, batches_of_16, 0, round(10e9), 16) is None


@pytest.mark.parametrize(("handle_s", "behind"), [(3.6, True), (2.7, True), (1.7, True), (1.5, False), (0.08, False)])
def test_full_batches_tell_an_overload_at_once(answered, handle_s, behind):
    """Two full batches of 16 at 10/s are enough to find an overload.

    The batches show a capacity of 4.4, 5.9, 9.4, 10.7 or 200/s.
    """
    found = validity.overload(
        ConstantRate(10, 3.2), answered(10, 32, handle_s), Batches(16, {16: 2}), [handle_s] * 2, workers=1
    )
    assert (found is not None) is behind
    if behind:
        assert f"10/s came, full batches make {16 / handle_s:.3g}/s" in found
    twice = validity.overload(ConstantRate(10, 3.2), answered(10, 32, 1.0), Batches(16, {16: 2}), [1.7] * 2, workers=2)
    assert twice is None


def test_a_growing_queue_is_an_overload(answered):
    """A queue that answers four of ten requests a second grows, whatever the times of its batches."""
    load = ConstantRate(10, 40)
    growing = answered(10, 400, lambda index: 0.25 * (index + 1) - index / 10)
    assert "in the second half 200 requests came and 80 were answered" in validity.overload(
        load, growing, Batches(None, {}), [], workers=0
    )
    assert validity.overload(load, answered(10, 400, 3.1), Batches(16, {16: 25}), [0.08], workers=1) is None


def telemetry(**changes):
    """Return the telemetry of a machine that no other process loads, with these changes."""
    told = {
        "window_s": 10.0,
        "processors": 2,
        "cores": {},
        "rss_bytes": {},
        "other_processes_cpu": 0.01,
        "stolen_cpu": 0.0,
    }
    return Telemetry(**told | changes)


@pytest.mark.parametrize(
    ("latency_s", "holds"),
    [(0.2, True), (lambda index: 0.2 + 0.1 * (index % 7), True), (lambda index: 0.03 * index, False)],
    ids=["constant", "varied", "growing"],
)
def test_littles_law(answered, latency_s, holds):
    """Requests in flight are rate × latency where the queue stays as it is; where it grows they are fewer."""
    found = validity.littles_law(answered(10, 400, latency_s))
    assert (found is None) is holds
    if not holds:
        assert re.fullmatch(r"Little's law does not hold: [\d.]+ requests were in flight, [\d.]+ follow .*", found)


def test_littles_law_counts_a_request_whose_answer_came_late(answered):
    """Answers that stop coming contradict the latency of the requests that were answered before."""
    responses = answered(10, 400, lambda index: 0.2 if index < 300 else 40.0)
    assert validity.littles_law(responses) is not None
    assert validity.littles_law(responses[:5]) is None  # too few to tell
    assert validity.littles_law([]) is None


def test_littles_law_is_asked_where_a_rate_meets_the_goal(answered):
    """A growing queue makes a rate INVALID that was shown to meet the goal, and is no surprise at another."""
    sent = Sent(0, answered(10, 400, lambda index: 0.03 * index), [], Evidence())
    assert any("Little's law" in reason for reason in validity_by_kind.of_rate(sent, None, meets=True))
    assert not any("Little's law" in reason for reason in validity_by_kind.of_rate(sent, None, meets=False))


def test_others_on_the_machine():
    """Other processes may take a tenth of the CPU, and none may be on the GPU.

    Without telemetry the run is not INVALID.
    """
    assert validity.other_processes(None) is None
    assert validity.other_processes(telemetry()) is None
    said = validity.other_processes(telemetry(other_processes_cpu=0.3))
    assert said == "other processes used the machine: 30% of the CPU"
    assert "8% by the hypervisor" in validity.other_processes(telemetry(other_processes_cpu=0.05, stolen_cpu=0.08))
    assert "another process computed on the GPU: 42" in validity.other_processes(
        telemetry(other_processes_on_gpu=(42,))
    )


def test_a_throttled_gpu():
    """A GPU that lowered its clock makes a run INVALID, with each cause; an idle one does not."""
    assert validity.throttled(None) is None
    assert validity.throttled(telemetry(gpus=({"clock_event_reasons": 0x103}, {}))) is None
    said = validity.throttled(telemetry(gpus=({"clock_event_reasons": 0x1}, {"clock_event_reasons": 0x44})))
    assert said == "the GPU was throttled: its power limit, its temperature, by the hardware"


def test_a_median_needs_its_sample():
    """Six answers are enough for a median, and five are too few."""
    assert validity.too_few(6) is None
    assert "too few answers: 5, " in validity.too_few(5)


def returned(function):
    """Yield how the texts begin that a rule of this source returns."""
    for node in (part for part in ast.walk(function) if isinstance(part, ast.Return)):
        for text in (node.value.body, node.value.orelse) if isinstance(node.value, ast.IfExp) else (node.value,):
            first = text.values[0] if isinstance(text, ast.JoinedStr) else text
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def test_every_reason_says_what_to_do():
    """Whatever a rule returns, there is advice for it; and none for what no rule returns."""
    tree = ast.parse(Path(validity.__file__).read_text(encoding="utf-8"))
    rules = [node for node in tree.body if isinstance(node, ast.FunctionDef) and "str | None" in ast.unparse(node)]
    reasons = {text for rule in rules for text in returned(rule)}
    assert len(reasons) >= 13
    assert [text for text in reasons if not advice(text)] == []
    assert [cause for cause in ADVICE if not any(cause in text for text in reasons)] == []
    assert advice("at 120/s the sender was late: p99 5 ms") == ADVICE["the sender was late"]
    assert advice("something new") == ""


def test_every_kind_of_cell_asks_about_the_gpu_and_the_warm_up():
    """A throttled GPU makes each kind INVALID; so does a server that was warming up, where batches are sent."""
    hot, evidence, sent = telemetry(gpus=({"clock_event_reasons": 0x40},)), Evidence(), Sent(0, [], [], Evidence())
    meter = HandleMeter(Budget(), 1, Checker("cpu"), FakeClock(0.0), silent, steady=False)
    cold = ServerWarmUp(steady=False)
    handle = validity_by_kind.of_handle(evidence, meter, hot)
    load = validity_by_kind.of_load(ConstantRate(10, 1.0), sent, Batches(1, {}), 1, hot, cold)
    for reasons in (
        validity_by_kind.of_init(evidence, hot),
        handle,
        validity_by_kind.of_rate(sent, hot, meets=False),
        load,
    ):
        assert any(reason.startswith("the GPU was throttled") for reason in reasons)
    for reasons in (handle, load):
        assert any(reason.startswith("the server was still warming up") for reason in reasons)
