"""Measurements of two arms, with a fake clock and a simulated server: whole pairs, equal answers, kept budgets."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fakes import FakeClock, FakeMonitor, silent
from pytest_torchserve.answers import Tolerance, why_different
from pytest_torchserve.compare.agreement import Agreement
from pytest_torchserve.compare.early_stop import EarlyStop
from pytest_torchserve.compare.init_pairs import measure_init_pairs
from pytest_torchserve.compare.pair_batches import twice
from pytest_torchserve.compare.pair_meter import ProcessWideError
from pytest_torchserve.compare.params import ComparisonParams
from pytest_torchserve.compare.same_process import measure_same_process
from pytest_torchserve.compare.separate_processes import measure_separate_processes
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.measure import Budget, Context
from pytest_torchserve.phase import Phase

RIGHT = {"cat": 0.9}
ARMS = ("baseline", "candidate")


@dataclass
class Worker:
    """A worker process of an endpoint."""

    pid: int


@dataclass
class Played:
    """A simulated endpoint of one arm or of both: each start takes 1 s, each batch 10 ms."""

    make_response: object
    clock: FakeClock
    only: str = ""
    factor: float = 1.0
    answers: dict = field(default_factory=dict)
    split_at: int = 0
    guest_at: int = 0
    cold: int = 0
    fails_at: int = 0
    dies_at: int = 0
    differs: str = ""
    costs_ms: object = None
    device: str = "cpu"
    warm_up_ms: float | None = None
    starts: int = 0
    batches: int = 0
    asked: list = field(default_factory=list)
    alive: bool = False
    name: str = "played"

    def workers(self):
        """Return the one worker, or none while there is none."""
        return [Worker(100 + self.starts)] if self.alive else []

    def scale(self, workers):
        """Start or end the worker; a start takes 1 s."""
        self.alive = bool(workers)
        if workers:
            self.clock.ns += 10**9
            self.starts += 1
            self.batches = 0
        return self.clock.ns

    def send(self, load, samples, more, clock):
        """Answer batch after batch as the entry point of a pair archive does, with the arms in turn."""
        at = 0
        while True:
            indices = [(at + index) % len(samples) for index in range(load.batch_size)]
            at += load.batch_size
            if not more(self.answer(indices, samples)):
                return

    def answer(self, indices, samples):
        """Answer one batch of requests: as one batch, or as two that take two turns where the frontend splits it."""
        if self.split_at != self.batches + 1:
            return self.turn(indices, samples)
        half = len(indices) // 2
        return self.turn(indices[:half], samples) + self.turn(indices[half:], samples)

    def turn(self, indices, samples):
        """Answer one batch by the arm whose turn it is."""
        arm = self.only or ("baseline", "candidate")[self.batches % 2]
        self.batches += 1
        self.asked.append((arm, tuple(samples[index].name for index in indices)))
        slow = (self.factor if arm == "candidate" else 1.0) * (10 if self.batches <= self.cold else 1)
        begun_s = self.clock.ns / 1e9
        self.clock.ns += round(1e7 * slow)
        tag = "" if self.only else f";arm={arm};pair={(self.batches + 1) // 2}"
        tag += f";differs={self.differs}" if self.differs else ""
        failed = self.fails_at == self.batches
        died = bool(self.dies_at) and self.batches >= self.dies_at
        found = []
        for index in indices:
            made = self.make_response(
                samples[index],
                answer=self.answers.get(arm, RIGHT),
                pid=100 + self.starts + 1000 * died,
                batch=self.batches,
                size=len(indices) + (self.guest_at == self.batches),
                device=self.device,
                sent_s=begun_s,
                done_s=self.clock.ns / 1e9,
                probed=not failed,
                error="HTTP 503" if failed else None,
                failure=Failure.HTTP if failed else None,
                status=503 if failed else 200,
                preprocess=1.0,
                inference=8.0 * slow,
                postprocess=0.5,
                handle=9.5 + 8.0 * (slow - 1),
            )
            head = made.head.replace(b";gpu=0", f";gpu=0{tag}".encode())
            if self.costs_ms is not None:
                costs = "initialize;dur=7, probe_clock;dur={}, probe_handle;dur={}".format(*self.costs_ms(self.starts))
                head = head.replace(b"initialize;dur=7", costs.encode())
            warm_up = f"warm_up;dur={self.warm_up_ms}, initialize" if self.warm_up_ms else "initialize"
            found.append(made._replace(head=head.replace(b"initialize", warm_up.encode())))
        return found


@pytest.fixture
def world(monkeypatch, make_response, make_sample, cat):
    """`world(seconds)` returns (params, make endpoint): five samples of a cat, batches of two, and one fake clock."""
    clock = FakeClock()
    for module in ("compare.same_process", "compare.separate_processes", "compare.init_pairs", "measure.start"):
        monkeypatch.setattr(f"pytest_torchserve.{module}.MonotonicClock", lambda: clock)
    monkeypatch.setattr("pytest_torchserve.measure.start.time.monotonic_ns", clock.now_ns)

    def world_(seconds=30.0):
        inputs = replace(cat, samples=tuple(make_sample(f"cat{n}") for n in range(5)))
        deployment = Deployment(cat.artifacts.model, "cpu", Batching(2))
        params = ComparisonParams(
            deployment, "HEAD", Context(inputs, Budget(baseline_seconds=seconds), silent, FakeMonitor())
        )
        return params, lambda **more: Played(make_response, clock, **more)

    return world_


def test_both_arms_get_the_same_samples(make_sample):
    """Every batch comes twice; the last one is filled up with the first samples."""
    names = [sample.name for sample in twice([make_sample(str(n)) for n in range(5)], 2)]
    assert names == ["0", "1"] * 2 + ["2", "3"] * 2 + ["4", "0"] * 2


def test_pairs_of_eight_processes(world):
    """The budget is shared by eight processes, worker starts included; warm-up pairs do not count."""
    params, played = world(30.0)
    endpoint = played(factor=1.5, cold=6)
    run = measure_same_process(endpoint, params)
    pairs = run.paired.pairs[Phase.INFERENCE]
    assert sorted(pairs) == list(range(101, 109))
    assert all(pair == (0.008, 0.012) for of_process in pairs.values() for pair in of_process)
    total = sum(map(len, pairs.values()))
    assert total == pytest.approx((22 - 8 * 0.75) / 0.025, rel=0.1)
    assert endpoint.clock.ns / 1e9 == pytest.approx(30, rel=0.02)
    assert run.pooled(Phase.INFERENCE) == [0.012] * total
    assert run.wrong == run.invalid == ()
    assert run.achieved_batch_size == 2
    assert not run.paired.by_process


@pytest.mark.parametrize(
    ("measure", "arms", "fewest"),
    [
        (measure_same_process, 1, 5),
        (measure_separate_processes, 2, 6),
        (measure_init_pairs, 2, 6),
    ],
)
def test_a_decided_cell_ends_early(world, measure, arms, fewest):
    """A change that every pair shows is decided at the first look, and the rest of the time is not spent."""
    params, played = world(60.0)
    made = [played(), played(factor=2.0)] if arms == 2 else played(factor=2.0)
    targets = dict(zip(ARMS, made, strict=True)) if arms == 2 else made
    if measure is measure_init_pairs:  # a start takes the same on both arms, to the nanosecond
        targets["candidate"].warm_up_ms = 300.0
        targets["baseline"].warm_up_ms = 100.0
    run = measure(targets, replace(params, early=EarlyStop(0.01, 0.02)))
    assert run.paired.error_share == 0.25
    assert len(next(iter(run.paired.pairs.values()))) == fewest
    assert run.paired.spent_s < 30
    usual = measure({arm: played() for arm in ARMS} if arms == 2 else played(), params)
    assert usual.paired.error_share == 1.0
    assert usual.paired.spent_s > 55


def test_more_processes_where_each_has_told_all(world):
    """Pairs that do not scatter tell all at once; the time goes into more processes than were asked for."""
    params, played = world(60.0)
    early = EarlyStop(1e-300, 0.02)  # nothing is ever decided
    run = measure_same_process(played(), replace(params, early=early))
    assert len(run.paired.pairs[Phase.HANDLE]) > 20
    assert 55 < run.paired.spent_s < 62
    assert len(measure_same_process(played(), params).paired.pairs[Phase.HANDLE]) == 8


@pytest.mark.parametrize(("seconds", "asked", "processes"), [(10.0, 8, 4), (5.0, 8, 3), (30.0, 3, 3), (30.0, 12, 12)])
def test_as_many_processes_as_the_budget_can_start(world, seconds, asked, processes):
    """Starts of 1 s may take 40% of the budget; but there are at least three processes, as two have no interval."""
    params, played = world(seconds)
    params = replace(
        params, context=replace(params.context, budget=replace(params.context.budget, baseline_processes=asked))
    )
    endpoint = played()
    assert len(measure_same_process(endpoint, params).paired.pairs[Phase.HANDLE]) == processes
    assert endpoint.starts == processes


def test_what_the_probe_costs_comes_with_its_first_answers(world):
    """The probe's cost of a phase is the median over the processes, of which one was disturbed.

    An old probe reports no cost.
    """
    params, played = world(10.0)
    endpoint = played(costs_ms=lambda start: (2.0, 9.0) if start == 2 else (0.002, 0.009 + start / 1e6))
    costly = measure_same_process(endpoint, params).paired.probe_cost_s
    assert costly[Phase.INFERENCE] == costly[Phase.PREPROCESS] == pytest.approx(2e-6)
    assert costly[Phase.HANDLE] == pytest.approx(9e-6, rel=1e-3)
    assert measure_same_process(played(), params).paired.probe_cost_s == {}


def test_a_split_batch_ends_its_process(world):
    """A split batch ends the batches of its process, and the next process goes on.

    A split batch takes both turns of a pair: the arms would get different samples from there on.
    """
    params, played = world(30.0)
    endpoint = played(split_at=21)
    run = measure_same_process(endpoint, params)
    pairs = run.paired.pairs[Phase.HANDLE]
    assert [len(of_process) for of_process in pairs.values()] == [7] * 8
    assert run.batch_sizes == {2: 160, 1: 16}
    assert run.wrong == ()  # each half was checked as an answer of its own arm
    asked = [names for _, names in endpoint.asked[:20]]
    assert asked[::2] == asked[1::2]


def test_a_batch_that_failed_is_nobodys(world):
    """A failed batch has no probe headers: it counts for neither arm, and the run is INVALID and names both arms."""
    params, played = world(5.0)
    run = measure_same_process(played(fails_at=21), params)
    assert run.wrong[0].startswith("one of the two arms: cat")
    assert run.errors == {"HTTP 503": 2}
    assert run.invalid


@pytest.mark.parametrize("split", [False, True])
def test_a_share_is_of_the_requests_to_both_arms(world, split):
    """Failed requests are counted among the requests to both arms, whether or not their arm is known."""
    params, played = world(5.0)
    if split:
        endpoints = {arm: played(only=arm, fails_at=5 if arm == "baseline" else 0) for arm in ARMS}
        run = measure_separate_processes(endpoints, params)
    else:
        endpoints = {"both": played(fails_at=21)}
        run = measure_same_process(endpoints["both"], params)
    sent = sum(len(names) for endpoint in endpoints.values() for _, names in endpoint.asked)
    assert run.checked < sent
    assert run.invalid == (f"requests failed: 2 of {sent}: HTTP 503 × 2",)


def test_a_wrong_baseline_is_counted_too(world):
    """Wrong answers of the baseline, here from another device, are counted among all requests that were sent."""
    params, played = world(5.0)
    model = replace(params.deployment.model, network=Path("network.py"))
    params = replace(params, deployment=replace(params.deployment, model=model))
    endpoints = {"baseline": played(only="baseline", device="cuda:0"), "candidate": played(only="candidate")}
    run = measure_separate_processes(endpoints, params)
    wrong, right = (sum(len(names) for _, names in endpoints[arm].asked) for arm in ARMS)
    assert run.invalid == (f"answers were wrong: {wrong} of {wrong + right}",)


def test_a_worker_that_dies_is_not_passed_over(world):
    """A worker that dies is an error: TorchServe starts another worker, which counts its pairs anew."""
    params, played = world(5.0)
    with pytest.raises(MeasurementError, match="a worker died and was replaced"):
        measure_same_process(played(dies_at=30), params)


def test_a_budget_is_stretched_for_an_interval(world):
    """With slow batches a cell may take twice its budget to have twenty pairs.

    After that one pair of each process is enough.
    """
    params, played = world(10.0)
    endpoint = played(factor=40.0)
    assert len(measure_same_process(endpoint, params).pooled(Phase.HANDLE)) == 20
    assert 10 < endpoint.clock.ns / 1e9 < 20
    began_s = endpoint.clock.ns / 1e9
    slower = played(factor=200.0)
    assert 2 <= len(measure_same_process(slower, params).pooled(Phase.HANDLE)) < 20
    assert slower.clock.ns / 1e9 - began_s == pytest.approx(20, abs=3)


def test_rounds_are_stretched_likewise(world):
    """The budget is stretched likewise for rounds: up to twice, to have five of them."""
    params, played = world(4.0)
    endpoints = {"baseline": played(only="baseline"), "candidate": played(only="candidate")}
    assert 2 < len(measure_init_pairs(endpoints, params).paired.pairs[Phase.TOTAL]) <= 5


def test_slow_batches_warm_up_less(world):
    """Only one pair of each process is warm-up where pairs take minutes: 1 s of warm-up is enough."""
    params, played = world(200.0)
    endpoint = played(factor=4000.0)
    run = measure_same_process(endpoint, params)
    assert len(run.pooled(Phase.HANDLE)) == len(endpoint.asked) // 2 - endpoint.starts


def test_a_batch_with_a_guest_is_not_timed(world):
    """A batch with another client's request in it is not timed: it has three requests instead of two."""
    params, played = world(5.0)
    endpoint = played(guest_at=21)  # in each of the endpoint's processes
    run = measure_same_process(endpoint, params)
    alone = measure_same_process(played(), params)
    assert len(run.pooled(Phase.HANDLE)) == len(alone.pooled(Phase.HANDLE)) - endpoint.starts
    assert run.batch_sizes[3] == endpoint.starts


