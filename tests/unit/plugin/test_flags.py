"""Flags of pytest and pytest-benchmark: a test that passes was measured, and a measured test is stored.

No server is used: the measurements of a session are made up, and each requested measurement is written down.
"""

from __future__ import annotations

import json

import pytest

CONFTEST = """
from pathlib import Path
from models.catalogue import NOOP
from pytest_torchserve.measure import Run
from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES, Phase
from pytest_torchserve.session.session import Session

PHASES = {"init": INIT_PHASES, "handle": HANDLE_PHASES}

def measure(self, cell, budget):
    with Path("measured.txt").open("a") as file:
        print(cell.kind, cell.id, budget.cell_seconds, file=file)
    phases = {phase: {1: (0.01,) * 40} for phase in PHASES[cell.kind] if phase is not Phase.WARM_UP}
    self.runs[cell, budget] = Run(cell, phases, 1, checked=40, batch_sizes={cell.deployment.batching.batch_size: 40})
    self.journal.write("run", self.runs[cell, budget].as_dict())
    return self.runs[cell, budget]

Session.run = measure

def pytest_torchserve_models(config):
    return MODELS
"""

TESTS = """
import pytest
from pytest_torchserve.phase import HANDLE_PHASES

@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(ts_handle_run, phase, ts_store):
    ts_store(ts_handle_run, phase)

def test_without_storing(ts_handle_run):
    assert ts_handle_run.checked

def test_other():
    pass
"""

CPU = ("-k", "(noop-cpu and not b4) or other")
CELLS = {"handle noop-cpu-b1", "handle noop-cpu-b16"}


@pytest.fixture
def played(suite):
    """A repository whose cells take no time; CPU selects two cells, in 12 tests, and a test that measures nothing."""
    suite.makeconftest(CONFTEST.replace("MODELS", "[NOOP]"))
    suite.makepyfile(test_suite=TESTS)
    return suite


