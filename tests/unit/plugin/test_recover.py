"""A session that did not come to its end is recovered from its journal, as a saved run like any other."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace

import pytest

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.batches import Batches
from pytest_torchserve.measure.blocks import ArmBlock, Block
from pytest_torchserve.measure.capacity_result import Capacity, Step
from pytest_torchserve.measure.capacity_rule import Outcome
from pytest_torchserve.measure.latency_breakdown import LatencyBreakdown
from pytest_torchserve.measure.restore import restore
from pytest_torchserve.measure.run import Paired, Traffic
from pytest_torchserve.measure.slices import Slice
from pytest_torchserve.model import Model
from pytest_torchserve.phase import HANDLE_PHASES, Phase
from pytest_torchserve.session.journal import Journal
from pytest_torchserve.stats import Quantile
from pytest_torchserve.telemetry.monitor import Telemetry

RESNET56 = Deployment(Model("resnet56", "x", None, "cifar10"), "cpu", Batching(4))
QUANTILE = Quantile(0.5, 0.1, 0.09, 0.11)
BLOCK = Block(7, ArmBlock((0.1, 0.2), 3, 2, 50.0), ArmBlock((0.1,), 3, 2, None, 1 << 20))


def handled(seed=1):
    """Return a run of `handle` with two processes."""
    rng = random.Random(seed)
    seconds = {
        phase: {pid: tuple(rng.uniform(0.01, 0.02) for _ in range(5)) for pid in (101, 202)} for phase in HANDLE_PHASES
    }
    return Run(
        Cell("handle", RESNET56),
        seconds,
        2,
        checked=40,
        batch_sizes={4: 10},
        process_spread={Phase.HANDLE: 0.02, Phase.LATENCY: None},
        accuracy=(3, 4),
        devices=("cpu",),
        warm_up={"batches": 3, "seconds": 0.5, "steady": True},
        telemetry=Telemetry(1.0, 2, {"worker": 0.5}, {"worker": 5}, 0.01, 0.0, ({"power": 1.0},), (12,)),
    )


RUNS = [
    handled(),
    Run(
        Cell("load", RESNET56),
        {Phase.LATENCY: {101: (0.1, 0.2)}},
        1,
        invalid=("overload: 1",),
        errors={"refused": 2},
        traffic=Traffic(
            3,
            10.0,
            (QUANTILE,),
            (QUANTILE, QUANTILE),
            LatencyBreakdown(3, {"send": 0.1}, {"send": 0.2}, 0.1, 0.99, one_clock=True, probed=True, queue_told=False),
            Batches(16, {2: 3}, (0.1, 0.2)),
            (Slice(0.0, 1.0, 3, 2, 3.0, None, 0.2),),
            2.5,
            None,
            0.25,
            2,
        ),
        paired=Paired("HEAD", blocks=(BLOCK,), error_share=0.75),
    ),
    Run(
        Cell("capacity", RESNET56),
        {},
        1,
        capacity=Capacity(
            0.25,
            0.99,
            100.0,
            None,
            120.0,
            300.0,
            (Step(90.0, 5.0, 450, 1, Outcome.MEETS, 0.2, None, 99.0, 0.1, None, 3.5),),
        ),
        paired=Paired("HEAD", capacities=((100.0, None), (1.0, 2.0))),
    ),
    Run(
        Cell("init", RESNET56),
        {Phase.TOTAL: {1: (2.0,)}},
        1,
        paired=Paired("HEAD", {Phase.TOTAL: {0: ((1.0, 2.0),)}}, by_process=True, probe_cost_s={Phase.HANDLE: 1e-6}),
    ),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.cell.kind)
def test_a_run_comes_back_as_it_was(run):
    """Every part of a run, of every kind of cell, is that which was written."""
    written = json.loads(json.dumps(run.as_dict()))
    assert restore(run.cell, written) == run


TESTS = """
import pytest
from pytest_torchserve.phase import HANDLE_PHASES

@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(ts_handle_run, phase, ts_store):
    ts_store(ts_handle_run, phase)

