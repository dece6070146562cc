"""Comparison with saved runs: only under the same conditions, without losing a cell, without INVALID entries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_torchserve.report import history, reader

ROOT = Path(__file__).parents[3]

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
def test_it(ts_store, size):
    ts_store(run(size), Phase.HANDLE)
"""


@pytest.fixture
def session(pytester):
    """`session(sizes, *args)` runs a session whose tests store cells of these batch sizes."""

    def session_(sizes, *args):
        pytester.makepyfile(test_cells=TEST.replace("SIZES", repr(sizes)))
        return pytester.runpytest_subprocess("--benchmark-save-data", *args)

    return session_


def edit(pytester, **machine_info):
    """Change the machine_info of the one saved file; return its path."""
    (path,) = pytester.path.rglob("0001_*.json")
    content = json.loads(path.read_text())
    content["machine_info"] |= machine_info
    path.write_text(json.dumps(content))
    return path


def test_another_environment_is_refused_before_anything_runs(session, pytester):
    """Another environment is refused with the fields that differ, and only those; --ts-compare-across allows it."""
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


def test_a_variable_refuses_by_its_name(session, pytester, monkeypatch):
    """Every variable that decides speed and differs, set here or there, is named, no other; no secret is saved."""
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dmy.password=hunter2")
    session([1], "--benchmark-save=kept").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("0001_*.json")
    assert "hunter2" not in path.read_text()
    session([1], "--benchmark-compare").assert_outcomes(passed=1)
    monkeypatch.delenv("KMP_BLOCKTIME")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("EDITOR", "ed")
    refused = session([1], "--benchmark-compare")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    said = refused.stderr.str()
    wanted = "is of another: KMP_BLOCKTIME: unset here, 0 there; OMP_NUM_THREADS: 1 here, unset there\n"
    assert wanted in said
    session([1], "--benchmark-compare", "--ts-compare-across").assert_outcomes(passed=1)


NEW = ("cpu_affinity", "cpu_quota", "nice", "kernel_settings", "environment_variables", "python", "numpy", "pillow")


