"""Verdicts on pairs of times: the rule, the confidence interval, the cost of the probe, and what fails a session."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from dataclasses import replace

import pytest

from pytest_torchserve.compare.comparison import Rules, Verdict, judge
from pytest_torchserve.compare.intervals import BIAS, Interval, interval, pair_variance, student
from pytest_torchserve.compare.verdict import compare, failing
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.cell import FEWEST_SAMPLES
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import Phase
from pytest_torchserve.report.terminal import verdict_tables

RULES = Rules()


def noisy_pairs(ratio, n, seed=1, noise=0.03, drift=0.2, base_s=0.07):
    """Return pairs of a machine that drifts by 20% while each single batch scatters by 3%."""
    rng = random.Random(seed)
    pairs = []
    for index in range(n):
        pace = base_s * (1 + drift * math.sin(index / 40))
        pairs.append((pace * math.exp(rng.gauss(0, noise)), pace * ratio * math.exp(rng.gauss(0, noise))))
    return tuple(pairs)


def shared(pairs, processes=8):
    """Return the pairs by process: one tuple, cut into equal parts."""
    edges = [round(index * len(pairs) / processes) for index in range(processes + 1)]
    return {pid: pairs[a:b] for pid, (a, b) in enumerate(itertools.pairwise(edges)) if b > a}


def a_run(kind="handle", *, by_process=False, invalid=(), batch_size=16, probe_cost_s=None, **phases):
    """Return a run whose phases have these pairs: by process, or as one tuple that is shared by eight processes."""
    model = Model(name="resnet56", handler="x", reference=None, dataset="cifar10")
    pairs = {Phase(name): value if isinstance(value, dict) else shared(value) for name, value in phases.items()}
    return Run(
        cell=Cell(kind, Deployment(model, "cpu", Batching(batch_size))),
        seconds={},
        workers=1,
        invalid=invalid,
        paired=Paired("HEAD", pairs, by_process=by_process, probe_cost_s=probe_cost_s or {}),
    )


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict"),
    [
        (1.05, 1.04, 1.06, "regressed"),
        (1.02, 1.001, 1.04, "regressed"),
        (1.019, 1.010, 1.028, "inconclusive"),  # significantly slower; whether beyond the minimum effect is open
        (1.015, 1.012, 1.018, "unchanged"),  # significantly slower, by less than the minimum effect
        (1.05, 0.99, 1.11, "inconclusive"),
        (0.95, 0.94, 0.96, "improved"),
        (1.0, 0.995, 1.005, "unchanged"),
        (1.0, 0.97, 1.03, "inconclusive"),
        (1.3, None, None, "inconclusive"),
    ],
)
def test_the_rule(ratio, low, high, verdict):
    """A verdict needs a significant change beyond the minimum effect, or an interval within the minimum effect.

    All other changes are inconclusive.
    """
    assert judge(Interval(ratio, low, high, 0.01, 30), 0.02) == verdict


def test_students_interval():
    """Student's interval of nine values agrees with a textbook's figures, with t = 2.306; two values are too few."""
    values = [1 + z for z in (-1.5, -1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0, 1.5)]
    found = student(values, 0.95)
    error = math.sqrt(sum((value - 1) ** 2 for value in values) / 8 / 9)
    assert math.log(found.ratio) == pytest.approx(1)
    assert math.log(found.low) == pytest.approx(1 - 2.306 * error, abs=1e-3)
    assert math.log(found.high) == pytest.approx(1 + 2.306 * error, abs=1e-3)
    assert math.log(1 + found.detectable) == pytest.approx((2.306 + 0.889) * error, abs=2e-3)
    few = student([0.5] * 2, 0.95)
    assert (few.low, few.high, few.detectable, few.processes) == (None, None, None, 2)


def biased_pairs(rng, bias, pairs=200, processes=8, noise=0.01):
    """Return pairs of two arms with the same code, with a bias of each process.

    In each process one of the arms has a better place in memory, and all pairs of the process show that.
    """
    drawn = {}
    for pid in range(processes):
        shift = rng.gauss(0, bias)
        drawn[pid] = tuple((1.0, math.exp(shift + rng.gauss(0, noise))) for _ in range(pairs))
    return drawn


def test_what_a_process_is_biased_by_is_in_the_interval():
    """With a bias of 2% between processes 95% of the intervals hold the true ratio; pairs alone would miss it."""
    rng = random.Random(4)
    cells = [Paired("x", {Phase.HANDLE: biased_pairs(rng, 0.02)}) for _ in range(300)]
    found = [interval(cell, Phase.HANDLE, 0.95) for cell in cells]
    hits = sum(one.low <= 1.0 <= one.high for one in found)
    assert 0.92 <= hits / 300 <= 0.98
    # Of independent pairs the interval would be narrower by √pairs: it must be as wide as the bias makes it.
    widths = [math.log(one.high / one.low) for one in found]
    assert sum(widths) / 300 == pytest.approx(2 * 2.365 * 0.02 / math.sqrt(8), rel=0.1)


def test_processes_that_differ_no_more_than_their_pairs_lend_them_their_number():
    """For forty comparisons at once, 160 pairs of four unbiased processes give narrower intervals than four medians."""
    rng, confidence = random.Random(6), 1 - 0.05 / 40
    cells = [Paired("x", {Phase.HANDLE: biased_pairs(rng, 0.0, 40, 4, noise=0.1)}) for _ in range(300)]
    found = [interval(cell, Phase.HANDLE, confidence) for cell in cells]
    assert sum(one.low <= 1.0 <= one.high for one in found) >= 298
    medians = [
        [statistics.median(math.log(new) for _, new in pairs) for pairs in cell.pairs[Phase.HANDLE].values()]
        for cell in cells
    ]
    students = [student(values, confidence) for values in medians]
    narrower = [math.log(a.high / a.low) / math.log(b.high / b.low) for a, b in zip(found, students, strict=True)]
    assert statistics.median(narrower) < 0.5


def test_a_bias_of_a_few_processes_is_not_pooled_away():
    """Four processes that differ by 3%, where their pairs explain 0.3%, count as one sample each."""
    rng = random.Random(7)
    cells = [Paired("x", {Phase.HANDLE: biased_pairs(rng, 0.03, 40, 4, noise=0.015)}) for _ in range(300)]
    hits = sum(one.low <= 1.0 <= one.high for one in (interval(cell, Phase.HANDLE, 0.95) for cell in cells))
    assert 0.91 <= hits / 300 <= 0.98


def test_the_variance_that_pairs_give_a_median():
    """The variance of a median of normal pairs is π/2 of the pairs' variance, divided by their number.

    A batch that took ten times as long adds nothing.
    """
    rng = random.Random(8)
    pairs = [[rng.gauss(0.0, 0.02) for _ in range(50)] for _ in range(200)]
    variance, freedom = pair_variance(pairs)
    medians = [statistics.median(ratios) for ratios in pairs]
    assert freedom == 200 * 49
    assert variance == pytest.approx(math.pi / 2 * 0.02**2 / 50, rel=0.05)
    assert variance == pytest.approx(statistics.variance(medians), rel=0.25)
    disturbed = [[*ratios[1:], 2.3] for ratios in pairs]
    assert pair_variance(disturbed)[0] == pytest.approx(variance, rel=0.1)
    assert pair_variance([[0.0, 0.1]] * 3) == (0.0, 0)


@pytest.mark.parametrize("by_process", [True, False])
def test_processes_count_as_one_sample_each(by_process):
    """A round of two processes, or a process with both arms, is one sample, however many batches it ran."""
    pairs = {r: ((1.0, 1.0 + r / 10),) * 500 for r in range(6)}
    found = interval(Paired("x", {Phase.HANDLE: pairs}, by_process=by_process), Phase.HANDLE, 0.95)
    assert found.processes == 6
    assert found == student([math.log(1 + r / 10) for r in range(6)], 0.95)


def test_answers_that_differ_are_told_beside_the_verdict():
    """How far the arms' answers lie apart is told once a cell, and in every phase's comparison."""
    run = a_run(handle=((0.01, 0.01),) * 100, inference=((0.009, 0.009),) * 100)
    apart = replace(run, paired=replace(run.paired, answers_apart=0.00371))
    compared = compare([apart], RULES)
    assert [one.answers_apart for one in compared] == [0.00371] * 2
    told = verdict_tables.lines(compared, {}, RULES, "HEAD", width=100)
    assert told.count("answers differ by up to 0.0037, within the tolerance: handle resnet56-cpu-b16") == 1
    assert not any(
        "answers differ" in line for line in verdict_tables.lines(compare([run], RULES), {}, RULES, "x", width=99)
    )


def test_what_the_probe_costs_is_no_regression():
    """A significant change of 0.4 ms in 4 ms is unchanged where the probe itself takes 0.5 ms.

    Where the probe takes 0.1 ms, the phase has regressed.
    """
    pairs = noisy_pairs(1.1, 600, noise=0.005, base_s=4e-3)
    (one,) = compare([a_run(handle=pairs, probe_cost_s={Phase.HANDLE: 0.5e-3})], RULES)
    assert one.probe_cost == pytest.approx(0.119, rel=0.01)
    assert one.verdict == "unchanged"
    assert "the probe itself takes 11.9%" in one.line()
    assert failing([one], RULES) == []
    (one,) = compare([a_run(handle=pairs, probe_cost_s={Phase.HANDLE: 0.1e-3})], RULES)
    assert one.verdict == "regressed"
    assert failing([one], RULES) == [one]


def test_a_floor_is_named_where_it_applies():
    """The cost of the probe is named for each phase where it is above the minimum effect.

    Smaller changes of such a phase are ignored, and the limit for failing is the cost of the probe.
    """
    probe_cost_s = {Phase.INFERENCE: 0.2e-6, Phase.HANDLE: 0.1e-6}
    slow = tuple((1e-6, 1.5e-6 + n * 1e-10) for n in range(80))
    same = tuple((20e-6 + n * 1e-9, 20e-6 + n * 1e-9) for n in range(80))
    compared = compare([a_run(inference=slow, handle=same, probe_cost_s=probe_cost_s)], RULES)
    lines = verdict_tables.lines(compared, {}, RULES, "HEAD", width=None)
    at = lines.index("ignored, since the probe itself costs as much (--ts-min-effect=2% is less):")
    assert lines[at + 1] == "  handle resnet56-cpu-b16: inference below 20%"
    assert not any("handle below" in line for line in lines)
    (failed,) = [line for line in lines if line.startswith("regressed")]
    assert failed.endswith("(the probe's own cost, 20%)")


def test_a_large_change_of_a_tiny_phase_is_found_all_the_same():
    """A phase that grows from 1 µs, half of which is the probe's cost, to 2 ms has regressed."""
    pairs = tuple((1e-6, 2e-3 + n * 1e-6) for n in range(80))
    (one,) = compare([a_run(handle=pairs, probe_cost_s={Phase.HANDLE: 0.5e-6})], RULES)
    assert (one.verdict, one.probe_cost) == ("regressed", pytest.approx(0.5))
    assert failing([one], RULES) == [one]


