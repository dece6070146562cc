"""Traffic on a simulated queue: every request is accounted for, and the summary fits the screen."""

from __future__ import annotations

import contextlib
import gc
import json
from dataclasses import replace

import pytest

from fakes import FakeClock, FakeMonitor, silent
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import ConstantRate, Poisson, Ramp
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import Budget, Cell, Context, measure_capacity, measure_load, traffic
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.traffic import DRAIN_S, Collector, judged
from pytest_torchserve.model import Sample
from pytest_torchserve.phase import Phase
from pytest_torchserve.report.terminal import summary
from pytest_torchserve.telemetry.monitor import Telemetry


def loaded(queue, cat, load):
    """Return the run of the queue under a load."""
    cell = Cell("load", Deployment(cat.artifacts.model, "cpu", Batching(1, 0)), load)
    return measure_load(queue, cell, Context(cat, Budget(), silent, queue.monitor))


def test_a_load_that_is_kept_up_with(make_queue, cat):
    """A load within the queue's capacity is VALID.

    Every request is timed from when it was due, and percentiles go as far as the sample supports.
    """
    run = loaded(make_queue(0.01), cat, ConstantRate(50, 20.0))
    assert run.invalid == ()
    assert run.stamp == "VALID"
    assert run.traffic.asked == run.checked == len(run.pooled(Phase.LATENCY)) == 1000
    assert [quantile.name for quantile in run.traffic.latency] == ["p50", "p90", "p99"]
    assert run.throughput == pytest.approx(50, rel=0.02)
    assert run.pooled(Phase.LATENCY) == pytest.approx([0.01] * 1000)
    assert set(run.warm_up) == {"batches", "seconds", "steady"}
    assert run.traffic.goodput == 1.0
    assert run.traffic.utilisation == pytest.approx(0.5, rel=0.01)
    assert run.traffic.effective_size == pytest.approx(500, rel=0.05)


def test_goodput_counts_what_left(make_queue, cat):
    """At twice the capacity some answers are within the goal, and the share is of all requests."""
    run = loaded(make_queue(0.01), cat, Poisson(200, 10.0))
    within = sum(latency_s <= 0.25 for latency_s in run.pooled(Phase.LATENCY))
    assert 0 < run.traffic.within_slo == within < 200
    assert run.traffic.goodput == within / run.traffic.asked
    assert run.traffic.asked > 1900


def test_only_requests_that_were_sent_are_different_requests(make_queue, cat):
    """Of ten bodies at hand a load of three requests has sent three."""
    samples = tuple(Sample(name=str(index), body=bytes([index]), answer=None) for index in range(10))
    assert loaded(make_queue(0.01), replace(cat, samples=samples), ConstantRate(1, 3.0)).distinct_bodies == 3
    assert loaded(make_queue(0.01), replace(cat, samples=samples), ConstantRate(10, 3.0)).distinct_bodies == 10


def test_a_load_that_is_too_much(make_queue, cat):
    """The same queue at twice its capacity is INVALID because of overload, and its times are kept."""
    run = loaded(make_queue(0.01), cat, Poisson(200, 10.0))
    assert any("overload" in reason for reason in run.invalid)
    assert run.stamp.startswith("INVALID: ")
    assert run.pooled(Phase.LATENCY)[-1] > 5.0


def test_wrong_answers_are_counted_apart_from_errors(make_queue, cat):
    """Every wrong answer of a queue is counted, the first fifty are listed, and none is timed."""
    run = loaded(make_queue(0.001, wrong_above=10.0), cat, ConstantRate(20, 10.0))
    assert run.seconds == {}
    assert run.errors == {}
    assert len(run.wrong) == 50
    assert "answers were wrong: 200 of 200" in run.invalid


def test_waiting_for_answers_ends(make_response):
    """Waiting for answers ends 30 s after the last departure; progress is reported meanwhile."""
    clock, told = FakeClock(1.0), []
    collector = Collector(10.0, clock, lambda what, share: told.append(what), Checker("cpu"))
    assert collector.on_responses([])
    clock.now_s += 10 + DRAIN_S - 1
    assert collector.on_responses([make_response()])
    clock.now_s += 2
    assert not collector.on_responses([])
    assert told[-1] == "1 answered"


