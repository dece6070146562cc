"""The entries that pytest-benchmark gets, and those it must never get: through pytester, without a server."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import pytest
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.batches import Batches
from pytest_torchserve.measure.run import Traffic
from pytest_torchserve.model import Model
from pytest_torchserve.phase import Phase
from pytest_torchserve.plugin import benchmark
from pytest_torchserve.report import history
from pytest_torchserve.report.html import numbers
from pytest_torchserve.report.reader import Document
from pytest_torchserve.stats import Quantile

PROMISED = (
    *("model", "device", "kind", "phase", "batch_size", "max_batch_delay_ms", "workers", "n"),
    *("p50_s", "p90_s", "p99_s", "throughput", "achieved_batch_size", "processes", "process_spread"),
    *("checked", "wrong", "weights", "samples", "worker_rss_bytes"),
)

TEST = """
import pytest
from pytest_torchserve import Model
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.phase import Phase

def run(**more):
    model = Model(name="resnet56", handler="x", reference=None, dataset="cifar10")
    cell = Cell("handle", Deployment(model, "cpu", Batching(16)))
    seconds = {Phase.INFERENCE: {1: tuple(0.01 + 0.001 * i for i in range(30)), 2: (0.02,) * 10}}
    return Run(cell=cell, seconds=seconds, workers=2, checked=640, throughput=99.5, batch_sizes={16: 40}, **more)
"""


def saved(pytester):
    """Return the entries of the one saved file by name, and its whole content."""
    (file,) = pytester.path.rglob("*_kept.json")
    content = json.loads(file.read_text())
    return {entry["name"]: entry for entry in content["benchmarks"]}, content


def run_and_save(pytester, *args):
    """Run the tests and save as `kept`, with raw samples."""
    return pytester.runpytest_subprocess("--benchmark-save=kept", "--benchmark-save-data", *args)


def test_an_entry(pytester):
    """An entry holds the statistics and raw samples that were measured; extra_info has every promised key."""
    pytester.makepyfile(TEST + "def test_it(ts_store):\n    ts_store(run(weights='seeded'), Phase.INFERENCE)\n")
    run_and_save(pytester).assert_outcomes(passed=1)
    entries, content = saved(pytester)
    stats, extra = entries["test_it"]["stats"], entries["test_it"]["extra_info"]
    assert stats["rounds"] == 40
    assert stats["data"][:3] == pytest.approx([0.01, 0.011, 0.012])
    assert stats["min"] == pytest.approx(0.01)
    assert set(PROMISED) <= set(extra)
    assert (extra["n"], extra["checked"], extra["wrong"], extra["batch_size"]) == (40, 640, 0, 16)
    assert extra["p90_s"] is not None
    assert extra["p99_s"] is None
    assert {"torchserve", "torch", "torchvision", "cpu_model", "gpu_models", "server_settings"} <= set(
        content["machine_info"]
    )
    # The keys taken out before pytest-benchmark compares are all the keys that were put in.
    theirs = pytest_benchmark_generate_machine_info()
    assert content["machine_info"].keys() - theirs.keys() == history.OUR_KEYS


SEVERAL = """
from pytest_torchserve.loadgen.arrivals import Poisson

class Odd:
    place = "/home/me"

@pytest.mark.parametrize("odd", [Odd()])
@pytest.mark.parametrize("phase", [Phase.INFERENCE, Phase.HANDLE])
@pytest.mark.parametrize("model", ["a", "b"])
def test_handle(ts_store, model, phase, odd):
    cell = Cell("handle", Deployment(Model(model, "x", None, "cifar10"), "cpu", Batching(16)))
    ts_store(Run(cell, {phase: {1: (0.01,) * 40}}, 1), phase)

def test_load(ts_store):
    cell = Cell("load", Deployment(Model("a", "x", None, "cifar10"), "cpu", Batching(16, 100)), Poisson(10, 1.0, 1), 2)
    ts_store(Run(cell, {Phase.LATENCY: {1: (0.01,) * 40}}, 2), Phase.LATENCY)

def test_init(ts_store):
    cell = Cell("init", Deployment(Model("a", "x", None, "cifar10"), "cpu", Batching(1)))
    ts_store(Run(cell, {Phase.TOTAL: {1: (0.5,) * 3}}, 1), Phase.TOTAL)
