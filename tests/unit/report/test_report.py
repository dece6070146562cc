"""The report: made from the journal of a session, opened in a real browser."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import statistics
from dataclasses import asdict
from xml.etree import ElementTree as ET

import pytest

from pytest_torchserve import cli
from pytest_torchserve.compare.comparison import Rules
from pytest_torchserve.compare.verdict import compare
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.errors import InputError
from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.batches import Batches
from pytest_torchserve.measure.blocks import ArmBlock, Block
from pytest_torchserve.measure.capacity_result import Capacity, Step
from pytest_torchserve.measure.capacity_rule import Outcome
from pytest_torchserve.measure.latency_breakdown import LatencyBreakdown
from pytest_torchserve.measure.run import Paired, Traffic
from pytest_torchserve.model import Model
from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES, Phase
from pytest_torchserve.report import reader
from pytest_torchserve.report.history import Saved
from pytest_torchserve.report.html.page import write as write_page
from pytest_torchserve.session.journal import Journal

MACHINE = {"cpu_model": "A <b>CPU</b>", "cpu_count": 2, "torch": "2", "torchserve": "0.12.0", "java": "17"} | {
    "libraries": {"decord": "0.6", "pillow's jpeg": "6.2"}
}
CHARTS = {"verdicts", "init", "handle", "spread", "waterfall", "batches", "capacity", "trend"}


def deployment(index=0, batch_size=16):
    """Return one of many deployments."""
    return Deployment(Model(f"model{index}", "x", None, "cifar10"), "cpu", Batching(batch_size, 100))


def samples(rng, phases, processes=3, n=40):
    """Return random seconds by phase and process."""
    return {p: {pid: tuple(rng.uniform(0.01, 0.02) for _ in range(n)) for pid in range(processes)} for p in phases}


def every_kind(cells=1):
    """Return a run of each kind, and `cells` handle runs; one run is INVALID, one has a baseline."""
    rng = random.Random(1)
    runs = [Run(Cell("init", deployment()), samples(rng, INIT_PHASES, n=1), 1)]
    for index in range(cells):
        seconds = samples(rng, HANDLE_PHASES)
        batches = {16: 120}
        runs.append(Run(Cell("handle", deployment(index // 4, 2 ** (index % 4))), seconds, 3, batch_sizes=batches))
    times = samples(rng, [Phase.HANDLE], 3, 100)[Phase.HANDLE]
    pairs = {Phase.HANDLE: {pid: tuple((s, 1.05 * s) for s in of_process) for pid, of_process in times.items()}}
    usual_s = statistics.median(time_s for of_process in times.values() for time_s in of_process)
    paired = Paired("HEAD (abc)", pairs, probe_cost_s={Phase.HANDLE: 0.04 * usual_s})
    runs.append(Run(Cell("handle", deployment(99)), samples(rng, HANDLE_PHASES), 1, paired=paired))
    stages = {"late": 0.001, "queue": 0.01, "inference": 0.06}
    waterfall = LatencyBreakdown(100, stages, stages, 0.1, 0.99, one_clock=True, probed=True, queue_told=True)
    batches = Batches(16, {16: 3, 2: 4}, (0.1,))
    traffic = Traffic(100, 50.0, (), (), waterfall, batches)
    runs.append(
        Run(
            Cell("load", deployment(), Poisson(50, 10)),
            samples(rng, [Phase.LATENCY]),
            1,
            batch_sizes={16: 3, 2: 4},
            invalid=("the <i>sender</i> was late",),
            traffic=traffic,
        )
    )
    steps = (
        Step(50, 18.0, 900, 0, Outcome.MEETS, 0.1, 0.12, 450.0, 0.02, 0.1, 4.0),
        Step(90, 10.0, 900, 50, Outcome.MISSES, 0.9, None, 30.0, 0.03, 0.9, 9.0),
    )
    runs.append(
        Run(Cell("capacity", deployment()), {}, 1, capacity=Capacity(0.25, 0.99, 50.0, 90.0, 52.0, 100.0, steps))
    )
    return runs


def journal_of(path, runs):
    """Write the journal that a session with these runs would leave; return its path."""
    lines = [{"at": "2026-01-01T00:00:00Z", "line": "session", **MACHINE}]
    lines += [{"line": "run", **run.as_dict()} for run in runs]
    lines += [{"line": "verdict", **asdict(one)} for one in compare(runs, Rules())]
    lines.append({"line": "uncompared", "cell": "handle other-cpu-b1", "why": "no <baseline>"})
    lines.append({"line": "rules", **asdict(Rules(min_effect=0.03))})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def made(tmp_path):
    """`made(cells)` writes a report of runs of every kind; returns its folder."""

    def made_(cells=1):
        document = reader.read([journal_of(tmp_path / "j.jsonl", every_kind(cells))])
        tests = ("test_handle[model0-cpu-b1-handle]", "test_handle[model1-cpu-b1-handle]")
        document.history = [
            Saved(f"000{n}_x.json", f"2026-01-0{n}", MACHINE, dict.fromkeys(tests, 0.01 * n)) for n in (1, 2, 3)
        ]
        write_page(document, tmp_path / "report")
        return tmp_path / "report"

    return made_


@pytest.fixture
def browser():
    """A real browser; where CI is set, a missing browser is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.environ.get("CI"):
        pytest.fail("no chromium on PATH: install the distribution's package `chromium`")
    if found is None:
        pytest.skip("no chromium on PATH")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - half a second

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = playwright.chromium.launch(executable_path=found, args=arguments)
        yield launched
        launched.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_the_page_in_a_browser(made, browser, scheme, width):
    """Every chart is there and visible, nothing is fetched, the console stays empty, and a click sorts."""
    folder = made()
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    complaints, fetched = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto((folder / "index.html").as_uri())
    boxes = {
        figure.get_attribute("id"): figure.locator("svg").bounding_box() for figure in page.locator("figure").all()
    }
    assert set(boxes) == CHARTS
    assert all(box["width"] > 300 and box["height"] > 60 for box in boxes.values())
    assert page.evaluate(
        "document.documentElement.scrollWidth <= window.innerWidth"
    )  # charts scroll, the page does not
    ink = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    red, *_ = map(int, re.findall(r"\d+", ink))
    assert (red > 128) is (scheme == "dark")
    median = page.locator("table.sortable th").nth(4).locator("button")
    for order in (1, -1):
        median.click()
        shown = [float(text) for text in page.locator("table.sortable td:nth-child(5)").all_text_contents()]
        assert len(set(shown)) > 1
        assert shown == sorted(shown)[::order]
    assert complaints == []
    assert [url for url in fetched if not url.startswith("data:")] == [(folder / "index.html").as_uri()]


