"""What pairs of times say: the rule, the interval, the blocks, and what fails a session."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.intervals import Interval, blocks_of, fewest_pairs, interval, student, woodruff
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import Phase
from pytest_torchserve.verdict import Rules, Verdict, compare, failing, judge

RULES = Rules()


def noisy_pairs(ratio, n, seed=1, noise=0.03, drift=0.2, base_s=0.07):
    """Pairs of a machine that drifts by 20% while each single batch scatters by 3%."""
    rng = random.Random(seed)
    pairs = []
    for index in range(n):
        pace = base_s * (1 + drift * math.sin(index / 40))
        pairs.append((pace * math.exp(rng.gauss(0, noise)), pace * ratio * math.exp(rng.gauss(0, noise))))
    return tuple(pairs)


def a_run(kind="handle", *, by_process=False, invalid=(), batch_size=16, **phases):
    """A run whose phases have these pairs: one tuple, or one by process."""
    model = Model(name="resnet56", handler="x", reference=None, dataset="cifar10")
    pairs = {Phase(name): value if isinstance(value, dict) else {7: value} for name, value in phases.items()}
    return Run(
        cell=Cell(kind, Deployment(model, "cpu", Batching(batch_size))),
        seconds={},
        workers=1,
        invalid=invalid,
        paired=Paired("HEAD", pairs, by_process=by_process),
    )


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict"),
    [
        (1.05, 1.04, 1.06, "regressed"),
        (1.02, 1.001, 1.04, "regressed"),
        (1.019, 1.010, 1.028, "inconclusive"),  # beyond doubt slower, and too little to matter or not: nobody knows
        (1.015, 1.012, 1.018, "unchanged"),  # beyond doubt slower, and beyond doubt too little to matter
        (1.05, 0.99, 1.11, "inconclusive"),
        (0.95, 0.94, 0.96, "improved"),
        (1.0, 0.995, 1.005, "unchanged"),
        (1.0, 0.97, 1.03, "inconclusive"),
        (1.3, None, None, "inconclusive"),
    ],
)
def test_the_rule(ratio, low, high, verdict):
    """Large enough and beyond doubt, small enough and beyond doubt, or nothing."""
    assert judge(Interval(ratio, low, high, 0.01, 30), 0.02) == verdict


def test_students_interval():
    """Against a textbook's own figures: nine values, t = 2.306; four are too few."""
    values = [1 + z for z in (-1.5, -1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0, 1.5)]
    found = student(values, 0.95)
    error = math.sqrt(sum((value - 1) ** 2 for value in values) / 8 / 9)
    assert math.log(found.ratio) == pytest.approx(1)
    assert math.log(found.low) == pytest.approx(1 - 2.306 * error, abs=1e-3)
    assert math.log(found.high) == pytest.approx(1 + 2.306 * error, abs=1e-3)
    assert math.log(1 + found.visible) == pytest.approx((2.306 + 0.889) * error, abs=2e-3)
    few = student([0.5] * 4, 0.95)
    assert (few.low, few.high, few.visible, few.blocks) == (None, None, None, 4)


def test_woodruffs_interval_of_independent_values():
    """Blocks that say nothing of their own: the ranks of the binomial distribution, widened by t for thirty blocks."""
    rng = random.Random(3)
    hits, widths = 0, []
    for _ in range(300):
        found = woodruff([[rng.gauss(0.0, 1.0) for _ in range(10)] for _ in range(30)], 0.95)
        hits += found.low <= 1.0 <= found.high
        widths.append(math.log(found.high / found.low))
    # The median of n normal values has a standard error of 1.2533 / √n.
    assert sum(widths) / 300 == pytest.approx(2 * 2.045 * 1.2533 / math.sqrt(300), rel=0.15)
    assert 0.92 <= hits / 300 <= 1.0


def test_woodruffs_interval_sees_that_blocks_differ():
    """Values that move together within a block are fewer than they seem: it still holds, and is wider for it."""
    rng = random.Random(4)
    hits, widths = 0, []
    for _ in range(300):
        blocks = []
        for _ in range(30):
            shift = rng.gauss(0, 1)
            blocks.append([shift + rng.gauss(0, 0.1) for _ in range(10)])
        found = woodruff(blocks, 0.95)
        hits += found.low <= 1.0 <= found.high
        widths.append(math.log(found.high / found.low))
    assert hits / 300 >= 0.92
    assert sum(widths) / 300 > 2 * 2 * 2.045 * 1.2533 / math.sqrt(300)


