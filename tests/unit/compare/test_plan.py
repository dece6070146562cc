"""The time of a session's comparisons: looks that cost no more error than one, shares of the time, and journals."""

from __future__ import annotations

import json
import math
import random

import pytest

from pytest_torchserve.compare import verdict
from pytest_torchserve.compare.comparison import Rules, Verdict
from pytest_torchserve.compare.early_stop import EarlyStop, precise
from pytest_torchserve.compare.past import earlier
from pytest_torchserve.compare.plan import LEAST, MARGIN, Past, Plan
from pytest_torchserve.compare.verdict import compare
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import Phase

ERROR = 0.05


def pairs_of(rng, processes, each, ratio=1.0, noise=0.03, bias=0.0):
    """Return pairs by process, whose log-ratios scatter by `noise`, and by `bias` from process to process."""
    found = {}
    for process in range(processes):
        own = ratio * math.exp(rng.gauss(0, bias))
        found[process] = tuple((0.05, 0.05 * own * math.exp(rng.gauss(0, noise))) for _ in range(each))
    return found


def paired(pairs, *, by_process=False):
    """Return the pairs of a cell that has only the whole phase."""
    return Paired("HEAD", {Phase.HANDLE: pairs}, by_process=by_process)


def test_a_decided_cell_ends_and_keeps_what_its_look_left():
    """A sure change is seen at the first look, whose interval has a quarter of the error."""
    rng, early = random.Random(1), EarlyStop(ERROR, 0.02)
    pairs = pairs_of(rng, 5, 50, ratio=1.2)
    assert not early.decided(paired(pairs), 4)  # not time to look
    assert early.decided(paired(pairs), 5)
    assert early.left == 0.25


def test_looks_leave_less_and_come_seldom():
    """Each look takes a quarter of what is left; the next comes with 1.6 times the processes."""
    rng, early, left = random.Random(1), EarlyStop(ERROR, 0.02), []
    for processes in range(4, 14):
        assert not early.decided(paired(pairs_of(rng, processes, 3, noise=0.3)), processes)
        left.append(early.left)
    assert left == [1, 0.75, 0.75, 0.75, *[0.75**2] * 5, 0.75**3]


def test_the_verdict_has_the_confidence_that_the_looks_left():
    """The interval of a cell that was looked at is wider than that of one that was not."""
    model = Model(name="resnet56", handler="x", reference=None, dataset="cifar10")
    cell = Cell("handle", Deployment(model, "cpu", Batching(16)))
    pairs = pairs_of(random.Random(2), 8, 30)
    (usual,) = compare([Run(cell, {}, 1, paired=paired(pairs))], Rules())
    (looked,) = compare([Run(cell, {}, 1, paired=Paired("HEAD", {Phase.HANDLE: pairs}, error_share=0.25))], Rules())
    assert (usual.confidence, looked.confidence) == (0.95, pytest.approx(1 - 0.05 / 4))
    assert looked.interval.high > usual.interval.high


@pytest.mark.parametrize("bias", [0.0, 0.005, 0.01])
def test_looking_repeatedly_is_no_more_often_wrong(bias):
    """Of 600 cells of unchanged code, looked at after five and eight processes, no more than 5% exclude a ratio of 1.

    Looked at each time with the whole error, more would: that is what the looks are for.
    """
    rng, wrong, naive, cells = random.Random(3), 0, 0, 600
    for _ in range(cells):
        early, pairs = EarlyStop(ERROR, 1e-9), pairs_of(rng, 8, 6, bias=bias)
        looks = [dict(list(pairs.items())[:processes]) for processes in range(3, 9)]
        naive += any(verdict.decides(paired(look), 1e-9, 1 - ERROR) for look in looks)
        # With no effect to ignore, a cell is decided when its interval leaves 1 out.
        ended = any(early.decided(paired(look), len(look)) for look in looks)
        wrong += ended or verdict.decides(paired(pairs), 1e-9, 1 - ERROR * early.left)
    assert wrong / cells <= ERROR
    assert naive > 1.5 * wrong


def past(spent_s, half_width, detectable=0.03):
    """Return an earlier comparison with the confidence that the plan has."""
    return Past(spent_s, half_width, 1 - ERROR, detectable)


def test_equal_shares_where_nothing_is_known():
    """Without earlier comparisons each cell gets an equal share; what one leaves goes to the others."""
    plan = Plan(400, dict.fromkeys("abcd"), 0.02, ERROR)
    assert plan.shares() == pytest.approx(dict.fromkeys("abcd", 100))
    plan.ended("a", 10)
    assert plan.shares() == pytest.approx(dict.fromkeys("bcd", 130))
    plan.ended("b", 500)  # a cell that took far too long
    assert plan.shares() == {"c": 0, "d": 0}
    assert plan.share_s("c") == plan.share_s("a") == 1  # never none at all
    assert Plan(400, {"a": None}, 0.02, ERROR).share_s("unknown") == 400