def test_answers_that_differ_fail_and_end_it(world):
    """A baseline whose answers differ from the candidate's, which are golden, is reported.

    The measurement ends, so that it takes no more time.
    """
    params, played = world(30.0)
    endpoint = played(answers={"baseline": {"cat": 0.7}})
    run = measure_same_process(endpoint, params)
    assert any("differs from the baseline: cat0: 'cat' is 0.900000, baseline 0.700000" in words for words in run.wrong)
    assert endpoint.starts == 1


def test_answers_that_are_close_are_told(world):
    """How far answers within the tolerance lie apart is kept with the pairs: another precision shows there."""
    params, played = world(5.0)
    run = measure_same_process(played(answers={"baseline": {"cat": 0.8996}}), params)
    assert not run.wrong
    assert run.paired.answers_apart == pytest.approx(0.0004)
    assert measure_same_process(played(), params).paired.answers_apart == 0


def test_a_wrong_candidate_fails(world):
    """A wrong answer that both arms give is found by comparison with the golden answer."""
    params, played = world(5.0)
    wrong = {"dog": 0.9}
    run = measure_same_process(played(answers={"baseline": wrong, "candidate": wrong}), params)
    assert any("top label 'dog', golden 'cat'" in words for words in run.wrong)
    assert not any("differs" in words for words in run.wrong)