def collected(responses):
    """Return a collector that got these responses one by one, and its timed ones."""
    collector = Collector(10.0, FakeClock(1.0), silent, Checker("cpu"))
    for response in responses:
        assert collector.on_responses([response])
    return collector, collector.timed()


def test_equal_large_answers_are_kept_once(make_response):
    """A thousand answers of a megabyte are one megabyte where they are the same, and each is checked and timed."""
    large = {"words": "x" * (1 << 20)}
    samples = [Sample(name=name, body=b"", answer=large) for name in ("one", "two")]
    responses = [make_response(samples[index % 2], answer=large, done_s=index) for index in range(1000)]
    collector, timed = collected(responses)
    assert len(timed) == len(collector.responses) == collector.checker.evidence.judged == 1000
    assert len({id(response.body) for response in collector.responses}) == 2


def test_memory_is_bounded_where_every_answer_is_another(make_response, monkeypatch):
    """Answers that differ are checked as they come once enough are kept: none is lost, and a wrong one is found."""
    monkeypatch.setattr(traffic, "KEPT_BYTES", 4 << 20)
    fill = "x" * (1 << 17)
    sample = Sample(name="one", body=b"", answer={"cat": 0.9, "fill": fill})
    count = 100
    answers = [{"cat": 0.9 + index / 1e6, "fill": fill} for index in range(count)]
    answers[-2], answers[2] = {"cat": 0.8, "fill": fill}, {"cat": 0.7, "fill": fill}
    responses = (make_response(sample, answer=answer, done_s=index) for index, answer in enumerate(answers))
    collector, timed = collected(responses)
    assert sum(len(response.body) for response in collector.responses) <= 4 << 20
    assert len(collector.responses) == collector.checker.evidence.judged == count
    assert collector.checker.evidence.wrong_answers == 2
    assert [response.done_ns for response, _ in timed] == [i * 10**9 for i in range(count) if i not in (2, count - 2)]


def test_many_small_answers_are_bounded_as_well(make_response, monkeypatch):
    """Small answers that are many are not kept without end either; each is checked and timed."""
    monkeypatch.setattr(traffic, "KEPT_BYTES", 1 << 20)
    sample = Sample(name="one", body=b"", answer={"cat": 0.9, "fill": "x" * 10_000})
    responses = (
        make_response(sample, answer={"cat": 0.9 + i / 1e7, "fill": "x" * 10_000}, done_s=i) for i in range(500)
    )
    collector, timed = collected(responses)
    assert sum(len(response.body) for response in collector.responses) <= 1 << 20
    assert len(timed) == collector.checker.evidence.judged == 500


def test_failed_requests_do_not_make_a_load_disappear(make_queue, cat, make_response):
    """A run with one 503 in a hundred is INVALID and shown with its figures; the 503 is no wrong answer."""
    queue = make_queue(0.01)
    busy = make_response(status=503, error="HTTP 503", failure=Failure.HTTP)
    play = queue.send
    queue.send = lambda load, samples, more, clock: (play(load, samples, more, clock), more([busy]))
    run = loaded(queue, cat, ConstantRate(50, 2.0))
    assert run.wrong == ()
    assert len(run.failed) == 1
    assert "requests failed: 1 of 101: HTTP 503 × 1" in run.invalid
    shown = "\n".join(summary.lines([run], width=80))
    assert "INVALID" in shown
    assert "where it went" in shown


def test_what_was_given_up_is_an_error_but_no_wrong_answer(make_queue, cat, make_response):
    """Requests without an answer in time make the run INVALID, and are not counted as wrong answers."""
    queue = make_queue(0.01)
    given_up = make_response(status=0, error="over", failure=Failure.UNANSWERED)
    play = queue.send
    queue.send = lambda load, samples, more, clock: (play(load, samples, more, clock), more([given_up] * 3))
    run = loaded(queue, cat, ConstantRate(50, 2.0))
    assert run.wrong == ()
    assert run.errors == {"unanswered at the end": 3}
    assert "requests failed: 3 of 103: unanswered at the end × 3" in run.invalid