def test_a_planted_change_is_found_and_named():
    """With inference 5% slower, inference and handle have regressed and fail the session; preprocess is unchanged."""
    run = a_run(
        preprocess=noisy_pairs(1.0, 600, 1, base_s=0.003),
        inference=noisy_pairs(1.05, 600, 2, base_s=0.064),
        postprocess=noisy_pairs(1.0, 600, 3, base_s=0.0001),
        handle=noisy_pairs(1.046, 600, 4),
        latency=noisy_pairs(1.04, 600, 5),
    )
    found = {one.metric: one for one in compare([run], RULES)}
    assert {phase: one.verdict for phase, one in found.items() if one.gating} == {
        "preprocess": "unchanged",
        "inference": "regressed",
        "handle": "regressed",
    }
    assert {one.metric for one in failing(found.values(), RULES)} == {"inference", "handle"}
    assert "handle resnet56-cpu-b16 inference" in found["inference"].line()
    assert not failing(found.values(), replace(RULES, max_regression=0.10))


def test_the_same_code_is_not_blamed():
    """A hundred cells of the same code have at most one false alarm, and at most five are not unchanged."""
    runs = [a_run(batch_size=seed, handle=noisy_pairs(1.0, 1000, seed)) for seed in range(100)]
    verdicts = [one.verdict for one in compare(runs, RULES)]
    assert verdicts.count(Verdict.REGRESSED) <= 1
    assert verdicts.count(Verdict.UNCHANGED) >= 95