def test_arms_that_cannot_share_a_process(world):
    """Arms that cannot share a process are not measured: the caller measures them in separate processes instead."""
    params, played = world(5.0)
    with pytest.raises(ProcessWideError, match=r"torch\.num_threads"):
        measure_same_process(played(differs="torch.num_threads"), params)


def test_apart_a_round_is_two_fresh_processes(world):
    """Each round starts a process for each arm, interleaves their batches, and counts as one process."""
    params, played = world(30.0)
    endpoints = {
        "baseline": played(only="baseline", cold=3),
        "candidate": played(only="candidate", factor=1.5, cold=3),
    }
    run = measure_separate_processes(endpoints, params)
    assert run.paired.by_process
    rounds = run.paired.pairs[Phase.HANDLE]
    assert len(rounds) == endpoints["baseline"].starts == endpoints["candidate"].starts >= 8
    assert all(pair == (0.0095, 0.0135) for of_round in rounds.values() for pair in of_round)
    arms = [[names for arm, names in endpoints[name].asked] for name in endpoints]
    assert arms[0] == arms[1]  # the same samples, in the same order
    assert run.wrong == ()


def test_apart_differing_answers_end_it(world):
    """Different answers end a measurement in separate processes as they do in one process."""
    params, played = world(30.0)
    endpoints = {
        "baseline": played(only="baseline", answers={"baseline": {"cat": 0.7}}),
        "candidate": played(only="candidate"),
    }
    run = measure_separate_processes(endpoints, params)
    assert run.wrong[0].startswith("differs from the baseline: ")
    assert endpoints["candidate"].starts == 1