def test_blocks_that_agree_too_well_are_not_believed():
    """Exactly half of each block below the median: nothing scatters between them, and still 200 values are only 200."""
    found = woodruff([[-1.0, -0.5, 0.5, 1.0]] * 50, 0.95)
    assert found.low < 1.0 < found.high


def test_too_few_values_have_no_interval():
    """Four blocks; or more confidence than the largest and smallest of eight can give."""
    assert woodruff([[0.0, 0.1]] * 4, 0.95).low is None
    found = woodruff([[float(value)] for value in range(8)], 0.999)
    assert (found.low, found.high, found.visible) == (None, None, None)


def test_blocks_never_span_two_processes():
    """Thirty in all, shared out by the number of pairs."""
    blocks = blocks_of([[0.0] * 100, [1.0] * 200])
    assert len(blocks) == 30
    assert all(len(set(block)) == 1 for block in blocks)
    assert sum(block[0] == 0.0 for block in blocks) == 10
    assert sum(map(len, blocks)) == 300


def test_processes_count_as_one_sample_each():
    """However many batches two processes ran: they are one pair of processes."""
    pairs = {r: ((1.0, 1.0 + r / 10),) * 500 for r in range(6)}
    found = interval(Paired("x", {Phase.HANDLE: pairs}, by_process=True), Phase.HANDLE, 0.95)
    assert found.blocks == 6
    assert found == student([math.log(1 + r / 10) for r in range(6)], 0.95)


def test_a_planted_change_is_found_and_named():
    """5% slower in inference: that phase and handle have regressed, preprocess is unchanged, and it fails."""
    run = a_run(
        preprocess=noisy_pairs(1.0, 600, 1, base_s=0.003),
        inference=noisy_pairs(1.05, 600, 2, base_s=0.064),
        postprocess=noisy_pairs(1.0, 600, 3, base_s=0.0001),
        handle=noisy_pairs(1.046, 600, 4),
        latency=noisy_pairs(1.04, 600, 5),
    )
    found = {one.phase: one for one in compare([run], RULES)}
    assert {phase: one.verdict for phase, one in found.items() if one.gating} == {
        "preprocess": "unchanged",
        "inference": "regressed",
        "handle": "regressed",
    }
    assert {one.phase for one in failing(found.values(), RULES)} == {"inference", "handle"}
    assert "handle resnet56-cpu-b16 inference" in found["inference"].line()
    assert not failing(found.values(), replace(RULES, max_regression=0.10))


def test_the_same_code_is_not_blamed():
    """A hundred cells of the same code: at most one false alarm, and hardly any is left open."""
    runs = [a_run(batch_size=seed, handle=noisy_pairs(1.0, 600, seed)) for seed in range(100)]
    verdicts = [one.verdict for one in compare(runs, RULES)]
    assert verdicts.count(Verdict.REGRESSED) <= 1
    assert verdicts.count(Verdict.UNCHANGED) >= 95


def test_more_comparisons_need_more():
    """The intervals of a hundred comparisons are wider than one's alone: together they hold with 95%."""
    alone = compare([a_run(handle=noisy_pairs(1.0, 300))], RULES)[0].interval
    among = compare([a_run(batch_size=n, handle=noisy_pairs(1.0, 300)) for n in range(100)], RULES)[0].interval
    assert among.ratio == alone.ratio
    assert math.log(among.high / among.low) > 1.5 * math.log(alone.high / alone.low)


def test_shown_phases_neither_judge_nor_widen():
    """`postprocess` of 0.1% of handle and `latency`: tenfold slower, told, and the session passes."""
    handle = noisy_pairs(1.0, 300)
    run = a_run(handle=handle, postprocess=noisy_pairs(10, 300, base_s=7e-5), latency=noisy_pairs(10, 300))
    found = {one.phase: one for one in compare([run], RULES)}
    assert found["postprocess"].verdict == found["latency"].verdict == "regressed"
    assert not failing(found.values(), RULES)
    assert found["handle"].interval == compare([a_run(handle=handle)], RULES)[0].interval