def test_what_it_says(made):
    """The page has the verdicts first, reasons and names as text, never as markup, and the environment."""
    text = (made() / "index.html").read_text()
    assert text.index('id="verdict"') < text.index('id="init"')
    for figure in ("p99 at 90 requests/s", "queue, mean of a request", "batches of 2", "0003_x.json"):
        assert figure in text
    assert "handle other-cpu-b1 was not compared: no &lt;baseline&gt;" in text
    assert "regressed" in text
    assert "the &lt;i&gt;sender&lt;/i&gt; was late" in text
    assert "A &lt;b&gt;CPU&lt;/b&gt;" in text
    assert "decord=0.6 pillow&#39;s jpeg=6.2" in text
    assert "Against" not in text
    assert reader.read([made().parent / "j.jsonl"]).min_effect == 0.03
    summary = (made() / "summary.md").read_text()
    assert "Against HEAD (abc): **1 regressed**" in summary
    assert "| handle model99-cpu-b16 | handle |" in summary
    ignored = "(changes below 4.0% are ignored: the probe's own cost)"
    assert ignored in summary
    assert ignored.replace("'", "&#39;") in text or ignored in text
    assert "| handle other-cpu-b1 | | | | | | | inconclusive: no <baseline> |" in summary
    assert "- INVALID load model0-cpu-b16-d100-poisson50: the <i>sender</i> was late" in summary


@pytest.mark.parametrize("warm", [True, False])
def test_a_warm_up_is_shown_where_there_is_one(tmp_path, warm):
    """A warm-up is shown in the page, its chart, the summary and the samples.

    If no run has a warm-up, it is shown nowhere, not even as a dash.
    """
    phases = [phase for phase in INIT_PHASES if warm or phase is not Phase.WARM_UP]
    run = Run(Cell("init", deployment()), samples(random.Random(1), phases, n=3), 1)
    document = reader.read([journal_of(tmp_path / "j.jsonl", [run])])
    folder = write_page(document, tmp_path / "report").parent
    summary = (folder / "summary.md").read_text()
    title = "init: load model + to device" + " + warm up" * warm
    assert f">{title}<" in (folder / "index.html").read_text()
    assert (f"| {' | '.join(phases)} | stamp |" in summary) is True
    assert [("warm_up" in text) for text in (summary, (folder / "results.csv").read_text())] == [warm, warm]


def test_pictures_are_files_too(made):
    """Every chart is also a file: well-formed SVG on a white ground."""
    plots = list((made() / "plots").glob("*.svg"))
    assert {plot.stem for plot in plots} == CHARTS
    for plot in plots:
        assert ET.parse(plot).getroot().tag.endswith("svg")  # noqa: S314 - our own
        assert "currentColor" not in plot.read_text()


