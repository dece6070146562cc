"""The tables at the session's end: whatever the width, no figure is cut."""

from __future__ import annotations

import pytest

from pytest_torchserve.compare.comparison import Comparison, Rules, Verdict
from pytest_torchserve.compare.intervals import Interval
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.batches import Batches
from pytest_torchserve.measure.run import Traffic
from pytest_torchserve.model import Model
from pytest_torchserve.phase import Phase
from pytest_torchserve.report.terminal import tables, traffic_tables, verdict_tables
from pytest_torchserve.stats import Quantile

CELL = "densenet161-stock-cpu-b16"


def comparison(phase):
    """Return a comparison whose row is as long as rows get."""
    interval = Interval(1.2345, 0.9876, 1.4567, 0.123, 8)
    return Comparison(f"handle {CELL}", phase, 4.526, 5.587, interval, 99, 8, gating=True, verdict=Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200, None])
def test_every_figure_of_a_verdict_is_whole(width):
    """In a narrow terminal the table continues below, its first columns repeated; elsewhere each row is one line."""
    phases = [Phase.PREPROCESS, Phase.LATENCY]
    lines = verdict_tables.lines([comparison(phase) for phase in phases], {}, Rules(), "HEAD (714aa80fb9)", width=width)
    rows = [line for line in lines if line.startswith(CELL)]
    words = [word for row in rows for word in row.split()]
    for word in ("4526", "5587", "1.234", "0.988–1.457", "12.3%", "inconclusive"):
        assert words.count(word) == len(phases), lines
    table = lines[: lines.index("")]
    assert "…" not in "".join(table)
    assert all(len(line) <= (width or 10_000) for line in table)
    assert (len(rows) == len(phases)) is (width is None or width >= 100)
    assert all(row.split()[1] in ("pre", "latency") for row in rows)


def test_headings_break_before_figures_do():
    """A heading of two words takes two lines where that is enough; the rows stay whole."""
    table = tables.new_table("init: ms", ["model", "on", "load model", "spawn import", "first request", "n"])
    table.add_row("resnet56", "cpu", "65.9", "4347", "80.5", "3")
    wide, narrow = (tables.render([table], width=width).splitlines() for width in (60, 40))
    assert wide[1].split() == ["model", "on", "load", "model", "spawn", "import", "first", "request", "n"]
    assert narrow[1].split() == ["load", "spawn", "first"]
    assert narrow[3].split() == wide[2].split() == ["resnet56", "cpu", "65.9", "4347", "80.5", "3"]


def test_a_title_is_as_wide_as_the_terminal_lets_it_be():
    """A title longer than its table stays on one line where the terminal is wide enough; no word is lost elsewhere."""
    title = "a title of several words above a table that is narrow"
    for width in (20, 60, None):
        table = tables.new_table(title, ["model", "n"])
        table.add_row("noop", "12")
        lines = tables.render([table], width=width).splitlines()
        heading = lines.index("model  n")
        assert " ".join(lines[:heading]) == title
        assert (heading == 1) is (width is None or width >= len(title))


def test_a_name_wider_than_the_terminal_is_folded():
    """A name wider than the terminal goes on in the next line, with all its letters."""
    name = "a-model-with-a-name-of-forty-characters!"
    table = tables.new_table("", ["model", "n"])
    table.add_row(name, "12")
    lines = tables.render([table], width=20).splitlines()
    heading = next(index for index, line in enumerate(lines) if "n" in line.split())
    letters = "".join(word for line in lines[heading + 1 :] for word in line.split() if word not in ("12", "model"))
    assert name in letters
    assert "12" in "".join(lines)
    assert all(len(line) <= 20 for line in lines)


def test_a_log_has_no_width(pytester):
    """Output that goes to no terminal, as in CI, is limited neither by COLUMNS nor by pytest's width of 80."""
    pytester.makeconftest(
        """
        import pytest
        from pytest_torchserve.report.terminal import summary
        from pytest_torchserve.report.terminal.tables import new_table, render
        def lines(runs, *, width):
            table = new_table("t", ["model", *(f"c{n}" for n in range(30))])
            table.add_row("m", *(f"{n}.12345" for n in range(30)))
            return render([table], width=width).splitlines()
        summary.lines = lines
        """
    )
    pytester.makepyfile(
        """
        from pytest_torchserve import Model
        from pytest_torchserve.deployment import Batching, Deployment
        from pytest_torchserve.measure import Cell, Run
        from pytest_torchserve.phase import Phase
        def test_it(ts_store):
            cell = Cell("handle", Deployment(Model("m", "x", None, "cifar10"), "cpu", Batching(1)))
            ts_store(Run(cell, {Phase.HANDLE: {1: (0.01,) * 40}}, 1), Phase.HANDLE)
        """
    )
    result = pytester.runpytest_subprocess()
    (row,) = [line for line in result.outlines if line.startswith("m ")]
    assert row.split() == ["m", *(f"{n}.12345" for n in range(30))]


def load_run(name, latency=(), **rest):
    """Return a run under traffic with 1,000 requests, all of them in batches of 4."""
    traffic = Traffic(1000, 50.0, (), latency, None, Batches(16, {4: 250}), slo_s=0.25, **rest)
    cell = Cell("load", Deployment(Model(name, "x", None, "cifar10"), "cpu", Batching(16)), Poisson(50, 20))
    return Run(cell, {}, 1, checked=990, throughput=49.5, traffic=traffic)


def test_goodput_and_what_the_requests_say():
    """A load's row has its goodput; below stand effective size, utilisation and the number within the goal."""
    shown = (Quantile(0.5, 0.1, 0.08, 0.13),)
    full = load_run("full", shown, within_slo=0, effective_size=0.0, utilisation=1.2)
    assert "990 answers say nothing about a steady state (utilisation 1.20); 0 of 1,000" in " ".join(
        " ".join(traffic_tables.detail_lines(full)).split()
    )
    run = load_run("busy", shown, within_slo=900, effective_size=86.4, utilisation=0.83)
    words = " ".join(" ".join(traffic_tables.detail_lines(run)).split())
    assert "990 answers say as much as 86 independent ones (utilisation 0.83); 900 of 1,000 within 250 ms" in words
    lines = tables.render([traffic_tables.load_table([run])], width=100).splitlines()
    (row,) = [line for line in lines if "busy" in line]
    assert row.split()[-2:] == ["90.0%", "VALID"]


def test_a_percentile_that_no_load_has_has_no_column():
    """The p99.9 has a column where some load supports it."""
    short, long = load_run("short"), load_run("long", (Quantile(0.999, 0.5, 0.4, 0.6),))
    assert "p99.9" not in tables.render([traffic_tables.load_table([short])], width=100)
    assert "p99.9" in tables.render([traffic_tables.load_table([short, long])], width=100)