"""


def test_parameters_are_words(pytester):
    """Every entry has the same parameters, in words, for grouping: no objects, and no paths of the machine."""
    pytester.makepyfile(TEST + SEVERAL)
    run_and_save(pytester).assert_outcomes(passed=6)
    entries, _ = saved(pytester)
    assert entries["test_load"]["params"] == {
        "kind": "load",
        "model": "a",
        "device": "cpu",
        "batch_size": 16,
        "max_batch_delay_ms": 100,
        "load": "poisson10",
        "workers": 2,
        "phase": "latency",
    }
    assert all(entry["params"].keys() == entries["test_load"]["params"].keys() for entry in entries.values())
    assert entries["test_init"]["params"]["batch_size"] == entries["test_init"]["params"]["load"] == "none"
    (file,) = pytester.path.rglob("*_kept.json")
    assert "Odd" not in file.read_text()
    assert "/home/me" not in file.read_text()


@pytest.mark.parametrize("grouping", ["param:model", "param:load,param:phase", "param:kind,param:workers", "func"])
def test_pytest_benchmarks_own_outputs(pytester, grouping):
    """Grouping by a parameter shows pytest-benchmark's table, a histogram is drawn, and its `compare` writes a CSV."""
    pytester.makepyfile(TEST + SEVERAL)
    result = run_and_save(pytester, f"--benchmark-group-by={grouping}", "--benchmark-histogram=drawn/of")
    result.assert_outcomes(passed=6)
    first = {"param:model": "model=a", "func": "test_handle"}.get(grouping, grouping.partition(",")[0][6:])
    result.stdout.fnmatch_lines([f"*benchmark '{first}*': * tests *"])
    assert list((pytester.path / "drawn").glob("of-*.svg"))
    compared = pytester.run("pytest-benchmark", "compare", f"--group-by={grouping}", "--csv=out.csv")
    assert compared.ret == 0
    compared.stdout.fnmatch_lines([f"*benchmark '{first}*': * tests *"])
    rows = list(csv.DictReader((pytester.path / "out.csv").read_text().splitlines()))
    assert {(row["param:model"], row["param:phase"]) for row in rows} >= {("a", "inference"), ("b", "handle")}
    assert not [value for row in rows for value in row.values() if value.startswith("<")]


@pytest.mark.parametrize("wrong", ["run(wrong=('oops',))", "run()"])
def test_a_failed_cell_is_never_saved(pytester, wrong):
    """Neither a run with wrong answers nor a test that fails after its timing leaves an entry."""
    fails = "" if "oops" in wrong else "    assert False, 'after the timing'\n"
    body = f"def test_bad(ts_store):\n    ts_store({wrong}, Phase.INFERENCE)\n{fails}"
    pytester.makepyfile(TEST + body + "def test_good(ts_store):\n    ts_store(run(), Phase.INFERENCE)\n")
    run_and_save(pytester).assert_outcomes(passed=1, failed=1)
    entries, _ = saved(pytester)
    assert set(entries) == {"test_good"}


def test_a_failed_cell_is_told_by_its_counts(pytester):
    """The message of a failed cell shows the counts of its stamp: the list of reasons is cut off at some length."""
    bad = "run(wrong=('oops',) * 50, invalid=('64 of 70 answers were wrong',))"
    pytester.makepyfile(TEST + f"def test_bad(ts_store):\n    ts_store({bad}, Phase.INFERENCE)\n")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not recorded: 64 of 70 answers were wrong", "oops"])
    result.stdout.no_fnmatch_line("*50 wrong answers*")


def test_a_cause_is_told_once(pytester):
    """Of the tests of one wrong cell the first has the reasons, the others its name; another cell has its own."""
    pytester.makepyfile(
        TEST
        + """
BAD = run(wrong=("the third <word>",), invalid=("64 of 70 answers were wrong",))
@pytest.mark.parametrize("phase", ["inference", "handle"])
def test_bad(ts_store, phase):
    ts_store(BAD, Phase(phase))
def test_other(ts_store):
    ts_store(run(wrong=("another",)), Phase.HANDLE)
def test_asserted():
    assert BAD.processes == 3
"""
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=4)
    printed, _, _ = result.stdout.str().partition("short test summary info")  # where CI=true, it has whole messages
    assert printed.count("\nthe third <word>\n") == 1
    assert "\nfor the same reason as test_a_cause_is_told_once.py::test_bad[inference]\n" in printed
    assert "handle resnet56-cpu-b16: not recorded: 1 wrong answers\nanother\n" in printed
    assert "where 2 = <Run of handle resnet56-cpu-b16: INVALID: 64 of 70 answers were wrong>.processes" in printed
    assert "FAILED test_a_cause_is_told_once.py::test_other - Failed: handle resn" in result.stdout.str()


