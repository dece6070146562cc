"""Comparing with saved runs: only what is alike, nothing lost, nothing that was no measurement."""

from __future__ import annotations

import json

import pytest

from pytest_torchserve import history

TEST = """
import pytest
from pytest_torchserve import Model
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.phase import Phase

def run(size, **more):
    cell = Cell("handle", Deployment(Model("resnet56", "x", None, "cifar10"), "cpu", Batching(size)))
    return Run(cell, {Phase.HANDLE: {1: (0.01,) * 40}}, 1, **more)

@pytest.mark.parametrize("size", SIZES)
def test_it(store, size):
    store(run(size), Phase.HANDLE)
"""


@pytest.fixture
def session(pytester):
    """`session(sizes, *args)` runs a session whose tests store cells of these batch sizes."""

    def session_(sizes, *args):
        pytester.makepyfile(test_cells=TEST.replace("SIZES", repr(sizes)))
        return pytester.runpytest_subprocess("--benchmark-save-data", *args)

    return session_


def edit(pytester, **machine_info):
    """Change what the one saved file says it was made on; returns it."""
    (path,) = pytester.path.rglob("0001_*.json")
    content = json.loads(path.read_text())
    content["machine_info"] |= machine_info
    path.write_text(json.dumps(content))
    return path


def test_another_environment_is_refused_before_anything_runs(session, pytester):
    """With the fields that differ, and only those; asked for, it is compared."""
    session([1], "--benchmark-save=kept").assert_outcomes(passed=1)
    edit(pytester, torch="1.13.1", cpu_count=512)
    refused = session([1], "--benchmark-compare")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    said = refused.stderr.str()
    assert "cpu_count: " in said
    assert "512 there" in said
    assert "torch: " in said
    assert "1.13.1 there" in said
    assert "torchserve: " not in said
    assert "--ts-compare-across" in said
    session([1], "--benchmark-compare", "--ts-compare-across").assert_outcomes(passed=1)


def test_a_file_of_another_project_is_left_to_pytest_benchmark(session, pytester):
    """Its machine_info has none of our fields: nothing can be said, and nothing is."""
    session([1], "--benchmark-save=kept")
    path = edit(pytester)
    content = json.loads(path.read_text())
    content["machine_info"] = {"node": "elsewhere"}
    path.write_text(json.dumps(content))
    session([1], "--benchmark-compare").assert_outcomes(passed=1)


def test_a_cell_that_is_gone_fails(session):
    """It was saved, its file was run, and it is not there: pytest-benchmark alone would pass."""
    session([1, 4], "--benchmark-save=kept").assert_outcomes(passed=2)
    result = session([1], "--benchmark-compare")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = ["missing: *test_it[[]4] is in 0001_kept.json and not in this run", "the session fails: cells * missing"]
    result.stdout.fnmatch_lines(said)


@pytest.mark.parametrize("args", [("-k", "1"), ("test_cells.py::test_it[1]",), ("test_other.py",)])
def test_a_cell_that_nobody_asked_for_is_not_gone(session, pytester, args):
    """Deselected, not named, or in a file that was not."""
    pytester.makepyfile(test_other="def test_nothing(): pass")
    session([1, 4], "--benchmark-save=kept")
    assert session([1, 4], *args, "--benchmark-compare").ret == pytest.ExitCode.OK


def test_a_cell_that_an_option_leaves_out_is_not_gone(session):
    """--ts-quick measures batches of 1 and 16 only."""
    session([1, 4], "--benchmark-save=kept")
    assert session([1], "--ts-quick", "--benchmark-compare").ret == pytest.ExitCode.OK
    assert session([4], "--ts-quick", "--benchmark-compare").ret == pytest.ExitCode.TESTS_FAILED


def test_an_invalid_cell_is_not_missed(session, pytester):
    """Its saved figures were none: without it the comparison is whole."""
    session([1, 4], "--benchmark-save=kept")
    (path,) = pytester.path.rglob("0001_*.json")
    content = json.loads(path.read_text())
    content["benchmarks"][1]["extra_info"]["validity"] = "INVALID"
    path.write_text(json.dumps(content))
    assert session([1], "--benchmark-compare").ret == pytest.ExitCode.OK


def test_only_what_is_alike_makes_a_trend(session, pytester):
    """Other environments, other projects, broken files and INVALID entries are passed over; oldest first."""
    for _ in range(3):
        session([1, 4], "--benchmark-save=kept")
    paths = sorted(pytester.path.rglob("*_kept.json"))
    content = json.loads(paths[0].read_text())
    like = content["machine_info"]
    content["benchmarks"][0]["extra_info"]["validity"] = "INVALID"
    paths[0].write_text(json.dumps(content))
    edit_me = json.loads(paths[1].read_text())
    edit_me["machine_info"]["java"] = "6"
    paths[1].write_text(json.dumps(edit_me))
    broken = pytester.path / "9999_broken.json"
    broken.write_text("{")
    found = history.load([broken, *reversed(paths)], like)
    assert [saved.name for saved in found] == [paths[0].name, paths[2].name]
    assert [len(saved.medians) for saved in found] == [1, 2]


def test_two_sides_in_one_process_are_another_environment():
    """Which baseline does not matter; whether there was one does."""
    plain, paired, other = {"baseline": None}, {"baseline": "HEAD (a)"}, {"baseline": "HEAD (b)"}
    assert history.differences(plain, paired)
    assert not history.differences(paired, other)
