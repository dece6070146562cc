"""The end of a cell, and which responses count: with a fake clock and made-up responses."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import FakeClock, silent
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.measure import Context, measure_handle, validity
from pytest_torchserve.measure.cell import Budget
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.evidence import ENOUGH_WRONG
from pytest_torchserve.measure.handle_meter import MIN_BATCHES, HandleMeter
from pytest_torchserve.measure.warm_up import truncation
from pytest_torchserve.phase import Phase


@pytest.fixture
def checker():
    """A checker that requires answers from a CPU."""
    return Checker("cpu")


def feed(meter, clock, make_response, *, processes=(1,), batch_s=0.01, batches=10**6, size=1, **phases_ms):
    """Take in batch after batch, process after process, until the meter has enough; return the number of batches."""
    numbers = dict.fromkeys(processes, 0)
    for count in range(1, batches + 1):
        pid = processes[count % len(processes)]
        numbers[pid] += 1
        clock.now_s += batch_s
        answers = [
            make_response(pid=pid, batch=numbers[pid], size=size, sent_s=0, done_s=batch_s, **phases_ms)
            for _ in range(size)
        ]
        if not meter.on_responses(answers):
            return count
    return batches


def test_a_steady_cell_ends_when_precise(checker, make_response):
    """Each process's first three batches are warm-up; then the least number of batches is enough."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=3), 1, checker, clock, silent)
    feed(meter, clock, make_response, processes=(1, 2, 3))
    per_process = {pid: len(values) for pid, values in meter.seconds[Phase.HANDLE].items()}
    assert set(per_process) == {1, 2, 3}
    assert all(MIN_BATCHES <= count <= MIN_BATCHES + 20 for count in per_process.values())
    assert meter.checked == sum(per_process.values())


def test_a_slow_cell_ends_with_its_budget(checker, make_response):
    """Batches of 4 s: one is warm-up, then there are as many as fit into the budget."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1, cell_seconds=20), 1, checker, clock, silent)
    feed(meter, clock, make_response, batch_s=4.0)
    assert len(meter.seconds[Phase.LATENCY][1]) == 5
    assert meter.seconds[Phase.LATENCY][1] == pytest.approx([4.0] * 5)


def test_one_wrong_answer_stays(checker, make_response):
    """A wrong answer is kept with its reason, its batch is not timed, and the cell goes on."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1), 1, checker, clock, silent)
    assert meter.on_responses([make_response(answer={"dog": 0.9})])
    assert meter.checked == 0
    assert "top label 'dog'" in checker.evidence.wrong[0]


def test_a_failed_cell_takes_no_longer_than_a_good_one(checker, make_response):
    """A cell with wrong answers, and batches too slow to collect fifty of them, ends with its budget."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=3, cell_seconds=20), 1, checker, clock, silent)
    count = 0
    while meter.on_responses([make_response(answer={"dog": 0.9})]):
        clock.now_s += 4
        count += 1
    assert count == 5


def test_a_server_that_does_not_answer_is_not_asked_again(checker, make_response):
    """A time-out or a refused connection ends the cell: the next request would only take as long."""
    meter = HandleMeter(Budget(processes=1), 1, checker, FakeClock(1.0), silent)
    assert not meter.on_responses([make_response(status=0, error="no answer within 300 s")])


def test_a_replaced_worker_is_an_error(checker, make_response):
    """A process that was not there at warm-up shows that a worker died and was replaced by a cold one."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1), 1, checker, clock, silent)
    feed(meter, clock, make_response, batches=5)
    with pytest.raises(MeasurementError, match="process 99, which is new"):
        meter.on_responses([make_response(pid=99)])


def test_batches_that_are_all_split_end_with_the_budget(checker, make_response):
    """A cell whose batches are all split has no times, and ends with its budget."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1, cell_seconds=20), 2, checker, clock, silent)
    feed(meter, clock, make_response, size=2, batches=3)
    count = 0
    while meter.on_responses([make_response(pid=1, batch=10 + count), make_response(pid=1, batch=1000 + count)]):
        clock.now_s += 1
        count += 1
    assert count == 20
    assert set(meter.batch_sizes) == {1}


def test_a_noisy_latency_keeps_a_cell_going(checker, make_response):
    """A cell goes on while the latency at the client is noisy, even if the handler's times are precise."""
    clock = FakeClock(1.0)
    rng = random.Random(1)
    meter = HandleMeter(Budget(processes=1, cell_seconds=20), 1, checker, clock, silent)
    for batch in range(10**6):
        clock.now_s += 0.01
        if not meter.on_responses([make_response(batch=batch, done_s=rng.uniform(0.001, 0.02))]):
            break
    assert clock.now_s > 5  # with a steady latency a cell is done after a tenth of that


