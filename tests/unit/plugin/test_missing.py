"""Entries missing from a comparison with a saved run: those that were requested and are not there, no others."""

from __future__ import annotations

import pytest

from pytest_torchserve.plugin import missing

CELLS = """
import pytest
from pytest_torchserve import Model
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.phase import Phase

@pytest.mark.parametrize("size", SIZES)
def test_it(ts_store, size):
    ACTION
    cell = Cell("handle", Deployment(Model("MODEL", "x", None, "cifar10"), "cpu", Batching(size)))
    ts_store(Run(cell, {Phase.HANDLE: {1: (0.01,) * 40}}, 1), Phase.HANDLE)
"""

UNREACHED = "not compared: {} saved entries whose tests were not reached"


@pytest.fixture
def session(pytester):
    """`session(sizes, *args, action=…)` runs two files whose tests store cells of these batch sizes."""

    def session_(sizes, *args, action="pass"):
        for name in ("first", "second"):
            content = CELLS.replace("SIZES", repr(sizes)).replace("MODEL", name).replace("ACTION", action)
            pytester.makepyfile(**{f"test_{name}": content})
        return pytester.runpytest_subprocess("--benchmark-save-data", *args)

    return session_


@pytest.fixture
def suite_like(pytester):
    """A project with one cell that would be measured."""
    pytester.makeconftest(
        """
        from pytest_torchserve import Model
        def pytest_torchserve_models(config):
            return [Model(name="m", handler="h.py")]
        """
    )
    pytester.makepyfile(test_it="def test_handle(ts_handle_run, ts_store): pass")


def told(result):
    """Return the lines about entries that are missing or were not reached."""
    return [line for line in result.outlines if line.startswith(("missing:", "not compared:"))]


@pytest.mark.parametrize(
    "args",
    [
        ["--ignore=test_second.py"],
        ["--ignore-glob=*second*"],
        ["test_first.py"],
        ["--deselect=test_second.py"],
        ["-k", "first"],
        ["--ignore=nowhere", "test_first.py::test_it"],
    ],
)
def test_what_was_left_out_is_not_missing(session, pytester, args):
    """Entries that the command line leaves out are not missing, whether their file is still there or not."""
    session([1, 4], "--benchmark-save=kept").assert_outcomes(passed=4)
    result = session([1, 4], "--benchmark-compare", *args)
    assert (result.ret, told(result)) == (pytest.ExitCode.OK, [])
    if "test_first.py" not in args[-1]:
        (pytester.path / "test_second.py").unlink()
        result = pytester.runpytest_subprocess("--benchmark-compare", *args)
        assert (result.ret, told(result)) == (pytest.ExitCode.OK, [])


