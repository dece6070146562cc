"""Faults while cells are measured: the cell fails and says why, the others are measured, and nothing is left."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psutil

KILLED = """
import threading

import psutil
import pytest

from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.phase import HANDLE_PHASES


@pytest.fixture(scope="session", autouse=True)
def the_jvm_dies(ts_session):
    # Kill the JVM of the session's first server as soon as it has answered requests of the first cell.
    killed = []
    if ts_session.config.recovered is not None:
        yield
        return

    def kill():
        deployments = ts_session.deployments
        assert wait_until(lambda: deployments.server is not None, timeout_s=60)
        server = deployments.server
        assert wait_until(lambda: server.request_log_size() > 0, timeout_s=60)
        for process in psutil.Process(server.pid).children(recursive=True):
            if process.name() == "java":
                killed.append(process.pid)
                process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()
    print("killed", len(killed), "at", {folder})


@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(ts_handle_run, phase, ts_store):
    ts_store(ts_handle_run, phase)
"""

SHORT = (
    "--ts-processes=1",
    "--ts-cell-seconds=4",
    "-k",
    "noop-cpu",
    "--benchmark-save=kept",
    "--benchmark-save-data",
    "-s",
)


def test_a_jvm_that_is_killed_fails_its_cell_alone(suite):
    """The cell in which the JVM died fails with the cause and the log, told once; the others get a fresh server."""
    suite.makepyfile(test_suite=KILLED.replace("{folder}", "ts_session.deployments.server.folder"))
    result = suite.runpytest_subprocess(*SHORT)
    printed = result.stdout.str()
    assert "killed 1 at" in printed
    result.assert_outcomes(errors=5, passed=10, deselected=45)
    errors = printed.partition("short test summary")[0]  # in CI the summary repeats whole messages
    assert len(re.findall(r"found: it ended by itself, its launcher with exit code -?\d+;", errors)) == 1
    assert printed.count("for the same reason as test_suite.py::test_handle[noop-cpu-b1-preprocess]") >= 4
    assert "Connection refused" not in printed
    assert re.search(r"^notice: TorchServe ended by itself; its logs are kept in ", printed, re.MULTILINE)
    assert [entry.name for entry in suite.path.rglob("*_kept.json")]
    recovered(suite, printed)
    mine = str(suite.path)
    assert not [p.pid for p in psutil.process_iter() if any(mine in part for part in _command(p))]


def recovered(suite, printed):
    """Recover the session from its journal: what it saved itself is saved again, figure for figure."""
    (journal,) = re.findall(r"^every run, with raw samples: (.*)$", printed, re.MULTILINE)
    command = [Path(sys.executable).parent / "tsperf", "recover", journal, "--save=again"]
    done = subprocess.run(command, cwd=suite.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, again = (
        {entry["fullname"]: entry["stats"]["data"] for entry in json.loads(file.read_text())["benchmarks"]}
        for name in ("kept", "again")
        for file in suite.path.rglob(f"*_{name}.json")
    )
    assert len(first) == 10
    assert again == first


def _command(process):
    """Return a process's command line; nothing of one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