def test_a_hopeless_cell_ends(checker, make_response):
    """A cell whose answers are all wrong is not measured to its end."""
    meter = HandleMeter(Budget(processes=1), 1, checker, FakeClock(1.0), silent)
    answers = [meter.on_responses([make_response(status=503, error="HTTP 503")]) for _ in range(ENOUGH_WRONG)]
    assert answers == [True] * (ENOUGH_WRONG - 1) + [False]


class OneBatch:
    """A simulated endpoint that answers one batch with these responses."""

    def __init__(self, model, responses):
        self.deployment = Deployment(model, "cpu", Batching(len(responses)))
        self.responses = responses

    def send(self, load, samples, more, clock):
        """Answer the one batch."""
        more(self.responses)


@pytest.mark.parametrize("golden", [True, False])
def test_counts_are_counts(make_queue, make_response, cat, golden):
    """The counts include all failed requests and wrong answers, also where there are more than reasons are kept.

    Without golden answers the counts are the same: no answer is compared with a golden one, but all are judged.
    """
    if not golden:
        cat = replace(cat, samples=tuple(replace(sample, answer=None, label=None) for sample in cat.samples))
    (sample,) = cat.samples
    failed = make_response(sample, status=503, error="HTTP 503", failure=Failure.HTTP)
    bad = [failed] * (ENOUGH_WRONG + 14) + [make_response(sample, device="cuda:0")] * (ENOUGH_WRONG + 1)
    responses = bad + [make_response(sample)] * (200 - len(bad))
    monitor = make_queue(1.0).monitor
    model = replace(cat.artifacts.model, network=Path("network.py"))
    run = measure_handle(OneBatch(model, responses), Context(cat, Budget(processes=1), silent, monitor))
    assert run.invalid == ("requests failed: 64 of 200: HTTP 503 × 64", "answers were wrong: 51 of 200")
    assert len(run.wrong) == 2 * ENOUGH_WRONG


def test_a_split_batch_shows(checker, make_response):
    """Four requests that the server splits into 3 + 1 appear in the batch sizes, and no time is kept."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1), 4, checker, clock, silent)
    feed(meter, clock, make_response, size=4, batches=3)
    split = [make_response(pid=1, batch=9, size=3) for _ in range(3)] + [make_response(pid=1, batch=10, size=1)]
    before = meter.checked
    meter.on_responses(split)
    assert meter.checked == before
    assert meter.batch_sizes == {3: 1, 1: 1}


def test_a_process_that_gets_nothing_is_an_error(checker, make_response):
    """A cell of three processes is an error where a single process answers all batches: that is no sample of three."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=3), 1, checker, clock, silent)
    with pytest.raises(MeasurementError, match="only \\[1\\] got any"):
        feed(meter, clock, make_response, processes=(1,))


@pytest.mark.parametrize(
    ("cell", "found", "wrong"),
    [("cpu", "cpu", 0), ("cpu", "cuda:0", 1), ("gpu", "cuda:1", 0), ("gpu", "cpu", 1), ("gpu", "none", 0)],
)
def test_the_device_is_checked(make_response, cell, found, wrong):
    """A CPU cell that ran on a GPU fails, as does a GPU cell on a CPU; without parameters nobody can tell."""
    checker = Checker(cell)
    checker.check(make_response(device=found))
    assert len(checker.evidence.wrong) == wrong


def test_a_gpu_is_given_its_arithmetic(make_response):
    """The tolerance of a probability is larger on a GPU, as TF32 is coarser than float32, but not without limit."""
    for device, found, off, wrong in (
        ("cpu", "cpu", 0.005, 1),
        ("gpu", "cuda:0", 0.005, 0),
        ("gpu", "cuda:0", 0.05, 1),
    ):
        checker = Checker(device)
        checker.check(make_response(device=found, answer={"cat": 0.9 - off}))
        assert len(checker.evidence.wrong) == wrong