def test_a_file_from_before_conditions_were_recorded(session, pytester, monkeypatch):
    """A file without recorded conditions is refused with the reason: the conditions are unknown."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    session([1], "--benchmark-save=kept")
    path = edit(pytester)
    content = json.loads(path.read_text())
    for name in NEW:
        del content["machine_info"][name]
    path.write_text(json.dumps(content))
    refused = session([1], "--benchmark-compare")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    said = refused.stderr.str()
    assert said.count("not recorded there") == len(NEW)
    assert "OMP_NUM_THREADS=1" in said
    assert history.load([path], json.loads(path.read_text())["machine_info"])


LIKE = {
    "cpu_affinity": "0-1",
    "cpu_quota": None,
    "nice": 0,
    "python": "CPython 3.11.7",
    "pillow": "12.0.0",
    "kernel_settings": {"transparent_hugepage": "madvise", "smt": "1"},
    "environment_variables": {"OMP_NUM_THREADS": "1"},
    "server_settings": {"config": {}, "jvm_args": "", "worker_env": {"OMP_NUM_THREADS": "1"}},
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cpu_affinity": "0"}, ["cpu_affinity: 0-1 here, 0 there"]),
        ({"cpu_quota": 1.5}, ["cpu_quota: none here, 1.5 there"]),
        ({"nice": 10}, ["nice: 0 here, 10 there"]),
        ({"python": "CPython 3.14.0"}, ["python: CPython 3.11.7 here, CPython 3.14.0 there"]),
        ({"pillow": None}, ["pillow: 12.0.0 here, none there"]),
        (
            {"kernel_settings": {"transparent_hugepage": "always", "governor": "powersave", "smt": "1"}},
            [
                "kernel_settings governor: unset here, powersave there",
                "kernel_settings transparent_hugepage: madvise here, always there",
            ],
        ),
        (
            {"environment_variables": {"LD_PRELOAD": "x.so", "OMP_NUM_THREADS": "2"}},
            ["LD_PRELOAD: unset here, x.so there", "OMP_NUM_THREADS: 1 here, 2 there"],
        ),
        (
            {"server_settings": {"config": {}, "jvm_args": "-Xmx1g", "worker_env": {}}},
            [
                "server_settings jvm_args: empty here, -Xmx1g there",
                "server_settings worker_env OMP_NUM_THREADS: 1 here, unset there",
            ],
        ),
        ({}, []),
    ],
)
def test_each_condition_by_its_name(changed, words):
    """A difference names the condition itself and both values; of variables and settings only those that differ."""
    assert history.differences(LIKE, {**LIKE, **changed}) == words


def entry_of(path, **extra_info):
    """Change the extra_info of the one entry of a saved file, and make the entry ten times as fast."""
    content = json.loads(path.read_text())
    (entry,) = content["benchmarks"]
    entry["extra_info"] |= extra_info
    entry["stats"] = {k: v / 10 if isinstance(v, float) else v for k, v in entry["stats"].items()}
    path.write_text(json.dumps(content))


FAILING = ("--benchmark-compare", "--benchmark-compare-fail=median:5%")


def test_other_inputs_are_inconclusive(session, pytester):
    """Entries with other inputs are neither compared nor missing: real images decode more slowly than made ones."""
    session([1], "--benchmark-save=kept")
    (path,) = pytester.path.rglob("0001_*.json")
    entry_of(path)
    assert session([1], *FAILING).ret != pytest.ExitCode.OK
    entry_of(path, weights="pretrained", samples="folder")
    result = session([1], *FAILING)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    words = "weights: * here, pretrained there; samples: * here, folder there"
    result.stdout.fnmatch_lines([f"inconclusive, not compared: *test_it[[]1]: {words}"])
    across = session([1], *FAILING, "--ts-compare-across")
    assert across.ret != pytest.ExitCode.OK
    across.stdout.fnmatch_lines([f"compared all the same: *test_it[[]1]: {words}"])
    assert "missing" not in result.stdout.str()


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ({"weights": "seeded"}, {"weights": "seeded"}, None),
        ({}, {}, None),
        ({"weights": "seeded"}, {"weights": "pretrained"}, "weights: seeded here, pretrained there"),
        ({"samples": "folder"}, {}, "samples: folder here, not recorded there"),
        ({"kind": "load", "workers": 2}, {"kind": "load", "workers": 1}, "workers: 2 here, 1 there"),
        ({"kind": "handle", "workers": 2}, {"kind": "handle", "workers": 1}, None),
    ],
)
def test_which_entries_are_unlike(mine, theirs, words):
    """Two entries are unlike by their samples, by their weights, and by the number of workers under a load."""
    assert history.unlike(mine, theirs) == words


def test_the_documentation_lists_what_must_match():
    """Each field that must match stands in the tables of docs/method.md, and no other."""
    section = (ROOT / "docs" / "method.md").read_text().partition("\n## History")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted([*history.MUST_MATCH, *history.INPUTS, "workers"])
    free = section.partition("free to differ: ")[2].partition(". ")[0]
    assert set(re.findall(r"`(\w+)`", free)) == history.OUR_KEYS - set(history.MUST_MATCH)


@pytest.mark.parametrize(
    ("field", "mine", "theirs", "words"),
    [
        ("method_version", 2, 1, "method_version: 2 here, 1 there"),
        ("memory_limit", None, 4_000_000_000, "memory_limit: none here, 4000000000 there"),
        ("libraries", {"decord": "0.6"}, {}, "libraries decord: 0.6 here, unset there"),
        ("libraries", {"pillow's jpeg": "6.2"}, {"pillow's jpeg": "8"}, "libraries pillow's jpeg: 6.2 here, 8 there"),
    ],
)
def test_what_refuses_a_comparison_is_named(field, mine, theirs, words):
    """A limit, a library or a method that differs is named with both values; the suite's own version may differ."""
    same = dict.fromkeys(history.OUR_KEYS, "x")
    assert history.differences(same | {field: mine, "pytest_torchserve": "9"}, same | {field: theirs}) == [words]


def test_other_inputs_make_no_trend(session, pytester):
    """Of a cell measured now the trend has only entries with the same inputs; other cells stay."""
    session([1, 4], "--benchmark-save=kept")
    (path,) = pytester.path.rglob("0001_*.json")
    content = json.loads(path.read_text())
    first, second = content["benchmarks"]
    first["extra_info"]["weights"] = "pretrained"
    path.write_text(json.dumps(content))
    now = [{**first["extra_info"], "weights": "seeded"}]
    (trend,) = history.load([path], content["machine_info"], now)
    assert set(trend.medians) == {second["name"]}
    (trend,) = history.load([path], content["machine_info"])
    assert set(trend.medians) == {first["name"], second["name"]}


def test_a_file_of_another_project_is_left_to_pytest_benchmark(session, pytester):
    """A file whose machine_info has none of our fields is compared without a message."""
    session([1], "--benchmark-save=kept")
    path = edit(pytester)
    content = json.loads(path.read_text())
    content["machine_info"] = {"node": "elsewhere"}
    path.write_text(json.dumps(content))
    session([1], "--benchmark-compare").assert_outcomes(passed=1)


OF_NO_SUITE = [{}, {"extra_info": None}, {"extra_info": []}, {"extra_info": "x"}, {"extra_info": {}}]
"""Saved entries without an extra_info that the suite could have written."""

ENTRY = {"cell": "a", "kind": "handle", "phase": "handle", "validity": "VALID", **dict.fromkeys(history.INPUTS, 1)}