def test_a_file_that_is_gone_is_missing(session, pytester):
    """The entries of a deleted file are missing: no option has left the file out."""
    session([1, 4], "--benchmark-save=kept")
    (pytester.path / "test_second.py").unlink()
    result = pytester.runpytest_subprocess("--benchmark-compare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(told(result)) == 2
    assert all("test_second.py::test_it[" in line for line in told(result))


def test_what_a_conftest_deselects_is_not_missing(session, pytester):
    """The entries of tests that a hook of the project deselects are not missing."""
    session([1, 4], "--benchmark-save=kept")
    pytester.makeconftest(
        """
        def pytest_collection_modifyitems(config, items):
            gone = [item for item in items if "test_second" in item.nodeid]
            config.hook.pytest_deselected(items=gone)
            items[:] = [item for item in items if item not in gone]
        """
    )
    result = session([1, 4], "--benchmark-compare")
    assert (result.ret, told(result)) == (pytest.ExitCode.OK, [])


def test_what_a_conftest_ignores_is_not_missing(session, pytester):
    """The entries of a file in `collect_ignore` are not missing."""
    session([1, 4], "--benchmark-save=kept")
    pytester.makeconftest("collect_ignore = ['test_second.py']")
    result = session([1, 4], "--benchmark-compare")
    assert (result.ret, told(result)) == (pytest.ExitCode.OK, [])


@pytest.mark.parametrize(("args", "missing"), [(["-k", "1"], 0), (["-k", "not 2"], 2), (["-m", "gpu"], 0), ([], 2)])
def test_a_cell_that_is_gone_and_was_not_selected(session, args, missing):
    """-k and -m apply to a cell that is gone as to a present one: here the cell of batch size 4 on the CPU."""
    session([1, 4], "--benchmark-save=kept")
    result = session([1], "--benchmark-compare", *args)
    assert len(told(result)) == missing
    assert ("the session fails: cells" in result.stdout.str()) is bool(missing)


@pytest.mark.parametrize("flag", ["--lf", "--stepwise"])
def test_only_what_failed_is_asked_for(session, flag):
    """After a failure only the failed test runs: the others, in files that are not even collected, are not missing."""
    session([1, 4], "--benchmark-save=kept")
    fails = "assert size == 1 or 'first' not in __file__"
    session([1, 4], action=fails).assert_outcomes(failed=1, passed=3)
    result = session([1, 4], flag, "--benchmark-compare")
    assert result.ret == pytest.ExitCode.OK
    assert not [line for line in told(result) if line.startswith("missing")]


@pytest.mark.parametrize("flag", ["--lf", "--stepwise"])
def test_without_earlier_failures_everything_is_asked_for(session, flag):
    """Where nothing has failed before, --lf and --stepwise run everything, and a cell that is gone is missing."""
    session([1, 4], "--benchmark-save=kept").assert_outcomes(passed=4)
    result = session([1], flag, "--benchmark-compare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(told(result)) == 2


@pytest.mark.parametrize(
    ("mark", "missing", "untold"), [("nightly or slow", 0, 2), ("cpu or slow", 2, 0), ("gpu", 0, 0), ("not slow", 2, 0)]
)
def test_a_marker_that_nobody_knows_of_a_test_that_is_gone(session, pytester, mark, missing, untold):
    """A gone test may have had any marker. Where only such a marker would select it, its entry is told, not missing."""
    pytester.makeini("[pytest]\nmarkers =\n    nightly: x\n    slow: x\n    cpu: x\n    gpu: x\n")
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.nightly)
                item.add_marker(pytest.mark.cpu)
        """
    )
    session([1, 4], "--benchmark-save=kept")
    result = session([1], "--benchmark-compare", "-m", mark)
    lines = told(result)
    assert len([line for line in lines if line.startswith("missing")]) == missing
    words = (
        f"not compared: {untold} saved entries whose tests are gone, and nobody can tell whether -m '{mark}' would *"
    )
    if untold and mark != "gpu":
        result.stdout.fnmatch_lines([words])
    assert len(lines) == missing + bool(untold)


def test_a_saved_run_that_is_named_and_not_there(pytester, suite_like):
    """A named run that is not there is refused before anything is measured; without a name the first run passes."""
    result = pytester.runpytest_subprocess("--benchmark-compare=0099", "-m", "cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*wanted: a saved run that --benchmark-compare=0099 names", "found: no saved run in *"]
    )
    assert pytester.runpytest_subprocess("--benchmark-compare=0099", "--collect-only").ret == pytest.ExitCode.OK
    result = pytester.runpytest_subprocess("--benchmark-compare=0099", "--benchmark-skip", "-m", "cpu")
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("action", "args", "code"),
    [
        ("assert size == 1", ["-x"], pytest.ExitCode.TESTS_FAILED),
        ("assert size == 1", ["--maxfail=1"], pytest.ExitCode.TESTS_FAILED),
        ("assert size == 1", ["--stepwise"], pytest.ExitCode.INTERRUPTED),
        ("if size == 4: raise KeyboardInterrupt", [], pytest.ExitCode.INTERRUPTED),
        ("if size == 4: pytest.exit('enough')", [], pytest.ExitCode.INTERRUPTED),
    ],
)
def test_an_early_end_is_told_and_is_no_loss(session, action, args, code):
    """A session that ends at its second test counts the tests not reached; the exit status is pytest's own."""
    session([1, 4], "--benchmark-save=kept")
    result = session([1, 4], "--benchmark-compare", *args, action=action)
    assert result.ret == code
    assert told(result) == [UNREACHED.format(3 if "size == 4" in action else 2)]


@pytest.mark.parametrize("flag", ["--benchmark-skip", "--benchmark-disable"])
def test_where_nothing_is_stored_nothing_is_missing(session, flag):
    """A session that only checks, or skips, passes all the same where a project's addopts compare."""
    session([1, 4], "--benchmark-save=kept")
    result = session([1, 4], "--benchmark-compare", flag)
    assert (result.ret, told(result)) == (pytest.ExitCode.OK, [])


def test_a_folder_is_found_by_any_path_to_it(session, pytester):
    """A cell that is gone is missing, however the path to its folder is written."""
    session([1, 4], "--benchmark-save=kept")
    (pytester.path / "sub").mkdir()
    result = session([1], "sub/..", "--benchmark-compare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(told(result)) == 2


def test_a_function_is_not_named_by_the_beginning_of_its_name(session, pytester):
    """Naming `test_i` does not name `test_it`."""
    session([1, 4], "--benchmark-save=kept")
    pytester.makepyfile(test_first=CELLS.replace("SIZES", "[1]").replace("MODEL", "first").replace("ACTION", "pass"))
    with (pytester.path / "test_first.py").open("a") as file:
        file.write("\n\ndef test_i(): pass\n")
    result = pytester.runpytest_subprocess("--benchmark-compare", "test_first.py::test_i")
    assert (result.ret, told(result)) == (pytest.ExitCode.OK, [])


WANTED = {
    "kind": "load",
    "device": "cpu",
    "batch_size": 16,
    "max_batch_delay_ms": 100,
    "load": "poisson10",
    "workers": 1,
}


@pytest.mark.parametrize(
    ("args", "change", "wanted"),
    [
        ([], {}, True),
        (["--ts-loads=poisson:50"], {}, False),
        (["--ts-batching=1/0"], {}, False),
        ([], {"workers": 2}, False),
        (["--ts-workers=1,2"], {"workers": 2}, True),
        (["--ts-workers=2"], {}, False),
        ([], {"workers": 4, "cell": "m-cpu-configured-poisson10"}, True),
        (["--ts-workers=2"], {"load": "constant10", "max_batch_delay_ms": 3000}, True),
        (["--ts-workers=2"], {"kind": "init", "load": None, "workers": 5}, True),
        (["--ts-batching=1/0"], {"load": "constant10", "max_batch_delay_ms": 3000}, True),
        (["--ts-url=http://x", "--ts-url-model=m"], {}, False),
        (["--ts-url=http://x", "--ts-url-model=m"], {"device": "unknown", "batch_size": 0}, True),
        ([], {"device": "unknown", "batch_size": 0}, False),
        ([], {"kind": "capacity", "load": None}, False),
        (["-m", "capacity"], {"kind": "capacity", "load": None}, True),
        (["--ts-batching=1/0"], {"kind": "init", "load": None}, True),
        (["--ts-batch-sizes=1"], {"kind": "handle", "load": None}, False),
    ],
)
def test_options_say_which_cells_are_wanted(pytester, args, change, wanted):
    """A cell that an option leaves out is not missing; the classic pace always has batches of 16 and 3 s."""
    config = pytester.parseconfig(*args)
    assert missing._wanted(config, WANTED | change) is wanted


def test_a_failing_test_is_red_once(session):
    """A failing test has no entry, and its entry is not reported as missing too."""
    session([1, 4], "--benchmark-save=kept")
    result = session([1, 4], "--benchmark-compare", action="assert size == 1")
    result.assert_outcomes(passed=2, failed=2)
    assert told(result) == []


def test_a_skip_does_not_hide_a_cell(session):
    """A saved cell whose test is skipped now is missing: to pass would mean that nothing has changed."""
    session([1, 4], "--benchmark-save=kept")
    result = session([1, 4], "--benchmark-compare", action="if size == 4: pytest.skip('for now')")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(told(result)) == 2
