"""`--ts-mar` and `--ts-suite` from a folder of one's own: what is collected, under which names, and what is refused."""

from __future__ import annotations

import json
import zipfile

import pytest

from pytest_torchserve import suite as installed
from pytest_torchserve.torchserve.wrap import MANIFEST

HANDLER = "def handle(data, context): ...\n"


@pytest.fixture
def collect(pytester):
    """`collect(*args)` collects in an empty folder with an archive `mine.mar`; returns exit status, ids and output."""

    def archive(name, handler=HANDLER, config=None):
        model = {"modelName": "m", "handler": "h.py", **({"configFile": "c.yaml"} if config else {})}
        with zipfile.ZipFile(pytester.path / name, "w") as file:
            file.writestr(MANIFEST, json.dumps({"runtime": "python", "model": model}))
            file.writestr("h.py", handler)
            file.writestr("c.yaml", config or "")

    def collect_(*args):
        result = pytester.runpytest_inprocess("--collect-only", "-q", "-p", "no:cacheprovider", *map(str, args))
        return result.ret, [line for line in result.outlines if "::" in line], result.stdout.str() + result.stderr.str()

    archive("mine.mar")
    collect_.archive = archive
    return collect_


def test_the_suite_is_collected_under_its_own_names(collect):
    """From an empty folder every file of the suite is collected but the one that names a model of the repository."""
    code, ids, printed = collect("--ts-mar=mine.mar", "-m", "cpu")
    assert code == 0, printed
    assert {name.partition("::")[0] for name in ids} == {
        f"tests/test_{kind}.py" for kind in ("batching", "handle", "init", "load", "pace", "workers")
    }
    assert "tests/test_init.py::test_init[mine-cpu-total]" in ids
    assert "tests/test_handle.py::test_handle[noop-cpu-b16-handle]" in ids
    assert not [name for name in ids if "resnet56" in name or "gpu" in name or "first_chunk" in name]


def test_every_kind_of_cell_is_found_by_name(collect):
    """`-k` with the archive's name finds init, handle, pace, load and, where asked for, capacity."""
    _, ids, _ = collect("--ts-mar=mine.mar", "-m", "cpu or capacity", "-k", "mine")
    kinds = {name.partition("::")[2].partition("[")[0] for name in ids}
    assert kinds == {"test_init", "test_handle", "test_pace", "test_load", "test_capacity"}


def test_an_archives_own_settings_and_streaming(collect):
    """What its config says is one more cell, and an archive that streams has a time to the first chunk."""
    collect.archive("s.mar", "send_intermediate_predict_response\n", "batchSize: 8\ndeviceType: cpu\n")
    _, ids, _ = collect("--ts-mar=s.mar", "-k", "s-")
    assert "tests/test_handle.py::test_handle[s-cpu-configured-handle]" in ids
    assert "tests/test_handle.py::test_first_chunk[s-cpu-b16]" in ids
    assert not [name for name in ids if "gpu-configured" in name]


def test_one_request_at_a_time(collect):
    """An asynchronous archive, whose larger batches TorchServe leaves unanswered, is measured with batches of one."""
    collect.archive("s.mar", config="asyncCommunication: true\nbatchSize: 8\n")
    _, ids, _ = collect("--ts-mar=s.mar", "-k", "s-cpu", "--ts-batch-sizes=1,4,16", "--ts-loads=closed:2")
    cells = {name.partition("[")[2] for name in ids if name.endswith("-handle]") or "closed2" in name}
    assert cells == {"s-cpu-b1-handle]", "s-cpu-b1-d100-closed2]"}


def test_a_path_is_a_path(collect, pytester):
    """Where a path is given, only that is collected."""
    pytester.makepyfile(test_x="def test_x(ts_init_run): ...\n")
    _, ids, _ = collect("--ts-mar=mine.mar", "test_x.py", "-m", "cpu")
    assert ids == ["test_x.py::test_x[noop-cpu]", "test_x.py::test_x[mine-cpu]"]


def test_the_models_of_a_conftest(collect, pytester):
    """`--ts-suite` collects the suite for the models of the folder's conftest.py, and noop."""
    pytester.makeconftest(
        "from pathlib import Path\nfrom pytest_torchserve import Model\n"
        "def pytest_torchserve_models(config):\n    return [Model.from_mar(Path('mine.mar'), name='other')]\n"
    )
    _, ids, _ = collect("--ts-suite", "-m", "cpu", "-k", "test_load or test_init")
    assert {name.partition("[")[2].partition("-")[0] for name in ids} == {"noop", "other"}
    assert "tests/test_load.py::test_load[other-cpu-b16-d100-closed4]" in ids