@pytest.mark.parametrize("entry", OF_NO_SUITE)
def test_an_entry_without_extra_info_is_unlike(entry):
    """A saved entry that tells nothing of its inputs is not compared with one that does; other projects' are left."""
    compared = {"file": {"mine": dict(entry), "theirs": dict(entry), "nobodys": dict(entry)}}
    (line,) = history.set_aside_unlike(compared, {"mine": ENTRY, "theirs": None})
    assert line.startswith("inconclusive, not compared: mine: weights: 1 here, not recorded there")
    assert list(compared["file"]) == ["theirs", "nobodys"]


@pytest.mark.parametrize("kind", ["load", "capacity"])
@pytest.mark.parametrize("paired", [{"baseline": "HEAD"}, None])
def test_a_load_in_blocks_is_not_compared_with_one_load(paired, kind):
    """A load that was held against a baseline ran in blocks, two networks in its process: another measurement."""
    load = {**ENTRY, "kind": kind, "paired": paired}
    other = {**load, "paired": None if paired else {"baseline": "HEAD"}}
    assert history.unlike(load, load) is None
    assert history.unlike(load, other) == (f"{'here' if paired else 'there'} it was compared with a baseline")


@pytest.mark.parametrize("entry", OF_NO_SUITE)
def test_an_entry_without_extra_info_is_in_no_trend(tmp_path, entry):
    """In a trend and on a page such an entry is passed over, and the others of its file count."""
    ours = {"name": "x", "stats": {"median": 1.0}, "extra_info": ENTRY}
    odd = {"name": "y", "stats": {"median": 1.0}, **entry}
    machine_info = dict.fromkeys(history.MUST_MATCH, 1) | {"baseline": None}
    path = tmp_path / "saved.json"
    path.write_text(json.dumps({"machine_info": machine_info, "benchmarks": [odd, ours]}))
    (saved,) = history.load([path], machine_info)
    assert saved.medians == {"x": 1.0}
    (run,) = reader.read([path]).runs
    assert run["cell"] == "a"


@pytest.mark.parametrize("machine_info", [None, [], 1, "x"])
def test_a_file_without_machine_info_is_in_no_trend(tmp_path, machine_info):
    """A file that tells nothing of its machine is no saved run of the suite."""
    path = tmp_path / "saved.json"
    path.write_text(json.dumps({"machine_info": machine_info, "benchmarks": []}))
    assert history.load([path], {}) == []


def test_a_cell_that_is_gone_fails(session):
    """A saved cell that is gone although its file ran is missing: pytest-benchmark alone would pass."""
    session([1, 4], "--benchmark-save=kept").assert_outcomes(passed=2)
    result = session([1], "--benchmark-compare")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = ["missing: *test_it[[]4] is in 0001_kept.json and not in this run", "the session fails: cells * missing"]
    result.stdout.fnmatch_lines(said)


@pytest.mark.parametrize("args", [("-k", "1"), ("test_cells.py::test_it[1]",), ("test_other.py",)])
def test_a_cell_that_nobody_asked_for_is_not_gone(session, pytester, args):
    """A cell that was deselected, not named, or in a file that was not named, is not missing."""
    pytester.makepyfile(test_other="def test_nothing(): pass")
    session([1, 4], "--benchmark-save=kept")
    assert session([1, 4], *args, "--benchmark-compare").ret == pytest.ExitCode.OK


def test_a_cell_that_an_option_leaves_out_is_not_gone(session):
    """--ts-quick measures batches of 1 and 16 only."""
    session([1, 4], "--benchmark-save=kept")
    assert session([1], "--ts-quick", "--benchmark-compare").ret == pytest.ExitCode.OK
    assert session([4], "--ts-quick", "--benchmark-compare").ret == pytest.ExitCode.TESTS_FAILED


def test_an_invalid_cell_is_not_missed(session, pytester):
    """A saved INVALID cell has no valid figures: the comparison is complete without the cell."""
    session([1, 4], "--benchmark-save=kept")
    (path,) = pytester.path.rglob("0001_*.json")
    content = json.loads(path.read_text())
    content["benchmarks"][1]["extra_info"]["validity"] = "INVALID"
    path.write_text(json.dumps(content))
    assert session([1], "--benchmark-compare").ret == pytest.ExitCode.OK


def test_only_what_is_alike_makes_a_trend(session, pytester):
    """Other environments, other projects, broken files and INVALID entries are skipped; the oldest file comes first."""
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


def test_two_arms_in_one_process_are_another_environment():
    """Runs with and without a baseline are of different environments; which baseline does not matter."""
    plain, paired, other = {"baseline": None}, {"baseline": "HEAD (a)"}, {"baseline": "HEAD (b)"}
    assert history.differences(plain, paired)
    assert not history.differences(paired, other)