def test_a_server(ts_deploy): pass
"""


@pytest.fixture
def journal(suite):
    """The journal of a session that was killed while it wrote: one run, and another that is cut."""
    suite.makepyfile(test_suite=TESTS)
    path = suite.path / "20260101T000000Z-1.jsonl"
    journal = Journal(path)
    options = ["--ts-batch-sizes=4,32"]
    journal.write("session", {"torch": "1.2.3", "cpu_model": "an old one", "min_effect": None, "options": options})
    journal.write("run", handled().as_dict())
    with path.open("a") as file:
        file.write('{"at": "2026", "line": "run", "kind": "handle", "cell": "noop-cpu-b1", "sec')
    return path


def test_a_killed_session_is_recovered(suite, journal):
    """Its cells are saved under the names of their tests, with its environment; the others are not measured."""
    done = suite.runpytest_subprocess(f"--ts-recover={journal}", "--ts-batch-sizes=4,32", "--benchmark-save=kept")
    done.assert_outcomes(passed=5, deselected=36)
    (saved,) = suite.path.rglob("*_kept.json")
    content = json.loads(saved.read_text())
    assert content["machine_info"]["torch"] == "1.2.3"
    assert "options" not in content["machine_info"]
    entries = {entry["name"]: entry for entry in content["benchmarks"]}
    assert sorted(entries) == sorted(f"test_handle[resnet56-cpu-b4-{phase}]" for phase in HANDLE_PHASES)
    run = handled()
    for phase in HANDLE_PHASES:
        entry = entries[f"test_handle[resnet56-cpu-b4-{phase}]"]
        assert entry["stats"]["median"] == pytest.approx(statistics.median(run.pooled(phase)))
        assert entry["extra_info"]["process_spread"] == run.process_spread.get(phase)
    assert not list(suite.path.rglob("*.jsonl.tmp"))
    assert journal.read_text().count("\n") == 2  # nothing is added to it


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("nowhere.jsonl", None, "*found: FileNotFoundError*"),
        ("one.json", "{}", "*wanted: a journal to recover runs from, a file [*].jsonl (--ts-recover)*"),
        ("empty.jsonl", "", "*found: none in empty.jsonl*"),
        ("text.jsonl", "a shopping list\n", "*found: ValueError: no line of it is whole JSON*"),
    ],
)
def test_what_is_no_journal(suite, name, content, found):
    """One message: what was wanted, what was found, and what to do."""
    suite.makepyfile(test_suite=TESTS)
    if content is not None:
        (suite.path / name).write_text(content)
    done = suite.runpytest_subprocess(f"--ts-recover={name}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([found])


def test_what_no_test_asks_for_is_named(suite, journal):
    """A run whose tests are not selected is not lost silently."""
    done = suite.runpytest_subprocess(f"--ts-recover={journal}", "--ts-batch-sizes=4", "-k", "preprocess or a_server")
    done.assert_outcomes(passed=1, deselected=20)
    Journal(journal).write("run", {**handled().as_dict(), "cell": "resnet56-cpu-b64", "batch_size": 64})
    done = suite.runpytest_subprocess(f"--ts-recover={journal}", "--ts-batch-sizes=4", "--ts-report=page")
    done.stdout.fnmatch_lines(
        ["notice: not recovered, for no selected test measures them: handle resnet56-cpu-b64", "report: *"]
    )


def test_a_baselines_verdicts_are_told(suite, journal):
    """Pairs are judged again, by the rules that the session was given, and the report has them."""
    pairs = {Phase.HANDLE: {1: ((1.0, 2.0),) * 30, 2: ((1.0, 2.01),) * 30, 3: ((1.0, 1.99),) * 30}}
    compared = replace(handled(), paired=Paired("HEAD", pairs))
    journal.write_text("")
    told = Journal(journal)
    told.write("session", {"baseline": "HEAD (abc)", "options": ["--ts-max-regression=5%"]})
    told.write("run", compared.as_dict())
    options = ("--ts-batch-sizes=4", "--ts-max-regression=5%", "--ts-report=page")
    done = suite.runpytest_subprocess(f"--ts-recover={journal}", *options)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["regressed handle resnet56-cpu-b4 handle: *", "verdict against HEAD (abc): 1 regressed"])
    assert "regressed" in (suite.path / "page" / "summary.md").read_text()


def test_the_options_that_choose_cells_are_remembered(suite):
    """`tsperf recover` types them again; none with a user's name in a URL."""
    suite.makepyfile(test_suite=TESTS)
    suite.makeconftest(
        """
        from pytest_torchserve.plugin import options
        def pytest_torchserve_models(config): return []
        def pytest_collection_modifyitems(config): print("TOLD", options.of(config).options)
        """
    )
    given = ("--ts-loads=closed:2", "--ts-quick", "--ts-worker-env=KEY=secret", "-k", "test_handle and not b4")
    done = suite.runpytest_subprocess("--collect-only", "-s", *given)
    done.stdout.fnmatch_lines(["*TOLD ('--ts-quick', '--ts-loads=closed:2', '-ktest_handle and not b4')"])
    done = suite.runpytest_subprocess("--collect-only", "-s", "--ts-url=http://me:word@h:1", "--ts-url-model=m")
    done.stdout.fnmatch_lines(["*TOLD ('--ts-url-model=m',)"])


def test_a_run_that_was_edited(suite, journal):
    """A line that is no run any more fails its tests, and says so."""
    lines = journal.read_text().splitlines()
    edited = json.loads(lines[1]) | {"telemetry": {"window_s": 1}}
    journal.write_text("\n".join([lines[0], json.dumps(edited)]) + "\n")
    done = suite.runpytest_subprocess(f"--ts-recover={journal}", "--ts-batch-sizes=4")
    done.assert_outcomes(errors=5, deselected=16)
    done.stdout.fnmatch_lines(["*wanted: a run of handle resnet56-cpu-b4 in *", "*found: TypeError: *"])