@pytest.mark.parametrize("width", [80, 200])
def test_what_is_said_fits(make_queue, cat, width):
    """Tables, latency breakdowns and capacity curves fit 80 columns as well as 200.

    The INVALID stamp and its reasons come last.
    """
    queue = make_queue(0.01)
    loads = (ConstantRate(50, 20.0), Poisson(200, 5.0), ClosedLoop(4, 5.0))
    runs = [loaded(queue, cat, load) for load in loads]
    cell = Cell("capacity", Deployment(cat.artifacts.model, "cpu", Batching(1, 0)))
    budget = Budget(slo_s=0.1, capacity_seconds=300.0)
    runs.append(measure_capacity(queue, cell, Context(cat, budget, silent, queue.monitor)))
    lines = summary.lines(runs, width=width)
    text = "\n".join(lines)
    said = next(index for index, line in enumerate(lines) if line.startswith("INVALID: "))
    assert all(len(line) <= width for line in lines[:said])
    assert all(word in text for word in ("constant50", "poisson200", "closed4", "inference", "attributed:", "p99"))
    assert lines[said].startswith("INVALID: 1 of 4 cells; ")
    assert lines[said + 1] == " overload"
    assert lines[said + 2].startswith("  load cat-cpu-b1-d0-poisson200: in the second half ")
    advice = lines[said + 3 :]
    assert advice[0].startswith("  what to do: ask for less")
    assert all(len(line) <= 80 for line in advice)
    assert "requests/s were shown to have p99 ≤ 100 ms" in " ".join(text.split())
    assert "requests/s: there p99 crosses the goal" in " ".join(text.split())
    assert text.count("VALID") - text.count("INVALID") >= 2


def test_everything_is_stored(make_queue, cat):
    """The journal's line of a run is JSON, and holds what the screen shows.

    The line has the stamp, the percentiles, the latency breakdown, the batches and the capacity curve.
    """
    queue = make_queue(0.01)
    stored = json.loads(json.dumps(loaded(queue, cat, ConstantRate(50, 20.0)).as_dict()))
    assert stored["validity"] == "VALID"
    assert stored["load"] == "constant50"
    assert [quantile["p"] for quantile in stored["traffic"]["latency"]] == [0.5, 0.9, 0.99]
    assert stored["traffic"]["waterfall"]["mean_s"]["inference"] == pytest.approx(0.002)
    assert stored["traffic"]["batches"]["sizes"] == {"1": 1000}
    cell = Cell("capacity", Deployment(cat.artifacts.model, "cpu", Batching(1, 0)))
    budget = Budget(slo_s=0.1, capacity_seconds=300.0)
    found = measure_capacity(queue, cell, Context(cat, budget, silent, queue.monitor)).as_dict()
    stored = json.loads(json.dumps(found))
    assert stored["capacity"]["rate_per_s"] == stored["throughput"]
    assert {step["outcome"] for step in stored["capacity"]["steps"]} >= {"meets"}


def test_one_right_answer_does_not_vouch_for_the_next(cat, make_response):
    """A wrong answer is found after a right one to the same sample, although the right one is remembered."""
    checker = Checker("cpu")
    right, wrong = make_response(), make_response(answer={"dog": 0.9})
    assert [checker.check(response) is not None for response in (right, wrong, right)] == [True, False, True]


def test_a_load_with_wrong_answers_is_shown(make_queue, cat):
    """A load with wrong answers, whose test fails, still has its row, its stamp and its reason on the screen."""
    run = loaded(make_queue(0.001, wrong_above=10.0), cat, ConstantRate(20, 10.0))
    shown = summary.lines([run], width=80)
    assert any(line.startswith("cat ") and line.endswith(" INVALID") for line in shown)


def test_a_late_sender(make_queue, cat):
    """Requests that leave 5 ms late, with answers after 10 ms: recorded, INVALID, and counted into the latency."""
    run = loaded(make_queue(0.01, late_s=0.005), cat, ConstantRate(50, 20.0))
    assert [quantile.value for quantile in run.traffic.schedule_delay] == pytest.approx([0.005] * 3)
    assert run.pooled(Phase.LATENCY) == pytest.approx([0.015] * 1000)
    assert run.invalid == ("the sender was late: p99 5 ms, 33% of the median latency",)
    assert any("the sender was late by (ms): p99 5.00" in line for line in summary.lines([run], width=200))


def test_a_rate_that_was_not_reached(make_queue, cat):
    """A load whose last requests leave seconds after the schedule's end is INVALID."""
    run = loaded(make_queue(0.01, late_s=5.0), cat, ConstantRate(50, 20.0))
    assert any(reason.startswith("the rate was not reached: 40/s left of 50/s") for reason in run.invalid)