def test_a_skip_is_placed_at_its_test(pytester):
    """A phase that the handler need not have is skipped in the test's name, not in a file of the plugin."""
    body = "import dataclasses\ndef test_it(ts_store):\n    ts_store(run(), Phase.WARM_UP)\n"
    pytester.makepyfile(test_mine=TEST + body)
    result = run_and_save(pytester, "-rs")
    result.stdout.fnmatch_lines([f"SKIPPED [[]1] test_mine.py:{TEST.count(chr(10)) + 1}: the handler has no*"])


def test_a_phase_without_samples_fails(pytester):
    """A phase of which nothing was measured is a failure, not an entry of zeros."""
    pytester.makepyfile(TEST + "def test_bad(ts_store):\n    ts_store(run(), Phase.LOAD_MODEL)\n")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not recorded: 0 wrong answers, 0 samples of load_model*"])


def test_a_phase_that_a_handler_need_not_have_is_skipped(pytester):
    """An optional phase without samples is skipped with the reason, and nothing is stored.

    With samples the phase is stored as any other, and wrong answers fail it.
    """
    seconds = "dataclasses.replace(run(), seconds={Phase.TOTAL: {1: (1.0,)}, Phase.WARM_UP: {1: (0.5,)}})"
    pytester.makepyfile(
        "import dataclasses\n"
        + TEST
        + "def test_without(ts_store):\n    ts_store(run(), Phase.WARM_UP)\n"
        + f"def test_with(ts_store):\n    ts_store({seconds}, Phase.WARM_UP)\n"
        + "def test_bad(ts_store):\n    ts_store(run(wrong=('oops',)), Phase.WARM_UP)\n"
        + "def test_nothing(ts_store):\n    ts_store(dataclasses.replace(run(), seconds={}), Phase.WARM_UP)\n"
    )
    result = run_and_save(pytester, "-rs")
    result.assert_outcomes(passed=1, skipped=1, failed=2)
    result.stdout.fnmatch_lines(["SKIPPED*the handler has no method warm_up that its initialize calls*"])
    entries, _ = saved(pytester)
    assert {name: entry["stats"]["data"] for name, entry in entries.items()} == {"test_with": [0.5]}
    assert entries["test_with"]["extra_info"]["phase"] == "warm_up"


def test_xfail_stores_nothing(pytester):
    """A test that ends as an expected failure after it has stored a phase leaves no entry."""
    pytester.makepyfile(
        TEST
        + """
def test_slow(ts_store):
    ts_store(run(), Phase.INFERENCE)
    pytest.xfail("the server does not keep up")
def test_good(ts_store):
    ts_store(run(), Phase.INFERENCE)
"""
    )
    run_and_save(pytester).assert_outcomes(passed=1, xfailed=1)
    assert set(saved(pytester)[0]) == {"test_good"}


def test_an_invalid_run_is_stored_with_its_stamp(pytester):
    """An INVALID run is stored with its reasons; it is reported once, under its cause, with no further warning."""
    body = "RUN = run(invalid=('overload: 5/s came',))\n@pytest.mark.parametrize('n', range(3))\n"
    pytester.makepyfile(TEST + body + "def test_it(ts_store, n):\n    ts_store(RUN, Phase.INFERENCE)\n")
    result = run_and_save(pytester)
    result.assert_outcomes(passed=3)
    wanted = [
        "INVALID: 1 of 1 cells*",
        " overload",
        "  handle resnet56-cpu-b16: 5/s came",
        "  what to do: ask for less*",
    ]
    result.stdout.fnmatch_lines(wanted)
    assert result.stdout.str().count("overload") == 1
    extra = saved(pytester)[0]["test_it[1]"]["extra_info"]
    assert (extra["validity"], extra["invalid"]) == ("INVALID", ["overload: 5/s came"])


@pytest.mark.parametrize(
    ("before", "now", "compared"),
    [("()", "()", True), ("('late',)", "()", False), ("()", "('late',)", False)],
)
def test_an_invalid_run_is_no_baseline(pytester, before, now, compared):
    """Half the speed of the saved run is a regression; if either run is INVALID, the comparison is inconclusive."""
    slow = "dataclasses.replace(run(invalid=NOW), seconds={Phase.INFERENCE: {1: (0.04,) * 40}})"
    body = "import dataclasses\n" + TEST + "def test_it(ts_store):\n    ts_store(RUN, Phase.INFERENCE)\n"
    pytester.makepyfile(body.replace("RUN", f"run(invalid={before})"))
    run_and_save(pytester).assert_outcomes(passed=1)
    pytester.makepyfile(body.replace("RUN", slow.replace("NOW", now)))
    result = pytester.runpytest_subprocess("--benchmark-compare=0001", "--benchmark-compare-fail=median:5%")
    assert ("Performance has regressed" in result.stderr.str() + result.stdout.str()) is compared
    assert ("inconclusive, not compared: " in result.stdout.str()) is not compared


