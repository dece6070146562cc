"""Loads of two arms, with a fake clock and a simulated server: the same arrivals, blocks in turn, kept budgets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from fakes import FakeClock, FakeMonitor, silent
from pytest_torchserve.compare.comparison import Rules, Verdict
from pytest_torchserve.compare.load_blocks import ARM_HEADER, block_of
from pytest_torchserve.compare.load_pairs import measure_load_pairs
from pytest_torchserve.compare.pair_meter import ProcessWideError
from pytest_torchserve.compare.params import ComparisonParams
from pytest_torchserve.compare.verdict import compare
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import ConstantRate, OpenLoop, Poisson, Ramp
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import Budget, Cell, Context
from pytest_torchserve.model import AsConfigured
from pytest_torchserve.session.comparisons import Comparisons

RIGHT = {"cat": 0.9}


@dataclass
class Loaded:
    """A simulated endpoint of one arm or of both: a start takes 1 s, a request 10 ms, of the candidate `factor` times.

    Attributes:
        loads, firsts: the departures of each block, and the name of its first sample, with the arm that got it.
        scaled: the numbers of workers that were asked for.
    """

    make_response: object
    clock: FakeClock
    only: str = ""
    factor: float = 1.0
    answers: dict = field(default_factory=dict)
    differs: str = ""
    fails: str = ""
    starts: int = 0
    loads: list = field(default_factory=list)
    firsts: list = field(default_factory=list)
    scaled: list = field(default_factory=list)
    alive: bool = False
    name: str = "loaded"
    batch_size: int = 1
    worker_count: int = 1
    probed: bool = True
    owned: bool = True
    same_host: bool = True

    def workers(self):
        """Return the one worker, or none while there is none."""
        return [type("Worker", (), {"pid": 100 + self.starts})] if self.alive else []

    def scale(self, workers):
        """Start or end the worker."""
        self.alive = bool(workers)
        self.scaled.append(workers)
        if workers:
            self.clock.ns += 10**9
            self.starts += 1
        return self.clock.ns

    def log_offset(self):
        """Return the end of a log that stays empty."""
        return 0

    def frontend_times(self, offset, wanted):
        """Know nothing of the frontend."""
        return {}

    def send(self, load, samples, more, clock):
        """Answer full batches one by one, or a whole schedule."""
        at = 0
        while not isinstance(load, OpenLoop) and not isinstance(load, ClosedLoop):
            at += 1
            if not more([self.answer(samples[at % len(samples)], self.clock.ns)]):
                return
        start_ns, due = self.clock.ns, list(load.departures_ns())
        self.firsts.append((self.only or samples[0].headers[ARM_HEADER], samples[0].name))
        self.loads.append((self.only or samples[0].headers[ARM_HEADER], due))
        for index, after_ns in enumerate(due):
            self.clock.ns = max(self.clock.ns, start_ns + after_ns)
            if not more([self.answer(samples[index % len(samples)], start_ns + after_ns)]):
                return

    def answer(self, sample, due_ns):
        """Answer one request."""
        arm = self.only or sample.headers[ARM_HEADER]
        begun_s = self.clock.ns / 1e9
        self.clock.ns += round(1e7 * (self.factor if arm == "candidate" else 1.0))
        failed = arm == self.fails
        made = self.make_response(
            sample,
            answer=self.answers.get(arm, RIGHT),
            pid=100 + self.starts,
            batch=self.clock.ns,
            sent_s=begun_s,
            scheduled_s=due_ns / 1e9,
            done_s=self.clock.ns / 1e9,
            probed=not failed,
            error="HTTP 503" if failed else None,
            failure=Failure.HTTP if failed else None,
            status=503 if failed else 200,
        )
        tag = f";differs={self.differs}" if self.differs else ""
        return made._replace(head=made.head.replace(b";gpu=0", f";gpu=0{tag}".encode()))


@pytest.fixture
def world(monkeypatch, make_response, make_sample, cat):
    """`world(seconds)` returns (cell, params, make endpoint): 50 requests a second for 60 s, and one fake clock."""
    clock = FakeClock()
    for module in ("compare.load_pairs", "measure.traffic"):
        monkeypatch.setattr(f"pytest_torchserve.{module}.MonotonicClock", lambda: clock)

    def world_(seconds=120.0):
        inputs = replace(cat, samples=tuple(make_sample(f"cat{n}") for n in range(5)))
        deployment = Deployment(cat.artifacts.model, "cpu", Batching(1, 0))
        context = Context(inputs, Budget(baseline_seconds=seconds), silent, FakeMonitor())
        cell = Cell("load", deployment, Poisson(50, 60))
        return cell, ComparisonParams(deployment, "HEAD", context), lambda **more: Loaded(make_response, clock, **more)

    return world_


def verdicts(run):
    """Return the verdict on each metric of a run."""
    return {one.metric.value: one.verdict for one in compare([run], Rules())}


def test_both_arms_get_the_same_arrivals(world):
    """Each block has arrivals of its own, and both arms get them; neither is always the first."""
    cell, params, loaded = world()
    target = loaded()
    run = measure_load_pairs(target, cell, params)
    halves = list(zip(target.loads[::2], target.loads[1::2], strict=True))
    assert len(halves) == len(run.paired.blocks) > 10
    assert all(first[1] == second[1] for first, second in halves)
    assert all({first[0], second[0]} == {"baseline", "candidate"} for first, second in halves)
    assert len({tuple(first[1]) for first, _ in halves}) == len(halves)
    assert len({first[0] for first, _ in halves}) == 2


def test_the_budget_is_kept_and_several_processes_sampled(world):
    """A cell of 120 s takes no more than a block longer, and its blocks come from several processes."""
    cell, params, loaded = world(120.0)
    target = loaded()
    run = measure_load_pairs(target, cell, params)
    per_process = Counter(block.process for block in run.paired.blocks)
    assert len(per_process) == target.starts == 3  # more would have less than two whole blocks each
    assert min(per_process.values()) >= 2
    assert 60 < run.paired.spent_s < 140
    assert run.throughput == pytest.approx(50, rel=0.1)  # while its own requests were in flight


def test_a_slower_candidate_is_found_by_what_users_feel(world):
    """A tenth more latency is a regression of p50 and p99; throughput at a given rate stays as it is."""
    cell, params, loaded = world()
    found = verdicts(measure_load_pairs(loaded(factor=1.2), cell, params))
    assert {found["p50"], found["p99"]} == {Verdict.REGRESSED}
    assert found["goodput"] is Verdict.UNCHANGED
    same = verdicts(measure_load_pairs(loaded(), cell, params))
    assert set(same.values()) == {Verdict.UNCHANGED}


def test_each_arm_has_processes_of_its_own(world):
    """Where one process cannot hold both, every round starts fresh ones, and a round is one sample."""
    cell, params, loaded = world(60.0)
    targets = {arm: loaded(only=arm, factor=1.5) for arm in ("baseline", "candidate")}
    run = measure_load_pairs(targets, cell, params)
    rounds = {block.process for block in run.paired.blocks}
    assert run.paired.by_process
    assert len(rounds) == targets["baseline"].starts == targets["candidate"].starts >= 3
    assert verdicts(run)["p50"] is Verdict.REGRESSED


def test_answers_that_differ_end_the_comparison(world):
    """A candidate that answers something else than the baseline is wrong, however fast it is."""
    cell, params, loaded = world()
    run = measure_load_pairs(loaded(answers={"baseline": {"cat": 0.5}}), cell, params)
    assert any(words.startswith("differs from the baseline: ") for words in run.wrong)
    assert len(run.paired.blocks) == 1


def test_a_baseline_that_only_fails_is_the_baselines_fault(world):
    """Its requests fail, and the candidate's answers are right: every reason names the baseline."""
    cell, params, loaded = world()
    run = measure_load_pairs(loaded(fails="baseline"), cell, params)
    assert run.wrong
    assert all(words.startswith("baseline: ") for words in run.wrong)