def test_more_comparisons_need_more():
    """The intervals of a hundred comparisons are wider than that of a single one: all together hold with 95%."""
    alone = compare([a_run(handle=noisy_pairs(1.0, 300))], RULES)[0].interval
    among = compare([a_run(batch_size=n, handle=noisy_pairs(1.0, 300)) for n in range(100)], RULES)[0].interval
    assert among.ratio == alone.ratio
    assert math.log(among.high / among.low) > 1.5 * math.log(alone.high / alone.low)


def test_shown_phases_neither_judge_nor_widen():
    """`latency` and a `postprocess` of 0.1% of handle are reported, are not gating, and widen no interval.

    Both are ten times slower, and the session passes.
    """
    handle = noisy_pairs(1.0, 300)
    run = a_run(handle=handle, postprocess=noisy_pairs(10, 300, base_s=7e-5), latency=noisy_pairs(10, 300))
    found = {one.metric: one for one in compare([run], RULES)}
    assert found["postprocess"].verdict == found["latency"].verdict == "regressed"
    assert not failing(found.values(), RULES)
    assert found["handle"].interval == compare([a_run(handle=handle)], RULES)[0].interval


def test_a_part_that_was_nothing_and_is_much_judges():
    """A phase that grows from 1 µs to 2 ms is gating: from 1% of the baseline's handle to most of the candidate's."""
    was, now = noisy_pairs(1.0, 300, 1, base_s=1e-6), noisy_pairs(1.0, 300, 2, base_s=2e-3)
    inference = tuple((old, new) for (old, _), (_, new) in zip(was, now, strict=True))
    handle = tuple((old + 99e-6, new + 99e-6) for old, new in inference)
    found = {one.metric: one for one in compare([a_run(inference=inference, handle=handle)], RULES)}
    assert {one.metric for one in failing(found.values(), RULES)} == {"inference", "handle"}