def test_compare_works_and_shows_the_table(pytester):
    """pytest-benchmark's own comparison finds the entries again, by their stable names."""
    pytester.makepyfile(TEST + "def test_it(ts_store):\n    ts_store(run(), Phase.INFERENCE)\n")
    first = run_and_save(pytester)
    assert "Name (time in ms)" not in first.stdout.str()
    second = pytester.runpytest_subprocess("--benchmark-compare=0001", "--benchmark-compare-fail=median:5%")
    second.assert_outcomes(passed=1)
    second.stdout.fnmatch_lines(["*test_it (0001_kept)*"])


@pytest.mark.parametrize("bad", [{"invalid": ("errors",)}, {"wrong": ("a dog",)}])
def test_a_run_without_one_right_answer_is_not_missing(bad):
    """A run without a right answer stores nothing; its cell's saved entry is neither compared nor missing."""
    names = {}
    exec(TEST, names)  # noqa: S102 - what the tests above are made with
    now = names["run"](**bad)
    entry = {"extra_info": {"kind": "handle", "cell": now.cell.id, "phase": "inference", "validity": "VALID"}}
    other = {"extra_info": {"kind": "handle", "cell": "another-cpu-b1", "phase": "inference", "validity": "VALID"}}
    mapping = {"0001_kept.json": {"test_it": entry, "test_other": other}}
    session = SimpleNamespace(compared_mapping=mapping, benchmarks=[])
    config = SimpleNamespace(_benchmarksession=session, getoption=lambda name: False)
    (line,) = benchmark.set_aside_invalid(config, [now])
    assert line == "inconclusive, not compared: test_it: this run is INVALID"
    assert [name for name, _, _ in benchmark.without_counterpart(config)] == ["test_other"]


def test_two_runs_of_one_cell_are_both_shown(pytester):
    """Two runs of one cell had different budgets: both are shown, and neither replaces the other."""
    pytester.makepyfile(
        TEST
        + """
def test_one(ts_store): ts_store(run(), Phase.INFERENCE)
def test_other(ts_store): ts_store(run(weights='other', invalid=('overload: 5/s came',)), Phase.INFERENCE)
"""
    )
    result = run_and_save(pytester)
    result.assert_outcomes(passed=2)
    assert len([line for line in result.outlines if line.startswith("resnet56 ")]) == 2
    result.stdout.fnmatch_lines(["INVALID: 1 of 2 cells*"])


def test_a_session_that_is_asked_for_too_late_is_told(pytester):
    """A test that requests ts_session too late, when nothing is prepared, gets one clear message, no KeyError."""
    pytester.makepyfile("def test_it(request): request.getfixturevalue('ts_session')")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wanted: ts_session among the arguments*", "*what to do: name ts_session*"])
    assert "KeyError" not in result.stdout.str()


@pytest.mark.parametrize("told", [(), (Quantile(0.5, 0.02, 0.01, 0.03),)])
def test_under_traffic_an_entry_has_the_percentiles_that_its_requests_support(told):
    """A thousand equal latencies would support a p99; the entry, and the page, show what the load itself shows."""
    deployment = Deployment(Model("m", "x", None, "cifar10"), "cpu", Batching(1))
    traffic = Traffic(1000, 50.0, (), told, None, Batches(1, {1: 1000}))
    seconds = {Phase.LATENCY: {1: (0.02,) * 1000}}
    plain = Run(Cell("handle", deployment), seconds, 1)
    load = Run(Cell("load", deployment, Poisson(50, 20)), seconds, 1, traffic=traffic)
    shown = {run.cell.kind: benchmark.extra_info(run, Phase.LATENCY) for run in (plain, load)}
    assert [shown["handle"][name] for name in ("p50_s", "p90_s", "p99_s")] == [0.02, 0.02, 0.02]
    assert [shown["load"][name] for name in ("p50_s", "p90_s", "p99_s")] == [0.02 if told else None, None, None]
    page = list(numbers.durations(Document(runs=[json.loads(json.dumps(run.as_dict())) for run in (plain, load)])))
    assert [(row["kind"], row["p99"]) for row in page] == [("handle", 20.0), ("load", None)]