def test_requests_of_the_candidate_that_fail_are_its_goodput(world):
    """Every request of the candidate fails: that is no invalid measurement, it is the worst goodput there is."""
    cell, params, loaded = world()
    run = measure_load_pairs(loaded(fails="candidate"), cell, params)
    assert run.validity == "VALID"
    assert len(run.paired.blocks) > 5
    assert verdicts(run)["goodput"] is Verdict.REGRESSED
    why = {one.metric.value: one.why for one in compare([run], Rules())}
    assert why["p50"] == "requests of the candidate failed, and have no latency: goodput counts them"


def test_blocks_go_on_with_the_samples(world):
    """A candidate that answers the last sample wrongly is found, though a block has fewer requests than samples."""
    cell, params, loaded = world()
    target = loaded()
    run = measure_load_pairs(target, replace(cell, schedule=ConstantRate(1, 60)), params)
    firsts = [index for _, index in target.firsts]
    assert firsts[::2] == firsts[1::2]  # the same for both arms
    assert len(run.paired.blocks) > 1


def test_a_ramp_does_not_take_eight_processes(world):
    """A ramp is one block: three processes must do, whatever the budget."""
    cell, params, loaded = world(60.0)
    target = loaded()
    run = measure_load_pairs(target, replace(cell, schedule=Ramp(1, 20, 30)), params)
    assert target.starts == len(run.paired.blocks) == 3