def test_every_sample_is_in_the_csv(made):
    """The CSV file has one row for each raw sample, and of a comparison the samples of both arms."""
    with (made() / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = every_kind()
    wanted = sum(len(values) for run in runs for by in run.seconds.values() for values in by.values())
    assert len(rows) == wanted + 300
    assert [row["arm"] for row in rows].count("baseline") == 300
    assert float(rows[0]["seconds"]) == next(iter(runs[0].seconds[Phase.LOAD_MODEL].values()))[0]


def test_two_hundred_cells_stay_small(made):
    """A page of two hundred cells has under three megabytes."""
    page = made(200) / "index.html"
    assert page.stat().st_size < 3e6


def test_made_again_from_what_pytest_benchmark_saved(pytester):
    """`tsperf report` of a saved file shows the same cells, with their samples by process."""
    pytester.makepyfile(
        """
from pytest_torchserve import Model
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.phase import Phase

def test_it(ts_store):
    cell = Cell("handle", Deployment(Model("resnet56", "x", None, "cifar10"), "cpu", Batching(16)))
    ts_store(Run(cell, {Phase.HANDLE: {11: (0.5,) * 30, 12: (0.25,) * 10}}, 2), Phase.HANDLE)
"""
    )
    pytester.runpytest_subprocess("--benchmark-save=kept", "--benchmark-save-data").assert_outcomes(passed=1)
    (saved,) = pytester.path.rglob("*_kept.json")
    (run,) = reader.read([saved]).runs
    assert run["cell"] == "resnet56-cpu-b16"
    assert {process: len(values) for process, values in run["seconds"]["handle"].items()} == {"11": 30, "12": 10}
    content = json.loads(saved.read_text())
    (entry,) = content["benchmarks"]
    older, thin = pytester.path / "older.json", pytester.path / "thin.json"
    del entry["extra_info"]["process_samples"]
    older.write_text(json.dumps(content))
    assert len(reader.read([older]).runs[0]["seconds"]["handle"]["all"]) == 40
    del entry["stats"]["data"]
    thin.write_text(json.dumps(content))
    assert reader.read([thin]).runs[0]["seconds"] == {"handle": {"all": [0.5]}}
    assert cli.main(["report", str(saved), "-o", str(pytester.path / "page")]) == 0
    assert "resnet56-cpu-b16" in (pytester.path / "page" / "index.html").read_text()


def test_runs_of_two_machines_are_told_apart(tmp_path):
    """A page may show the runs of two machines, and then says so."""
    first = journal_of(tmp_path / "a.jsonl", every_kind())
    other = tmp_path / "b.jsonl"
    other.write_text(first.read_text().replace('"java": "17"', '"java": "25"'))
    document = reader.read([first, other])
    assert document.others == ["b.jsonl: java was 25, not 17"]
    write_page(document, tmp_path / "out")
    assert "b.jsonl: java was 25, not 17" in (tmp_path / "out" / "index.html").read_text()


def test_a_load_that_was_compared(tmp_path):
    """Figures have their own units; where the candidate has no latency at all, the page is made all the same."""
    good, none = ArmBlock((0.1, 0.12) * 300, 600, 600, 50.0), ArmBlock((), 600, 0)
    paired = Paired("HEAD (abc)", blocks=(Block(1, good, none),) * 6)
    run = Run(Cell("load", deployment(), Poisson(50, 10)), {Phase.LATENCY: {1: (0.1,)}}, 1, paired=paired)
    write_page(reader.read([journal_of(tmp_path / "j.jsonl", [run])]), tmp_path / "out")
    summary = (tmp_path / "out" / "summary.md").read_text()
    cell = "| load model0-cpu-b16-d100-poisson50"
    assert f"{cell} | goodput | 100.0% | 0.0% | 0.000 |" in summary
    assert f"{cell} | p50 | 110 ms | – | – | – |" in summary
    assert "**1 regressed** **2 inconclusive**" in summary


def test_a_verdict_of_an_earlier_release(tmp_path):
    """What was saved before verdicts had a metric and a unit is shown as before."""
    path = journal_of(tmp_path / "j.jsonl", every_kind())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["line"] == "verdict":
            line["phase"] = line.pop("metric")
            for name in ("baseline", "candidate"):
                line[f"{name}_s"] = line.pop(name)
            del line["unit"], line["more_is_better"], line["more_s"]
    old = tmp_path / "old.jsonl"
    old.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pages = []
    for name in (path, old):
        write_page(reader.read([name]), tmp_path / name.stem)
        pages.append((tmp_path / name.stem / "summary.md").read_text())
    assert pages[0] == pages[1]


def test_a_journal_that_a_crash_has_cut(tmp_path):
    """What is whole is reported, with a note of what is not, also where a later session went on in the same file."""
    whole = journal_of(tmp_path / "j.jsonl", every_kind())
    lines = whole.read_bytes().splitlines(keepends=True)
    runs = len(reader.read([whole]).runs)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:3]) + lines[3][:50] + "é".encode()[:1])
    document = reader.read([cut])
    assert len(document.runs) == 2
    assert document.others == ["cut.jsonl: left out, since they are cut: line 4 of 4"]
    journal = Journal(cut)
    for line in lines:
        content = json.loads(line)
        content.pop("at", None)
        journal.write(content.pop("line"), content)
    document = reader.read([cut])
    assert len(document.runs) == runs
    write_page(document, tmp_path / "out")
    assert f"line 4 of {4 + len(lines)}" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", '{"benchmarks": 3}', "not json"])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_other_files_are_refused(tmp_path, capsys, content, suffix):
    """Any other file is refused, with what was wanted and which files to name."""
    path = tmp_path / f"x.{suffix}"
    path.write_text(content)
    with pytest.raises(InputError, match="wanted: "):
        reader.read([path])
    assert cli.main(["report", str(path)]) == 2
    assert "what to do: name" in capsys.readouterr().err