def test_too_few_answers_for_a_median(make_queue, cat):
    """A load with three answers is INVALID, and shows no percentile that the sample cannot support."""
    run = loaded(make_queue(0.01), cat, ConstantRate(1, 3.0))
    assert any(reason.startswith("too few answers: 3, ") for reason in run.invalid)
    assert run.traffic.latency == ()


def test_others_on_the_machine(make_queue, cat):
    """Other processes make a run INVALID on the suite's own server; on an external server they are not known."""
    busy = Telemetry(window_s=1.0, processors=2, cores={}, rss_bytes={}, other_processes_cpu=0.3, stolen_cpu=0.05)
    queue = make_queue(0.01)
    queue.monitor = FakeMonitor(busy)
    run = loaded(queue, cat, ConstantRate(50, 20.0))
    assert run.invalid == ("other processes used the machine: 30% of the CPU, 5% by the hypervisor",)
    queue.owned = False
    assert loaded(queue, cat, ConstantRate(50, 20.0)).invalid == ()


def test_throughput_that_stops_for_a_while(make_queue, cat, make_response):
    """A closed loop that got half the answers in its middle fifth is INVALID."""
    queue = make_queue(0.01)

    def send(load, samples, more, clock):
        if not isinstance(load, ClosedLoop):
            more([make_response()])
            return
        start_s = clock.now_ns() / 1e9
        for index in range(1000):
            at_s = index * 0.01
            if not (4.0 <= at_s < 6.0 and index % 2):
                more([make_response(sent_s=start_s + at_s, done_s=start_s + at_s + 0.005)])

    queue.send = send
    run = loaded(queue, cat, ClosedLoop(1, 10.0))
    assert any(reason.startswith("throughput was not stable: 50/s in window 3 of 5") for reason in run.invalid)


@pytest.mark.parametrize("fails", [False, True])
def test_no_garbage_is_collected_while_answers_are_judged(make_response, fails):
    """No garbage is collected while answers are judged: a collection takes the longer the more answers are kept.

    Afterwards all is as before, also after an exception.
    """

    class Judge:
        def judge(self, response, report):
            seen.append(gc.isenabled())
            if fails:
                raise ZeroDivisionError
            return True

    seen = []
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        judged([make_response()], Judge())
    assert seen == [False]
    assert gc.isenabled()


def test_a_row_that_did_not_get_its_batches_says_so(make_queue, cat):
    """A row that is configured at 16 and answered one by one shows both batch sizes."""
    queue = make_queue(0.01)
    queue.batch_size = 16
    cell = Cell("load", Deployment(cat.artifacts.model, "cpu", Batching(16, 50)), ConstantRate(50, 20.0))
    text = "\n".join(
        summary.lines([measure_load(queue, cell, Context(cat, Budget(), silent, queue.monitor))], width=200)
    )
    assert "16→1" in text


def test_a_ramp_is_told_by_time_slice(make_queue, cat):
    """A ramp is reported by time slice, and latency grows with its rate.

    A ramp goes beyond the server's capacity on purpose, so that overload does not make it INVALID.
    """
    run = loaded(make_queue(0.01), cat, Ramp(20, 180, 20.0))
    assert run.invalid == ()
    slices = run.traffic.slices
    assert len(slices) == 10
    assert (slices[0].start_s, slices[-1].end_s) == (0.0, pytest.approx(20.0))
    assert sum(one.requests for one in slices) == run.traffic.asked == sum(one.right for one in slices)
    assert [one.offered_per_s for one in slices] == pytest.approx([28 + 16 * tenth for tenth in range(10)], abs=1)
    # The server's capacity is 100/s: from the middle on a queue grows.
    assert slices[3].p50_s < 0.1 < slices[7].p50_s < slices[9].p50_s
    shown = summary.lines([run], width=80)
    assert any(line.split()[:2] == ["18-20", "172.0"] for line in shown)
    assert loaded(make_queue(0.01), cat, ConstantRate(50, 20.0)).traffic.slices == ()
    assert json.loads(json.dumps(run.as_dict()))["schedule"] == {"from_per_s": 20, "to_per_s": 180, "duration_s": 20.0}