def test_init_is_judged_by_its_total_and_what_is_large_in_it():
    """The total and the large phases of a start are gating; restarts are samples; the first request is only shown."""
    rounds = {r: ((4.0, 4.4 + r / 10),) for r in range(8)}
    small = dict.fromkeys(range(8), ((0.01, 0.02),))
    run = a_run("init", by_process=True, total=rounds, load_model=rounds, to_device=small, first_inference=rounds)
    found = {one.metric: (one.verdict, one.gating) for one in compare([run], RULES)}
    assert found["total"] == found["load_model"] == ("regressed", True)
    assert found["to_device"][1] is found["first_inference"][1] is False


def test_a_warm_up_is_a_part_of_the_start():
    """The warm-up is gating where it is a large part of the start, as the other parts are."""
    rounds = {r: ((4.0, 4.4 + r / 10),) for r in range(8)}
    warm_up = {r: ((0.5, 0.9 + r / 10),) for r in range(8)}
    for share, gating in ((1, True), (0.01, False)):
        scaled = {r: tuple((share * old, share * new) for old, new in pairs) for r, pairs in warm_up.items()}
        found = compare([a_run("init", by_process=True, total=rounds, warm_up=scaled)], RULES)
        assert {one.metric: one.gating for one in found} == {"total": True, "warm_up": gating}
        assert ("warm_up" in {one.metric for one in failing(found, RULES)}) is gating