def test_a_part_that_was_nothing_and_is_much_judges():
    """A microsecond that became two milliseconds: it was 1% of handle, and it is all of it now."""
    was, now = noisy_pairs(1.0, 300, 1, base_s=1e-6), noisy_pairs(1.0, 300, 2, base_s=2e-3)
    inference = tuple((old, new) for (old, _), (_, new) in zip(was, now, strict=True))
    handle = tuple((old + 99e-6, new + 99e-6) for old, new in inference)
    found = {one.phase: one for one in compare([a_run(inference=inference, handle=handle)], RULES)}
    assert {one.phase for one in failing(found.values(), RULES)} == {"inference", "handle"}


def test_init_is_judged_by_its_total_and_what_is_large_in_it():
    """Restarts are the samples; the first request is shown."""
    rounds = {r: ((4.0, 4.4 + r / 10),) for r in range(8)}
    small = dict.fromkeys(range(8), ((0.01, 0.02),))
    run = a_run("init", by_process=True, total=rounds, load_model=rounds, to_device=small, first_inference=rounds)
    found = {one.phase: (one.verdict, one.gating) for one in compare([run], RULES)}
    assert found["total"] == found["load_model"] == ("regressed", True)
    assert found["to_device"][1] is found["first_inference"][1] is False


def test_an_invalid_run_is_inconclusive():
    """Whatever its figures say; strict sessions fail for it."""
    (one,) = compare([a_run(handle=noisy_pairs(1.5, 300), invalid=("3 of 9 requests failed",))], RULES)
    assert one.verdict == "inconclusive"
    assert "3 of 9 requests failed" in one.line()
    assert failing([one], RULES) == []
    assert failing([one], replace(RULES, strict=True)) == [one]


def test_a_phase_that_takes_no_time_has_no_ratio():
    """A model without a device to move to: nothing is concluded, nothing breaks."""
    assert compare([a_run("init", to_device=((0.0, 0.0),) * 9)], RULES) == []


def test_a_phase_that_only_one_side_has_is_not_passed_over():
    """There is no ratio; it is told, judges where it is large, and a strict session fails."""
    new = {r: ((0.0, 0.5 + r / 100),) for r in range(8)}
    total = {r: ((4.0, 4.5 + r / 100),) for r in range(8)}
    found = {one.phase: one for one in compare([a_run("init", by_process=True, total=total, to_device=new)], RULES)}
    one = found["to_device"]
    assert (one.verdict, one.gating, one.interval.ratio) == ("inconclusive", True, None)
    assert "the baseline takes no time for it" in one.line()


def test_single_times_of_zero_do_not_hide_the_others():
    """One of three hundred: its pair has no ratio, the phase has."""
    pairs = ((0.0, 1.0), *noisy_pairs(1.0, 300))
    (one,) = compare([a_run(handle=pairs)], RULES)
    assert one.verdict == "unchanged"


def test_too_few_pairs_are_told_with_how_many_it_takes():
    """And that many do have an interval."""
    (one,) = compare([a_run(handle=noisy_pairs(1.0, 6))], RULES)
    needed = int(one.why.partition(" pairs, ")[2].split()[0])
    assert one.why.startswith("6 pairs, ")
    assert needed == fewest_pairs(0.95, by_process=False)
    enough = [compare([a_run(handle=noisy_pairs(1.0, n))], RULES)[0].interval.low for n in range(needed, needed + 9)]
    assert None not in enough
    assert compare([a_run(handle=noisy_pairs(1.0, needed - 2))], RULES)[0].interval.low is None


def test_what_was_visible_is_what_would_have_been_called():
    """Never less than the minimum effect; and a change of that size is called four times in five."""
    precise = compare([a_run(handle=noisy_pairs(1.0, 3000, noise=0.001))], RULES)[0].interval
    assert 0.02 < precise.visible < 0.021
    usual = compare([a_run(handle=noisy_pairs(1.0, 300))], RULES)[0].interval.visible
    called = sum(
        compare([a_run(handle=noisy_pairs(1 + usual, 300, seed))], RULES)[0].verdict == "regressed"
        for seed in range(100)
    )
    assert 65 <= called <= 95
