"""The time accounting, the progress line and the tables."""

from __future__ import annotations

import pytest

from fakes import FakeClock
from pytest_torchserve import Model
from pytest_torchserve._util.progress import Progress
from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.environment import worker_advice
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES, Phase
from pytest_torchserve.report.terminal import tables


def test_the_accounting_adds_up():
    """Nested spans are booked to the innermost span; unbooked time is overhead; no time is booked twice."""
    clock = FakeClock()
    accounting = TimeAccounting(clock)
    clock.now_s = 1
    with accounting.span(Activity.WORKER_LOADS):
        clock.now_s = 4
        with accounting.span(Activity.IN_FLIGHT):
            clock.now_s = 9
        clock.now_s = 10
    clock.now_s = 12
    assert accounting.seconds[Activity.WORKER_LOADS] == 4
    assert accounting.seconds[Activity.IN_FLIGHT] == 5
    assert accounting.overhead_s == 3
    assert accounting.line().startswith("wall-clock 12.0 s: ")
    assert accounting.line().endswith("overhead 3.0 s (25%)")


def test_what_has_passed_before_the_first_span_can_be_booked():
    """Collecting is booked when it is over; its time is overhead no more, and the next span begins after it."""
    clock = FakeClock()
    accounting = TimeAccounting(clock)
    clock.now_s = 3
    accounting.book_start(Activity.COLLECTING)
    with accounting.span(Activity.GOLDEN):
        clock.now_s = 5
    clock.now_s = 6
    assert (accounting.seconds[Activity.COLLECTING], accounting.seconds[Activity.GOLDEN], accounting.overhead_s) == (
        3,
        2,
        1,
    )


def test_a_span_that_fails_is_booked_too():
    """The time of a span that raises was spent all the same, and is booked."""
    clock = FakeClock()
    accounting = TimeAccounting(clock)

    def fail():
        clock.now_s = 2
        raise KeyError

    with pytest.raises(KeyError), accounting.span(Activity.GOLDEN):
        fail()
    assert accounting.seconds[Activity.GOLDEN] == 2


def test_progress_on_a_terminal():
    """Progress rewrites a line of its own, never wider than the terminal, then returns to pytest's position."""
    written, clock = [], FakeClock()
    progress = Progress(written.append, width=40, total=3, clock=clock, column=lambda: 19)
    progress.start("handle resnet56-cpu-b16")
    for step in range(10):
        clock.now_s = step / 10
        progress.update(f"{step} batches", step / 10)
    progress.finish()
    first, *lines, last = written
    assert first == "\n"
    assert len(lines) == 2  # at 0 s and at 0.5 s: no more than two a second
    assert all(line.startswith("\r") and len(line.strip("\r")) < 40 for line in lines)
    assert "[1/3] handle resnet56-cpu-b16" in lines[0]
    assert last == "\r\x1b[2K\x1b[1A\x1b[20G"


def test_progress_elsewhere():
    """Without a terminal, progress is one plain line for each cell."""
    written = []
    progress = Progress(written.append, width=0, total=2)
    for cell in ("a", "b"):
        progress.start(cell)
        progress.update("5 batches", 0.5)
        progress.finish()
    assert written == ["\n[1/2] a …\n", "\n[2/2] b …\n"]


def make_run(name, kind, phases, **more):
    """Return a run in which every phase took 12.3456 ms."""
    model = Model(name=name, handler="x", reference=None, dataset="imagenet")
    cell = Cell(kind, Deployment(model, "cpu", Batching(16)))
    return Run(cell=cell, seconds={phase: {1: (0.0123456,) * 5} for phase in phases}, workers=1, **more)


@pytest.mark.parametrize("width", [80, 200])
def test_tables_fit(width):
    """With the widest names in 80 columns nothing is cut and every figure is there."""
    init = make_run("densenet161-stock", "init", INIT_PHASES, worker_rss_bytes=10**9)
    handle = make_run(
        "densenet161-stock", "handle", HANDLE_PHASES, throughput=1234.5, process_spread={Phase.HANDLE: 0.034}
    )
    text = tables.render([tables.init_table([init]), tables.handle_table([handle])], width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("12.3") == len(INIT_PHASES) + len(HANDLE_PHASES)
    assert all(word in text for word in ("densenet161-stock", "1234", "3%", "954"))


def test_a_column_for_a_warm_up_where_there_is_one():
    """If one of two models has a warm-up, the other has a dash; if no model has one, there is no column."""
    needed = [phase for phase in INIT_PHASES if phase is not Phase.WARM_UP]
    with_it, without = make_run("a", "init", INIT_PHASES), make_run("b", "init", needed)
    both = tables.render([tables.init_table([with_it, without])], width=200)
    assert "warm up" in both
    assert [line.split()[4] for line in both.splitlines()[2:4]] == ["12.3", "–"]
    assert "warm up" not in tables.render([tables.init_table([without])], width=200)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0341, "0.034"), (3.14159, "3.14"), (71.34, "71.3"), (412.6, "413"), (4120.4, "4120")]
)
def test_digits(value, text):
    """Figures have three significant digits or all digits before the point, never in scientific notation."""
    assert tables.digits(value) == text


def test_accuracy_is_said_once():
    """Accuracy is shown once for each model and device, if any of its cells sent all samples."""
    cells = [make_run("resnet56", "handle", HANDLE_PHASES, accuracy=(655, 700)) for _ in range(3)]
    none = make_run("densenet161", "handle", HANDLE_PHASES)
    assert tables.accuracy_lines([*cells, none]) == ["accuracy resnet56-cpu: 655 of 700 labelled samples"]


def test_worker_advice():
    """The advice is GPUs ÷ models workers for each model, at least one; without a GPU there is no number."""
    assert worker_advice(8, 2).endswith("4 workers for each model")
    assert worker_advice(1, 2).endswith("1 workers for each model")
    assert "no GPU" in worker_advice(0, 2)