def measured(suite):
    """Return the cells measured since the last call, with the budget of each in seconds."""
    path = suite.path / "measured.txt"
    lines = [line.rsplit(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return {cell: float(seconds) for cell, seconds in lines}


def stored(suite):
    """Return the names of all entries of all saved runs."""
    files = [*suite.path.rglob(".benchmarks/*/*.json"), *suite.path.glob("*.json")]
    return {entry["name"] for file in files for entry in json.loads(file.read_text())["benchmarks"]}


def test_only_benchmarks_are_measured(played):
    """With --benchmark-only every test that measures runs and stores; the other tests are skipped."""
    result = played.runpytest_subprocess("--benchmark-only", "--benchmark-save=x", *CPU)
    result.assert_outcomes(passed=12, skipped=1, deselected=30 - 12 + 6)
    assert measured(played).keys() == CELLS
    assert len(stored(played)) == 10


def test_skipped_benchmarks_measure_nothing(played):
    """With --benchmark-skip all tests that measure are skipped at once, also those that store nothing."""
    result = played.runpytest_subprocess("--benchmark-skip", "--benchmark-save=x", *CPU)
    result.assert_outcomes(passed=1, skipped=12, deselected=24)
    assert measured(played) == {}
    assert stored(played) == set()


@pytest.mark.parametrize("more", [["--benchmark-save=x"], ["--benchmark-json=x.json", "--ts-report=report"]])
def test_disabled_benchmarks_are_checked_and_not_stored(played, more):
    """With --benchmark-disable all tests run with a minimal budget; nothing is stored, and the output says so."""
    result = played.runpytest_subprocess("--benchmark-disable", *more, *CPU)
    result.assert_outcomes(passed=13, deselected=24)
    assert measured(played) == dict.fromkeys(CELLS, 0.5)
    assert stored(played) == set()
    assert not (played.path / ".benchmarks" / "journal").exists()
    result.stdout.fnmatch_lines(["--benchmark-disable: 2 of 2 cells answered rightly; nothing is stored"])
    assert "handle: ms" not in result.stdout.str()
    assert ("no report: --benchmark-disable measures nothing" in result.stdout.str()) is ("--ts-report=report" in more)


def test_a_check_fails_where_requests_fail(played):
    """Failed requests fail a check, which has nothing else; a measured load cell's test passes, its run INVALID."""
    played.makeconftest(
        CONFTEST.replace("MODELS", "[NOOP]").replace(
            "phases, 1,", "phases, 1, errors={'HTTP 302': 3}, invalid=('requests failed: 3 of 9',),"
        )
    )
    result = played.runpytest_subprocess("--benchmark-disable", *CPU)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["--benchmark-disable: 0 of 2 cells answered rightly*", " requests failed", "  handle noop*: 3 of 9"]
    )


def test_disabled_is_not_held_against_a_baseline(played):
    """With --benchmark-disable the baseline is not even looked for: a verdict needs times."""
    result = played.runpytest_subprocess("--benchmark-disable", "--ts-baseline=nonsense", *CPU)
    result.assert_outcomes(passed=13, deselected=24)


def test_enabled_again_is_measured(played):
    """--benchmark-enable overrides --benchmark-disable, as in pytest-benchmark: a project's addopts may disable."""
    result = played.runpytest_subprocess("--benchmark-disable", "--benchmark-enable", "--benchmark-save=x", *CPU)
    result.assert_outcomes(passed=13, deselected=24)
    assert measured(played) == dict.fromkeys(CELLS, 20.0)
    assert len(stored(played)) == 10


@pytest.mark.parametrize(
    ("args", "variables", "found"),
    [
        (["-p", "no:benchmark"], {}, "*found: it is switched off (-p no:benchmark) or not installed"),
        ([], {"PYTEST_XDIST_WORKER": "gw0"}, "*found: it has disabled itself: PYTEST_XDIST_WORKER=gw0 is set"),
    ],
)
def test_what_would_not_be_stored_is_not_measured(played, monkeypatch, args, variables, found):
    """A session that cannot store its figures is refused at once; a session that has none to store is not."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = played.runpytest_subprocess(*args, *CPU)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*wanted: pytest-benchmark, which stores the figures", found])
    assert measured(played) == {}
    played.runpytest_subprocess(*args, "-k", "other").assert_outcomes(passed=1, deselected=36)


@pytest.mark.parametrize("processes", [["-n", "2"], ["-n", "1"], ["-n", "2", "--dist", "loadscope"]])
def test_workers_of_xdist_measure_nothing(played, processes):
    """With xdist each test that measures is refused at once, with the reason; all other tests run."""
    result = played.runpytest_subprocess(*processes, "-k", "noop-cpu-b1- or other")
    result.assert_outcomes(passed=1, errors=5)
    result.stdout.fnmatch_lines(["*wanted: tests that measure, in one process", "*what to do: leave -n out (-n0)*"])
    assert measured(played) == {}
    played.runpytest_subprocess(*processes, "-k", "other").assert_outcomes(passed=1)


def test_what_is_skipped_is_not_refused(played):
    """`-n 2 --benchmark-skip` runs a project's other tests in parallel."""
    result = played.runpytest_subprocess("-n", "2", "--benchmark-skip", *CPU)
    result.assert_outcomes(passed=1, skipped=12)


def test_without_workers_xdist_is_no_matter(played):
    """With -n0 a session measures as without xdist."""
    played.runpytest_subprocess("-n0", "--benchmark-save=x", *CPU).assert_outcomes(passed=13, deselected=24)
    assert len(stored(played)) == 10


@pytest.mark.parametrize(
    ("twins", "found"),
    [
        (
            "[NOOP, __import__('dataclasses').replace(NOOP, handler=Path('other.py'))]",
            "*found: two are called 'noop':*",
        ),
        ("[NOOP, __import__('dataclasses').replace(NOOP, name='Noop')]", "*found: two are called 'noop' and 'Noop':*"),
        ("[NOOP, NOOP]", "*found: two are called 'noop':*"),
        ("[NOOP, NOOP, __import__('dataclasses').replace(NOOP)]", "*found: two are called 'noop':*"),
    ],
)
@pytest.mark.parametrize("place", [".", "sub"])
def test_two_models_of_one_name_are_refused(played, twins, found, place):
    """Models of one name are refused, also in a subfolder's conftest.py: both rows would show the first's figures."""
    (played.path / "sub").mkdir()
    (played.path / "conftest.py").unlink()
    (played.path / place / "conftest.py").write_text(CONFTEST.replace("MODELS", twins))
    (played.path / "test_suite.py").rename(played.path / place / "test_suite.py")
    result = played.runpytest_subprocess(*CPU)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert measured(played) == {}
    result.stderr.fnmatch_lines(["*wanted: models of different names*", found])