def test_a_model_is_put_under_load_by_name(pytester, collect):
    """In a project with a catalogue, `-k` with a model's name finds it in the load tests, which name another model."""
    pytester.makeconftest(
        "from pytest_torchserve import Model\n"
        "def pytest_torchserve_models(config):\n"
        "    return [Model('mine', handler='h.py'), Model('other', handler='h.py')]\n"
    )
    load = installed.FOLDER / "test_load.py"
    pytester.makepyfile(test_load=load.read_text(encoding="utf-8"))
    code, ids, _ = collect("test_load.py", "-m", "cpu", "-k", "mine")
    assert code == 0
    assert {name.partition("[")[2].partition("-")[0] for name in ids} == {"mine"}
    _, ids, _ = collect("test_load.py", "-m", "cpu")
    assert not [name for name in ids if "mine" in name or "other" in name]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--ts-mar=gone.mar"], "no such file or folder"),
        (["--ts-mar=mine.mar", "--ts-samples=gone"], "no such file or folder"),
        (["--ts-mar=mine.mar", "--ts-answers=gone.json"], "record-answers"),
        (["--ts-mar=mine.mar", "--ts-tolerance=a"], "--ts-tolerance"),
        (["--ts-mar=mine.mar", "--ts-tolerance=1/2/3"], "--ts-tolerance"),
        (["--ts-mar=mine.mar", "--ts-python=gone"], "a Python with TorchServe at gone"),
        (["--ts-mar=mine.mar", "--ts-url=http://x", "--ts-url-model=m"], "leave one out"),
        (["--ts-answers=mine.mar"], "--ts-mar with --ts-answers"),
        (["--ts-samples=mine.mar"], "say what to send the requests to"),
        (["--ts-mar=noop.mar"], "beside yours"),
        (["--ts-mar=mine.mar", "--ts-mar=sub/MINE.mar"], "two are called"),
    ],
)
def test_a_usage_error(collect, pytester, args, words):
    """Each bad option is one message, before anything starts."""
    collect.archive("noop.mar")
    (pytester.path / "sub").mkdir()
    collect.archive("sub/MINE.mar")
    code, _, printed = collect(*args)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert words in printed
    assert "Traceback" not in printed


def test_what_is_not_served_is_skipped(pytester):
    """A test of the suite that needs a model of the repository is skipped where archives are measured, and says why."""
    pytester.makepyfile(
        "from pytest_torchserve.plugin.fixtures import Catalogue\n"
        "def test_own():\n    Catalogue({}, own=True)['resnet56']\n"
        "def test_other():\n    Catalogue({}, own=False)['resnet56']\n"
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines(["*a model 'resnet56' in the catalogue*", "SKIPPED*needs resnet56, a model of*"])


@pytest.mark.parametrize("returned", ["['resnet56']", "'resnet56'", "3", "[None]"])
def test_what_is_no_model(collect, pytester, returned):
    """A hook that returns something else than models is one usage error; one model alone needs no list."""
    pytester.makeconftest(f"def pytest_torchserve_models(config):\n    return {returned}\n")
    code, _, printed = collect("--ts-suite", "-m", "cpu")
    assert code == pytest.ExitCode.USAGE_ERROR, printed
    assert "what to do: return a list of pytest_torchserve.Model" in printed


def test_one_model_needs_no_list(collect, pytester):
    """A hook may return one model alone."""
    pytester.makeconftest(
        "from pytest_torchserve import Model\n"
        "def pytest_torchserve_models(config):\n    return Model('alone', handler='h.py', samples='h.py')\n"
    )
    code, ids, printed = collect("--ts-suite", "-m", "cpu")
    assert code == 0, printed
    assert "tests/test_init.py::test_init[alone-cpu-total]" in ids


def test_a_template(tmp_path, monkeypatch):
    """A new folder has what its conftest.py names; an unfit name and a folder that exists are refused."""
    monkeypatch.chdir(tmp_path)
    folder = installed.write_template("mine")
    assert sorted(path.name for path in folder.iterdir()) == ["conftest.py", "handler.py", "requests.jsonl"]
    assert 'name="mine"' in (folder / "conftest.py").read_text(encoding="utf-8")
    for name in ("mine", "my model", "../x"):
        with pytest.raises(installed.InputError, match="a name of letters"):
            installed.write_template(name)


def test_everything_is_written_where_it_was_asked_for(pytester, collect):
    """In a folder without a project of its own, an archive elsewhere does not move journal and store."""
    (pytester.path / "here").mkdir()
    (pytester.path / "there").mkdir()
    (pytester.path / "mine.mar").rename(pytester.path / "there" / "mine.mar")
    code = (
        "import os, sys, pytest\nos.chdir('here')\n"
        "class Look:\n"
        "    def pytest_collection_finish(self, session):\n"
        "        from pytest_torchserve.plugin import options\n"
        "        told = options.of(session.config)\n"
        "        print('AT', told.store, told.journal.parent.parent)\n"
        "sys.exit(pytest.main(['--ts-mar', '../there/mine.mar', '--collect-only', '-q', '-s'], plugins=[Look()]))\n"
    )
    result = pytester.runpython(pytester.makepyfile(run=code))
    here = pytester.path / "here"
    result.stdout.fnmatch_lines([f"AT {here / 'model_store'} {here / '.benchmarks'}"])