def test_restarts_are_the_samples_of_a_start(world):
    """In each round each arm starts once, in an order drawn anew; every phase of a worker's start is compared."""
    params, played = world(30.0)
    endpoints = {"baseline": played(only="baseline"), "candidate": played(only="candidate")}
    run = measure_init_pairs(endpoints, params)
    totals = run.paired.pairs[Phase.TOTAL]
    assert len(totals) == endpoints["baseline"].starts == endpoints["candidate"].starts >= 10
    assert all(of_round == ((1.0, 1.0),) for of_round in totals.values())
    assert run.checked == run.processes == len(totals)
    assert run.cell.kind == "init"


@pytest.mark.parametrize(
    ("baseline_ms", "candidate_ms", "pair"),
    [(40, 30, (0.04, 0.03)), (None, 30, (0.0, 0.03)), (40, None, (0.04, 0.0)), (None, None, None)],
)
def test_a_warm_up_is_compared_with_a_warm_up(world, baseline_ms, candidate_ms, pair):
    """An arm without a warm-up takes 0 s for it; a candidate without one has no figures of a warm-up."""
    params, played = world(30.0)
    endpoints = {
        "baseline": played(only="baseline", warm_up_ms=baseline_ms),
        "candidate": played(only="candidate", warm_up_ms=candidate_ms),
    }
    run = measure_init_pairs(endpoints, params)
    rounds = run.paired.pairs.get(Phase.WARM_UP, {})
    assert set(rounds.values()) == ({(pair,)} if pair else set())
    assert set(run.pooled(Phase.WARM_UP)) == ({candidate_ms / 1e3} if candidate_ms else set())
    assert (Phase.WARM_UP in run.seconds) is bool(candidate_ms)
    assert len(run.pooled(Phase.LOAD_MODEL)) == len(run.paired.pairs[Phase.LOAD_MODEL]) == run.checked