def test_time_goes_where_it_decides():
    """Cells that the time can decide get what they need; one that it cannot gets the rest, a quarter share at least."""
    known = {"fast": past(100, math.log1p(0.01)), "slow": past(100, math.log1p(0.02)), "never": past(100, 1.0)}
    shares = Plan(300, known, 0.02, ERROR).shares()
    assert shares["fast"] == pytest.approx(MARGIN * 100 * (math.log1p(0.01) / math.log1p(0.02)) ** 2)
    assert shares["slow"] == pytest.approx(MARGIN * 100)
    assert shares["never"] == pytest.approx(300 - shares["fast"] - shares["slow"])
    assert shares["never"] > LEAST * 100
    scarce = Plan(60, known, 0.02, ERROR).shares()
    assert scarce["fast"] == pytest.approx(MARGIN * 100 * (math.log1p(0.01) / math.log1p(0.02)) ** 2)
    assert scarce["slow"] == scarce["never"] > LEAST * 20
    assert sum(scarce.values()) == pytest.approx(60)


def test_a_wider_confidence_needs_more_time():
    """A session of many cells needs wider intervals than the earlier one had, and its plan says so."""
    one = Past(100, math.log1p(0.02), 0.95, 0.04)
    assert one.needed_s(0.02, 0.95) == pytest.approx(100)
    assert one.needed_s(0.02, 0.9987) == pytest.approx(100 * (3.2155 / 1.96) ** 2, rel=1e-3)
    assert one.detectable_within(400, 0.01, 0.95) == pytest.approx(0.02)
    assert one.detectable_within(10_000, 0.01, 0.95) == 0.01  # smaller changes are ignored


def test_the_plan_is_told():
    """Each cell stands with its seconds, and with the change that they are expected to detect."""
    plan = Plan(1920, {"handle noop-cpu-b1": past(60, 0.01, 0.021), "init noop-cpu": None}, 0.02, ERROR)
    first, noop, init, note = plan.lines()
    assert first == "comparisons: 32 min for 2 cells, 1 of them compared before (--ts-baseline-minutes)"
    seconds = plan.shares()["handle noop-cpu-b1"]
    assert noop.split() == ["handle", "noop-cpu-b1", f"{seconds:.0f}", "s", "2.0%"]
    assert init.split()[:2] == ["init", "noop-cpu"]
    assert "expected to detect" in note
    assert len(Plan(60, {"init noop-cpu": None}, 0.02, ERROR).lines()) == 2
    assert Plan(60, {}, 0.02, ERROR).lines() == []
    hopeless = Plan(60, {"load x": past(60, math.inf, math.inf)}, 0.02, ERROR)
    assert hopeless.shares() == {"load x": 60}
    assert hopeless.lines()[1].split() == ["load", "x", "60", "s", "–"]


def a_verdict(cell, high, *, gating=True, **changed):
    """Return a line of a journal."""
    interval = {"ratio": 1.0, "low": 1 / high, "high": high, "detectable": high - 1, "processes": 8}
    line = {"at": "2026", "line": "verdict", "cell": cell, "metric": "handle", "gating": gating, "interval": interval}
    return json.dumps(line | {"spent_s": 60.0, "confidence": 0.99} | changed)


def test_journals_tell_what_a_comparison_needs(tmp_path):
    """The newest comparison of each cell counts, by its widest gating interval; lines that are cut or old are none."""
    (tmp_path / "20260101.jsonl").write_text(a_verdict("init a", 1.5) + "\n" + a_verdict("init b", 1.2) + "\n")
    lines = [
        json.dumps({"line": "run", "cell": "init a", "seconds": list(range(1000))}),
        a_verdict("init a", 1.1),
        a_verdict("init a", 1.3),
        a_verdict("init a", 9.0, gating=False),
        a_verdict("init c", 1.3, spent_s=None),
        '{"at": "2026", "line": "verdict", "cell": "init d", "gat',
    ]
    (tmp_path / "20260102.jsonl").write_text("\n".join(lines))
    found = earlier(tmp_path, ["init a", "init b", "init c", "init d"])
    assert found["init a"] == Past(60.0, pytest.approx(math.log(1.3)), 0.99, pytest.approx(0.3))
    assert found["init b"].half_width == pytest.approx(math.log(1.2))
    assert found["init c"] is found["init d"] is None
    assert earlier(tmp_path / "none", ["init a"]) == {"init a": None}