def test_an_invalid_run_is_inconclusive():
    """An INVALID run is inconclusive whatever its figures are; it fails a strict session."""
    (one,) = compare([a_run(handle=noisy_pairs(1.5, 300), invalid=("3 of 9 requests failed",))], RULES)
    assert one.verdict == "inconclusive"
    assert "3 of 9 requests failed" in one.line()
    assert failing([one], RULES) == []
    assert failing([one], replace(RULES, strict=True)) == [one]


def test_a_phase_that_takes_no_time_has_no_ratio():
    """A phase of 0 s, as of a model without a device to move to, has no comparison and breaks nothing."""
    assert compare([a_run("init", to_device=((0.0, 0.0),) * 9)], RULES) == []


def test_a_phase_that_only_one_arm_has_is_not_passed_over():
    """A phase that only one arm has is reported without a ratio and is inconclusive.

    Where the phase is large it is gating, so that a strict session fails.
    """
    new = {r: ((0.0, 0.5 + r / 100),) for r in range(8)}
    total = {r: ((4.0, 4.5 + r / 100),) for r in range(8)}
    found = {one.metric: one for one in compare([a_run("init", by_process=True, total=total, to_device=new)], RULES)}
    one = found["to_device"]
    assert (one.verdict, one.gating, one.interval.ratio) == ("inconclusive", True, None)
    assert "the baseline takes no time for it" in one.line()


def test_single_times_of_zero_do_not_hide_the_others():
    """A pair with a time of 0 has no ratio; its phase has one from the other three hundred pairs."""
    pairs = ((0.0, 1.0), *noisy_pairs(1.0, 300))
    (one,) = compare([a_run(handle=pairs)], RULES)
    assert one.verdict == "unchanged"


def test_too_few_processes_are_told_with_how_many_it_takes():
    """With too few processes the reason names how many are needed; with that many there is an interval."""
    (one,) = compare([a_run(handle=shared(noisy_pairs(1.0, 600), FEWEST_SAMPLES - 1))], RULES)
    assert one.why == "2 processes, 3 are needed: --ts-baseline-seconds"
    (one,) = compare([a_run(handle=shared(noisy_pairs(1.0, 600), FEWEST_SAMPLES))], RULES)
    assert one.interval.low is not None


def test_what_was_visible_is_what_would_have_been_called():
    """The detectable change is at least the minimum effect; a change of that size is found four times in five."""
    precise = compare([a_run(handle=noisy_pairs(1.0, 3000, noise=0.001))], RULES)[0].interval
    assert 0.02 < precise.detectable < 0.02 + BIAS / math.sqrt(8)
    usual = compare([a_run(handle=noisy_pairs(1.0, 300))], RULES)[0].interval.detectable
    called = sum(
        compare([a_run(handle=noisy_pairs(1 + usual, 300, seed))], RULES)[0].verdict == "regressed"
        for seed in range(100)
    )
    assert 65 <= called <= 95


def test_a_change_beyond_all_measure_has_no_digits():
    """Three processes that are far apart: that more than 100% would have been found is all that can be said."""
    far = {process: [(1.0, ratio)] * 5 for process, ratio in enumerate((0.01, 1.0, 100.0))}
    (one,) = compare([a_run(handle=far)], RULES)
    assert one.interval.detectable > 100
    assert "a change of more than 100% could have been seen" in one.line()
    shown = verdict_tables.lines([one], {}, RULES, "HEAD", width=80)
    row = next(line for line in shown if line.startswith("resnet56"))
    assert ">100%" in row
    assert "–>10" in row
