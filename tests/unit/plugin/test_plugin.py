"""The plugin as its user sees it: ids, order, options, skips; nothing here starts a server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_torchserve.plugin.option_table import TABLE

SUITE = """
import pytest
from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES
@pytest.mark.parametrize("phase", INIT_PHASES)
def test_init(ts_init_run, phase, ts_store): pass
@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(ts_handle_run, phase, ts_store): pass
def test_pace(ts_pace_run, ts_store): pass
def test_load(ts_load_run, ts_store): pass
def test_capacity(ts_capacity_run, ts_store): pass
"""


def collected(suite, *args):
    """Return the node ids, in their order."""
    suite.makepyfile(test_suite=SUITE)
    result = suite.runpytest_subprocess("--collect-only", "-q", *args)
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


def test_ids_are_stable(suite):
    """Ids are model-device-batch-phase; an init has no batch size; a model without a network has no pace."""
    ids = collected(suite)
    assert "test_handle[resnet56-cpu-b16-inference]" in ids
    assert [test for test in ids if test.startswith("test_init[resnet56-gpu-")] == [
        f"test_init[resnet56-gpu-{phase}]"
        for phase in ("load_model", "to_device", "warm_up", "spawn_and_import", "total", "first_inference")
    ]
    assert "test_pace[resnet56-cpu-b16-d3000-constant10]" in ids
    assert not any("pace[noop" in test for test in ids)
    assert "test_load[resnet56-cpu-b16-d100-poisson10]" in ids
    assert len(ids) == 2 * 2 * 6 + 2 * 2 * 3 * 5 + 2 + 2 * 2 * 3


def test_a_model_is_measured_on_its_devices(suite):
    """A model for a GPU has no cell on the CPU; the others have theirs on both."""
    suite.makeconftest(
        """
        from dataclasses import replace
        from models.catalogue import NOOP
        def pytest_torchserve_models(config):
            return [NOOP, replace(NOOP, name="fast", devices=("gpu",))]
        """
    )
    cells = {test.partition("[")[2].rsplit("-", 1)[0] for test in collected(suite) if test.startswith("test_init")}
    assert cells == {"noop-cpu", "noop-gpu", "fast-gpu"}


def test_one_deployment_after_the_other(suite):
    """Tests of one deployment stand together, its init first: its workers are loaded once."""
    ids = collected(suite, "-m", "cpu", "-k", "resnet56")
    phases = [test for test in ids if "pace" in test or "load[" in test]
    cells = list(dict.fromkeys(test if test in phases else test.rsplit("-", 1)[0] for test in ids))
    assert cells == [
        "test_init[resnet56-cpu",
        "test_handle[resnet56-cpu-b1",
        "test_handle[resnet56-cpu-b4",
        "test_handle[resnet56-cpu-b16",
        "test_pace[resnet56-cpu-b16-d3000-constant10]",
        "test_load[resnet56-cpu-b16-d100-closed4]",
        "test_load[resnet56-cpu-b16-d100-constant10]",
        "test_load[resnet56-cpu-b16-d100-poisson10]",
    ]


def test_capacity_is_asked_for_by_name(suite):
    """A search takes minutes: `-m cpu` and `-m gpu` leave it out; `-m capacity` selects nothing else."""
    assert not [test for test in collected(suite) if "capacity" in test]
    assert {test.partition("[")[0] for test in collected(suite, "-m", "capacity")} == {"test_capacity"}


def test_a_search_says_first_how_long_it_takes(suite):
    """The searches of the session are announced with their budget, and only where there are any."""
    suite.makepyfile(test_suite=SUITE)
    select = ("--collect-only", "-m", "cpu or capacity", "-k", "resnet56 and cpu")
    usual = suite.runpytest_subprocess(*select)
    usual.stdout.fnmatch_lines(["capacity: 1 search, which takes up to 10 min (--ts-capacity-seconds)"])
    quick = suite.runpytest_subprocess(*select, "--ts-workers=1,2", "--ts-quick")
    quick.stdout.fnmatch_lines(["capacity: 2 searches of up to 60 s each (--ts-capacity-seconds)"])
    none = suite.runpytest_subprocess("--collect-only", "-m", "cpu", "-k", "resnet56")
    none.stdout.no_fnmatch_line("capacity: *")


def test_loads_and_batchings_are_options(suite):
    """Each requested load and batching gives one cell, named by both."""
    ids = collected(
        suite, "-m", "cpu", "-k", "test_load and resnet56", "--ts-loads=closed:2,poisson:7.5", "--ts-batching=1/0,8/50"
    )
    assert ids == [
        f"test_load[resnet56-cpu-{batching}-{load}]"
        for batching in ("b1-d0", "b8-d50")
        for load in ("closed2", "poisson7.5")
    ]


def test_workers_are_an_axis_of_load_and_capacity(suite):
    """Each number of workers gives load and capacity cells; only more than one stand in the id, as 1 is usual."""
    ids = collected(suite, "-m", "cpu or capacity", "-k", "resnet56 and cpu and not handle", "--ts-workers=1,2")
    assert [test for test in ids if "test_load" in test or "test_capacity" in test] == [
        *(
            f"test_load[resnet56-cpu-b16-d100{w}-{load}]"
            for w in ("", "-w2")
            for load in ("closed4", "constant10", "poisson10")
        ),
        *(f"test_capacity[resnet56-cpu-b16-d100{w}]" for w in ("", "-w2")),
    ]
    assert not [test for test in ids if "-w2" in test and ("test_pace" in test or "test_init" in test)]


def test_someone_elses_server_is_only_put_under_traffic(suite):
    """With --ts-url there is nothing to archive, register or scale: tests that do so are deselected, not failed."""
    ids = collected(suite, "--ts-url=http://127.0.0.1:1", "--ts-url-model=theirs")
    assert ids == [
        "test_load[theirs-attached-closed4]",
        "test_load[theirs-attached-constant10]",
        "test_load[theirs-attached-poisson10]",
    ]


@pytest.mark.parametrize(("args", "sizes"), [(["--ts-batch-sizes=2,8"], {"b2", "b8"}), (["--ts-quick"], {"b1", "b16"})])
def test_batch_sizes(suite, args, sizes):
    """The batch sizes are those of --ts-batch-sizes, or those of --ts-quick."""
    ids = collected(suite, "-k", "test_handle", *args)
    assert {test.split("-")[2] for test in ids} == sizes


@pytest.mark.parametrize(
    ("args", "measured"), [((), True), (("--ts-quick",), False), (("--ts-quick", "-k", "resnet56"), True)]
)
def test_a_look_leaves_out_what_says_so(suite, args, measured):
    """Under --ts-quick a test marked `quick=False` runs only for a model that -k names."""
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.ts_models("resnet56", quick=False)
        def test_beside(ts_handle_run): pass

        @pytest.mark.ts_models("resnet56")
        def test_usual(ts_handle_run): pass
        """
    )
    place = suite.path / "test_a_look_leaves_out_what_says_so.py"
    by_name = suite.runpytest_subprocess("--collect-only", "-q", "-m", "cpu", *args, place)
    assert "test_beside[resnet56-cpu-b1]" in by_name.stdout.str()
    done = suite.runpytest_subprocess("--collect-only", "-q", "-m", "cpu", *args)
    assert ("test_beside[resnet56-cpu-b1]" in done.stdout.str()) is measured
    assert "test_usual[resnet56-cpu-b1]" in done.stdout.str()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--ts-batch-sizes=0", "*wanted: --ts-batch-sizes as whole numbers from 1*"),
        ("--ts-batch-sizes=4,4", "*wanted: --ts-batch-sizes as whole numbers from 1*"),
        ("--ts-batch-sizes=big", "*wanted: --ts-batch-sizes as whole numbers from 1*"),
        ("--ts-workers=0", "*wanted: --ts-workers as whole numbers from 1*"),
        ("--ts-workers=2,2", "*wanted: --ts-workers as whole numbers from 1*"),
        ("--ts-processes=0", "*wanted: --ts-processes above 0*"),
        ("--ts-cell-seconds=nan", "*wanted: --ts-cell-seconds above 0*"),
        ("--ts-worker-env=X", "*wanted: --ts-worker-env NAME=VALUE*"),
        ("--ts-loads=burst:4", "*wanted: --ts-loads as closed:USERS*"),
        ("--ts-loads=closed:1,poisson:0.002", "*found: 'poisson:0.002': within 10 s none does (--ts-load-seconds, *"),
        ("--ts-batching=16", "*wanted: --ts-batching as SIZE/DELAY_MS*"),
        ("--ts-slo-ms=0", "*wanted: --ts-slo-ms above 0*"),
        ("--ts-url=http://127.0.0.1:1", "*wanted: --ts-url-model with --ts-url*"),
        ("--ts-url-model=theirs", "*wanted: --ts-url with --ts-url-model*"),
        ("--ts-load-master=0.0.0.0:5557", "*wanted: --ts-load-engine=locust with --ts-load-master*"),
        ("--ts-strict", "*wanted: --ts-baseline with --ts-strict*"),
        ("--ts-baseline-minutes=5", "*wanted: --ts-baseline with --ts-baseline-minutes*"),
        ("--ts-baseline=. --ts-baseline-minutes=5 --ts-baseline-seconds=60", "*or --ts-baseline-seconds, for each*"),
        ("--ts-baseline=. --ts-baseline-minutes=0", "*wanted: --ts-baseline-minutes above 0*"),
        ("--ts-max-regression=5%", "*wanted: --ts-baseline with --ts-max-regression*"),
        ("--ts-min-effect=0", "*wanted: --ts-min-effect as a share of the time*"),
        ("--ts-min-effect=much", "*found: 'much'*"),
        ("--ts-baseline=. --ts-url=http://x --ts-url-model=m", "*wanted: --ts-baseline or --ts-url*"),
        (
            "--ts-baseline=config:nowhere.properties",
            "*wanted: a TorchServe config.properties (--ts-config, --ts-baseline=*",
        ),
        ("--ts-response-timeout=0", "*wanted: --ts-response-timeout above 0*"),
        ("--ts-baseline=config:", "*found: 'config:', which names none*"),
        ("--ts-baseline=", "*found: '', which names none*"),
        (f"--ts-config={'a' * 5000}", "*File name too long*"),
        (f"--ts-report={'a' * 5000}", "*wanted: a place to write to (--ts-report)*"),
        ("--ts-response-timeout=inf", "*wanted: --ts-response-timeout above 0 and at most 2147483*"),
        ("--ts-load-seconds=inf", "*wanted: --ts-load-seconds above 0 and at most *"),
        ("--ts-loads=constant:1e308", "*found: 'constant:1e308'*"),
        ("--ts-baseline-processes=2", "*wanted: --ts-baseline-processes from 3*"),
    ],
)
def test_a_bad_option_is_a_usage_error(suite, option, message):
    """A bad option gives one clear message, before anything is collected."""
    result = suite.runpytest_subprocess(*option.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


BAD_BASELINES = [
    ("--ts-baseline=nonsense", "*found: 'nonsense': no such folder, and *"),
    ("--ts-baseline=saved --ts-baseline-worker-env=A=1", "*which shares the candidate's server*"),
]


@pytest.mark.parametrize(("option", "message"), BAD_BASELINES)
def test_a_baseline_is_looked_for_when_it_is_needed(suite, option, message):
    """A bad baseline is a usage error if a cell is to be compared with it; else the baseline is not looked for."""
    suite.makepyfile(test_suite=SUITE)
    (suite.path / "saved").mkdir()
    (suite.path / "saved" / "x.mar").touch()
    result = suite.runpytest_subprocess("-k", "noop-cpu", *option.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    for unneeded in (["--collect-only", "-k", "noop-cpu"], ["-k", "gpu"], ["--benchmark-skip", "-k", "noop-cpu"]):
        assert suite.runpytest_subprocess(*unneeded, *option.split()).ret == pytest.ExitCode.OK


def test_of_two_bad_options_the_first_of_the_table_is_named(suite, monkeypatch):
    """The same option is named for any order on the command line and any hash seed of Python."""
    bad = ["--ts-slo-ms=0", "--ts-init-rounds=0", "--ts-cell-seconds=0", "--ts-load-workers=0"]
    first = min(bad, key=lambda option: [row.name for row in TABLE].index(option.removesuffix("=0")))
    for seed in range(5):
        monkeypatch.setenv("PYTHONHASHSEED", str(seed))
        result = suite.runpytest_subprocess(*bad)
        result.stderr.fnmatch_lines([f"*wanted: {first.removesuffix('=0')} above 0*"])


@pytest.fixture
def without_gpu(monkeypatch, tmp_path):
    """A PATH on which there is no nvidia-smi."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.mark.usefixtures("without_gpu")
def test_without_a_gpu_the_gpu_tests_skip_and_say_why(suite):
    """On a machine without a GPU `-m gpu` skips every test, with the reason; nothing is started."""
    suite.makepyfile(test_suite=SUITE)
    result = suite.runpytest_subprocess("-m", "gpu", "-rs")
    outcomes = result.parseoutcomes()
    assert outcomes["skipped"] == 49
    assert "passed" not in outcomes
    result.stdout.fnmatch_lines(["SKIPPED*no GPU: nvidia-smi was not found on PATH*"])


@pytest.mark.usefixtures("without_gpu")
def test_a_required_gpu_fails(suite):
    """With --ts-require-gpu a missing GPU is a failure: a run must not pass because all its tests were skipped."""
    suite.makepyfile(test_suite=SUITE)
    result = suite.runpytest_subprocess("-m", "gpu", "--ts-require-gpu", "-k", "pace")
    result.assert_outcomes(errors=1, deselected=101)
    result.stdout.fnmatch_lines(["*no GPU: nvidia-smi was not found on PATH*--ts-require-gpu*"])


# Modules that take long to import, or that only a session that measures needs.
SLOW = (
    *("torch", "torchvision", "ts", "model_archiver", "captum", "numpy", "scipy", "matplotlib", "PIL", "jinja2"),
    *("requests", "urllib3", "rich", "psutil", "pynvml", "yaml", "uvloop", "gevent", "locust"),
)
# pytest-benchmark itself starts git: only the processes that our own code starts count.
SPY = f"""
import sys, traceback
started = []
def hook(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        frames = traceback.extract_stack()
        started.extend([str(arguments)] * any("/pytest_torchserve/" in frame.filename for frame in frames))
import pytest
sys.addaudithook(hook)
pytest.main(sys.argv[1:])
print([name for name in {SLOW} if name in sys.modules], started)
"""


def test_collecting_is_cheap_and_starts_nothing(suite):
    """Collecting imports no module that is slow to import, and our code starts no process."""
    suite.makepyfile(test_suite=SUITE)
    done = subprocess.run(
        [sys.executable, "-c", SPY, "--collect-only", "-q"],
        cwd=suite.path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "test_suite.py::test_load[resnet56-cpu-b16-d100-closed4]" in done.stdout
    assert done.stdout.splitlines()[-1] == "[] []"


def test_a_missing_data_folder_is_a_usage_error(suite):
    """A missing data folder gives one clear message, at once, and not one for every test."""
    result = suite.runpytest_subprocess("--ts-data=/nowhere/at/all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*wanted: a folder of samples at /nowhere/at/all*", "*found: no such folder*"])
