"""Capacities of two arms: pairs of searches in fresh processes, and the verdict on their rates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from fakes import FakeMonitor, silent
from pytest_torchserve.compare import capacity_pairs
from pytest_torchserve.compare.capacity_pairs import measure_capacity_pairs, rounds_within
from pytest_torchserve.compare.comparison import Rules, Verdict
from pytest_torchserve.compare.load_blocks import ARM_HEADER
from pytest_torchserve.compare.pair_meter import ProcessWideError
from pytest_torchserve.compare.params import ComparisonParams
from pytest_torchserve.compare.verdict import compare
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Budget, Cell, Context, Run
from pytest_torchserve.measure.capacity_result import Capacity
from pytest_torchserve.measure.run import Paired


@dataclass
class Searched:
    """A registration whose capacity is known; it notes what it is asked."""

    make_response: object
    only: str = ""
    differs: str = ""
    scaled: list = field(default_factory=list)
    seeds: list = field(default_factory=list)

    def scale(self, workers):
        """Note the number of workers."""
        self.scaled.append(workers)
        return 0

    def send(self, load, samples, more, clock):
        """Answer one batch."""
        made = self.make_response(samples[0], pid=7)
        tag = f";differs={self.differs}" if self.differs else ""
        more([made._replace(head=made.head.replace(b";gpu=0", f";gpu=0{tag}".encode()))])


@pytest.fixture
def world(monkeypatch, make_response, make_sample, cat):
    """`world(rates, …)` returns (cell, params, make registration); searches find the arm's next rate."""

    def world_(rates, wrong=(), invalid=(), shown_per_s=None, **budget):
        inputs = replace(cat, samples=(make_sample("cat0"), make_sample("cat1")))
        deployment = Deployment(cat.artifacts.model, "cpu", Batching(16, 100))
        params = ComparisonParams(deployment, "HEAD", Context(inputs, Budget(**budget), silent, FakeMonitor()))
        left = {arm: list(found) for arm, found in rates.items()}

        def search(target, cell, context):
            sample = context.inputs.samples[0]
            arm = target.only or sample.headers[ARM_HEADER]
            assert (sample.answer is None) is (arm == "baseline")
            target.seeds.append(context.budget.seed)
            rate = left[arm].pop(0)
            shown = Capacity(0.25, 0.99, shown_per_s, None, rate, 300.0, ())
            return Run(cell, {}, 1, wrong=tuple(wrong), invalid=tuple(invalid), capacity=shown)

        monkeypatch.setattr(capacity_pairs, "measure_capacity", search)
        return Cell("capacity", deployment), params, lambda **more: Searched(make_response, **more)

    return world_


def test_three_pairs_in_fresh_processes(world):
    """Each round has a process of its own, and the same random arrivals for both arms."""
    rates = {"baseline": [200, 202, 198], "candidate": [150, 151, 149]}
    cell, params, made = world(rates)
    target = made()
    run = measure_capacity_pairs(target, cell, params)
    assert target.scaled == [0, 1] * 3
    assert target.seeds == [1, 1, 1001, 1001, 2001, 2001]
    assert run.paired.capacities == ((200, 150), (202, 151), (198, 149))
    assert not run.paired.by_process
    (one,) = compare([run], Rules())
    assert (one.metric.value, one.verdict, one.gating, one.unit) == ("capacity", Verdict.REGRESSED, True, "1/s")
    assert one.interval.ratio == pytest.approx(0.75, rel=0.01)
    assert (one.baseline, one.candidate) == (200, 150)


def test_arms_of_their_own_are_not_addressed(world):
    """Where each arm has processes of its own, each is asked as it is, and both are started anew."""
    cell, params, made = world({"baseline": [200] * 3, "candidate": [201, 199, 200]})
    targets = {arm: made(only=arm) for arm in ("baseline", "candidate")}
    run = measure_capacity_pairs(targets, cell, params)
    assert [target.scaled for target in targets.values()] == [[0, 1] * 3] * 2
    assert run.paired.by_process
    (one,) = compare([run], Rules())
    assert one.verdict is Verdict.UNCHANGED


def test_a_search_that_finds_nothing_is_inconclusive(world):
    """A rate that no search found has no ratio, and the verdict says how many are lacking."""
    cell, params, made = world({"baseline": [200] * 3, "candidate": [200, None, 200]})
    (one,) = compare([measure_capacity_pairs(made(), cell, params)], Rules())
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.why == "1 of 3 pairs of searches found no rate in one of the arms"


def test_a_disturbed_search_decides_nothing(world):
    """Searches lie minutes apart: what disturbed one of them may have spared the others."""
    rates = {"baseline": [200] * 3, "candidate": [100] * 3}
    cell, params, made = world(rates, invalid=["the sender was late"])
    run = measure_capacity_pairs(made(), cell, params)
    assert set(run.invalid) == {"baseline: the sender was late", "candidate: the sender was late"}
    (one,) = compare([run], Rules())
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.why.startswith("INVALID: ")


def test_both_arms_tell_the_same_figure(world):
    """Where one arm's curve does not cross the goal, the rates that were shown to meet it are compared, of both."""
    rates = {"baseline": [200, 200, 200], "candidate": [None, None, None]}
    cell, params, made = world(rates, shown_per_s=170)
    assert measure_capacity_pairs(made(), cell, params).paired.capacities == ((170, 170),) * 3


def test_wrong_answers_end_it(world):
    """A candidate that answers wrong is not searched again."""
    cell, params, made = world({"baseline": [200], "candidate": [200]}, wrong=["a dog"])
    run = measure_capacity_pairs(made(), cell, params)
    assert run.wrong == ("a dog",)
    assert compare([run], Rules())[0].why == "1 of 3 pairs of searches: they ended early"


def test_arms_that_cannot_share_a_process(world):
    """Where the arms set the process differently, they are to have processes of their own."""
    cell, params, made = world({"baseline": [200], "candidate": [200]})
    with pytest.raises(ProcessWideError, match="threads"):
        measure_capacity_pairs(made(differs="threads"), cell, params)


@pytest.mark.parametrize(("seconds", "search_s", "rounds"), [(120, 600, 3), (3600, 300, 6), (120, 5, 12)])
def test_more_rounds_where_there_is_time(seconds, search_s, rounds):
    """Three pairs of searches, and as many more as --ts-baseline-seconds has room for."""
    assert rounds_within(Budget(baseline_seconds=seconds, capacity_seconds=search_s)) == rounds


def test_a_capacity_counts_as_one_gating_metric():
    """One interval in the family, of which more is better."""
    deployment = Deployment(None, "cpu", Batching(16, 100))
    run = Run(
        Cell("capacity", deployment), {}, 1, paired=Paired("HEAD", capacities=((100, 120), (100, 121), (100, 119)))
    )
    deployment_named = replace(run, cell=Cell("capacity", replace(deployment, model=_Named())))
    (one,) = compare([deployment_named], Rules())
    assert one.verdict is Verdict.IMPROVED
    assert one.confidence == pytest.approx(0.95)


class _Named:
    name = "resnet56"