def test_the_last_session_of_a_journal_counts(tmp_path):
    """A journal that is written to every night holds many sessions; the last one that compared the cell is meant."""
    session = json.dumps({"at": "2026", "line": "session", "torch": "2"})
    nights = [session, a_verdict("init a", 9.0), a_verdict("init b", 1.2), session, a_verdict("init a", 1.1)]
    (tmp_path / "nights.jsonl").write_text("\n".join(nights))
    (tmp_path / "folder.jsonl").mkdir()
    found = earlier(tmp_path, ["init a", "init b"])
    assert found["init a"].half_width == pytest.approx(math.log(1.1))
    assert found["init b"].half_width == pytest.approx(math.log(1.2))


@pytest.mark.parametrize(
    "edited",
    [
        {"confidence": 1.0},
        {"confidence": 0},
        {"confidence": "x"},
        {"spent_s": -1},
        {"spent_s": 0},
        {"spent_s": math.nan},
        {"interval": {"low": 0, "high": 1, "detectable": 1}},
        {"interval": {"low": 2, "high": 1, "detectable": 1}},
        {"interval": {"low": 1, "high": 10**400, "detectable": 1}},
        {"interval": None},
    ],
)
def test_an_edited_journal_is_none(tmp_path, edited):
    """A verdict that cannot be is as good as none."""
    (tmp_path / "one.jsonl").write_text(a_verdict("init a", 1.5, **edited))
    assert earlier(tmp_path, ["init a"]) == {"init a": None}


def test_a_metric_without_an_interval_cannot_be_decided(tmp_path):
    """A p99 of few requests has no interval: no affordable time is known to decide its cell, which was compared."""
    none = {"ratio": 1.1, "low": None, "high": None, "detectable": None, "processes": 1}
    (tmp_path / "one.jsonl").write_text(a_verdict("load a", 1.5) + "\n" + a_verdict("load a", 1, interval=none))
    found = earlier(tmp_path, ["load a"])["load a"]
    assert found.half_width == found.detectable == math.inf
    assert found.needed_s(0.02, 0.95) == math.inf


def test_a_verdict_of_today_is_read_back(tmp_path):
    """What a session writes into its journal is what the next one plans with."""
    from dataclasses import asdict  # noqa: PLC0415

    from pytest_torchserve.session.journal import Journal  # noqa: PLC0415

    model = Model(name="resnet56", handler="x", reference=None, dataset="cifar10")
    cell = Cell("handle", Deployment(model, "cpu", Batching(16)))
    told = Paired("HEAD", {Phase.HANDLE: pairs_of(random.Random(2), 8, 30)}, spent_s=77.0)
    (one,) = compare([Run(cell, {}, 1, paired=told)], Rules())
    assert one.verdict is Verdict.UNCHANGED
    Journal(tmp_path / "20260101.jsonl").write("verdict", asdict(one))
    found = earlier(tmp_path, ["handle resnet56-cpu-b16"])["handle resnet56-cpu-b16"]
    assert found.spent_s == 77.0
    assert found.half_width == pytest.approx(math.log(one.interval.high / one.interval.low) / 2)


def test_a_process_ends_when_more_pairs_tell_nothing():
    """A process's own median need be known to half of the bias that all of its pairs share, and no better."""
    rng = random.Random(5)
    for noise, each, told in ((0.001, 19, False), (0.001, 25, True), (0.03, 60, False), (0.03, 600, True)):
        pairs = pairs_of(rng, 2, each, noise=noise)
        assert [precise(paired(pairs), process, 0.02) for process in (0, 1)] == [told, told]
    assert not precise(paired(pairs_of(rng, 1, 99, noise=0.001)), 7, 0.02)  # another process


def test_a_phase_that_does_not_gate_is_not_waited_for():
    """The latency may scatter as it likes; so may a part that takes a hundredth of the whole."""
    rng = random.Random(6)
    quiet, loud = pairs_of(rng, 1, 60, noise=0.001), pairs_of(rng, 1, 60, noise=0.2)
    tiny = {0: tuple((old / 100, new / 100) for old, new in loud[0])}
    phases = {Phase.HANDLE: quiet, Phase.LATENCY: loud, Phase.POSTPROCESS: tiny}
    assert precise(Paired("HEAD", phases), 0, 0.02)
    assert not precise(Paired("HEAD", phases | {Phase.INFERENCE: loud}), 0, 0.02)
    costly = {Phase.INFERENCE: 0.4 * 0.05}
    assert precise(Paired("HEAD", phases | {Phase.INFERENCE: loud}, probe_cost_s=costly), 0, 0.02)