@pytest.mark.parametrize(
    ("baseline", "candidate", "same"),
    [
        ({"cat": 0.9}, {"cat": 0.9005}, True),
        ({"cat": 0.9}, {"cat": 0.902}, False),
        ({"cat": 0.4}, {"dog": 0.4}, True),  # a tie within the tolerance: each arm names one of the two labels
        ({"cat": 0.9}, {"dog": 0.9}, False),  # two labels cannot both have 0.9
        ({"cat": 0.9, "dog": 0.05}, {"cat": 0.9, "cow": 0.0504}, True),
        ({"cat": 0.9, "dog": 0.05}, {"cat": 0.9, "cow": 0.08}, False),
        ({"cat": 0.9}, {"cat": float("nan")}, False),
        ({"cat": 0.9}, ["cat"], False),
        (["cat"], ["cat"], True),
        ({}, {"cat": 0.9}, False),
    ],
)
def test_when_two_answers_are_the_same(baseline, candidate, same):
    """Labels and values must agree within the tolerance, and each side may name the most probable labels only."""
    why = why_different(baseline, candidate, Tolerance(1e-3))
    assert (why is None) is same


def test_of_two_different_labels_the_first_answered_is_named():
    """The first label that differs is named, always the same one, whatever Python's hash seed."""
    code = "from pytest_torchserve.answers import *; print(why_different(%r, %r, Tolerance(1e-3)))"
    labels = ("emu", "cat", "dog", "ant")
    answers = [dict.fromkeys(labels, value) for value in (0.1, 0.2)]
    for seed in range(5):
        command = [sys.executable, "-c", code % tuple(answers)]
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        assert said.startswith("'emu' is ")


def test_each_sample_is_compared_once():
    """The first answer of each arm from each process is compared; the list of differences ends at fifty."""
    agreement = Agreement(Tolerance(1e-3))
    for n in range(60):
        for _ in range(2):
            agreement.take("candidate", 1, str(n), b'{"a": 1}')
            agreement.take("baseline", 1, str(n), b'{"a": 2}')
        agreement.take("candidate", 2, str(n), b'{"a": 1}')
        agreement.take("baseline", 2, str(n), b'{"a": 1}')
    assert (agreement.compared, agreement.differing) == (120, 60)
    assert len(agreement.different) == 50