def test_an_archives_own_number_of_workers(world):
    """A configured deployment is compared with the workers that its archive names."""
    cell, params, loaded = world(30.0)
    model = replace(cell.deployment.model, as_configured=AsConfigured(Batching(1, 0), 4))
    cell = replace(cell, deployment=replace(cell.deployment, model=model, configured=True))
    target = loaded()
    assert measure_load_pairs(target, cell, params).workers == 4
    assert set(target.scaled) == {0, 4}


def test_arms_that_set_the_process_differently_cannot_share_it(world):
    """The worker says so in its answers, and the comparison is refused."""
    cell, params, loaded = world()
    with pytest.raises(ProcessWideError, match=r"torch\.num_threads"):
        measure_load_pairs(loaded(differs="torch.num_threads"), cell, params)


@pytest.mark.parametrize(
    ("schedule", "delay_ms", "expected_s"),
    [
        (Poisson(50, 60), 100, 5.0),
        (ConstantRate(10, 60), 100, 10.0),  # a hundred requests
        (Poisson(50, 60), 3000, 20.0),  # ten delays are longer than a block may be
        (ClosedLoop(4, 60), 100, 5.0),
        (Ramp(1, 50, 60), 100, 60),  # one block
    ],
)
def test_the_length_of_a_block(schedule, delay_ms, expected_s):
    """Long enough for its queue to matter, short enough that the machine is the same for both arms."""
    made = block_of(schedule, delay_ms, 20.0, seed=5)
    assert made.duration_s == expected_s
    assert type(made) is type(schedule)


def test_random_arrivals_are_drawn_anew():
    """Another seed is another block; the rate is the cell's."""
    one, other = (block_of(Poisson(50, 60), 100, 20.0, seed) for seed in (1, 2))
    assert list(one.departures_ns()) != list(other.departures_ns())
    assert one.rate_per_s == other.rate_per_s == 50


@pytest.mark.parametrize(
    ("baseline", "kind", "engine", "delay_ms", "told"),
    [
        (None, "capacity", None, 100, ""),
        ("HEAD", "capacity", None, 3000, None),
        ("HEAD", "capacity", "locust", 100, "measured alone; Locust sends to one arm only"),
        ("HEAD", "load", "locust", 100, "measured alone; Locust sends to one arm only"),
        (
            "HEAD",
            "load",
            None,
            3000,
            "measured alone; blocks of 10 batch delays would take 180 s, a cell is given 120 s (--ts-baseline-seconds)",
        ),
        ("HEAD", "load", None, 2000, None),
        ("HEAD", "handle", "locust", 3000, None),
    ],
)
def test_a_cell_that_cannot_be_compared_says_so_once(world, baseline, kind, engine, delay_ms, told):
    """With a baseline that is a notice, not silence."""
    cell, _, _ = world()
    cell = replace(cell, kind=kind, deployment=replace(cell.deployment, batching=Batching(16, delay_ms)))
    config = SimpleNamespace(baseline=baseline, engine=engine, budget=Budget(baseline_seconds=120))
    shared = SimpleNamespace(config=config, notices=[])
    comparisons = Comparisons(shared, None)
    for _ in range(2):
        assert comparisons.compares(cell) is (told is None)
    assert [line.partition(": ")[2] for line in shared.notices] == ([told] if told else [])