def test_accuracy_counts_distinct_samples(make_sample, make_response):
    """Accuracy counts right answers and labelled samples, each sample once.

    There is no accuracy before all samples were sent, or without training.
    """
    samples = [make_sample("a", "cat"), make_sample("b", "dog"), make_sample("c", None)]
    checker = Checker("cpu")
    for index in (0, 2, 0):
        checker.check(make_response(samples[index]))
    assert checker.evidence.accuracy(samples, "pretrained") is None
    checker.check(make_response(samples[1]))
    assert checker.evidence.accuracy(samples, "pretrained") == (1, 2)
    assert checker.evidence.accuracy(samples, "seeded") is None


def test_batches_of_the_warm_up_are_cut_afterwards(checker, make_response):
    """Twenty of a hundred batches are slow at first: they are in no phase, no count and no throughput, and are told."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=2, cell_seconds=60, precision=-1.0), 1, checker, clock, silent)
    feed(meter, clock, make_response, processes=(1, 2), batch_s=0.03, batches=26)
    feed(meter, clock, make_response, processes=(1, 2), batch_s=0.01, batches=80)
    meter.cut_warm_up()
    assert (meter.cut, meter.steady) == (20, True)
    assert meter.cut_s == pytest.approx(0.6)
    assert meter.started_ns == 30_000_000  # when the last of them was done, by its made-up times
    assert meter.checked == len(meter.done_ns) == 80
    assert meter.checked / meter.in_flight_s == pytest.approx(100)
    for phase in (Phase.LATENCY, Phase.HANDLE, Phase.INFERENCE):
        assert {pid: len(values) for pid, values in meter.seconds[phase].items()} == {1: 40, 2: 40}
    assert meter.samples()[Phase.LATENCY][1] == pytest.approx((0.01,) * 40)


def test_a_cell_that_gets_faster_goes_on_and_is_told(checker, make_response):
    """A cell whose medians are precise goes on while its batches get faster; at its end it is not steady."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1, cell_seconds=60, precision=1.0), 1, checker, clock, silent)
    for number in range(1, 201):
        batch_s = 0.05 * 0.99**number
        clock.now_s += batch_s
        assert meter.on_responses([make_response(pid=1, batch=number, sent_s=0, done_s=batch_s)])
    assert len(meter.seconds[Phase.LATENCY][1]) > 2 * MIN_BATCHES
    meter.cut_warm_up()
    assert (meter.cut, meter.steady) == (0, False)
    assert validity.never_steady(meter.steady) == "the server was still warming up: its batches got faster to the end"


def test_a_server_that_gets_faster_unevenly_goes_on(checker, make_response):
    """Of a JVM that compiles, and takes the processor while it does: MSER alone takes this for steady after 5 s.

    The means of eight parts are those of a cell of noop that was INVALID; then it stays as fast as it has become.
    """
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1, cell_seconds=60, precision=-1.0), 1, checker, clock, silent)
    parts_s = [0.0029, 0.0035, 0.0030, 0.0022, 0.0022, 0.0023, 0.0019, 0.0016]
    falling = [part_s for part_s in parts_s for _ in range(270)]
    assert truncation(falling)[1]
    for number, batch_s in enumerate(itertools.chain(falling, itertools.repeat(0.0016, 40_000))):
        sent_s, clock.now_s = clock.now_s, clock.now_s + batch_s
        if number == len(falling) - 1:
            meter.budget = replace(meter.budget, precision=1.0)  # from here on, all medians are precise enough
        if not meter.on_responses([make_response(pid=1, batch=number, sent_s=sent_s, done_s=clock.now_s)]):
            break
    assert 1.2 * len(falling) < number < 40_000
    meter.cut_warm_up()
    assert meter.steady
    assert validity.unstable(None, meter.done_ns, meter.started_ns, meter.done_ns[-1], 1) is None


def test_few_batches_cannot_tell(checker, make_response):
    """Of seven long batches nothing is cut, and nothing is said."""
    clock = FakeClock(1.0)
    meter = HandleMeter(Budget(processes=1, cell_seconds=30), 1, checker, clock, silent)
    feed(meter, clock, make_response, batch_s=4.0)
    meter.cut_warm_up()
    assert (meter.cut, meter.steady, validity.never_steady(meter.steady)) == (0, None, None)
