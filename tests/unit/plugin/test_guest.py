"""A project without tests of this suite: its sessions must not change because the plugin is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FOREIGN = """
import pytest

@pytest.fixture
def store():
    return "their own"

def test_it(benchmark):
    benchmark.extra_info["phase"] = "a word of theirs"
    benchmark(sorted, [3, 1, 2])

def test_store(store):
    assert store == "their own"

@pytest.mark.gpu
def test_marked():
    pass
"""

WITHOUT = ("-p", "no:torchserve")

SPY = """
import sys
started = []
sys.addaudithook(lambda event, args: started.append(event) if event in ("subprocess.Popen", "os.posix_spawn") else None)
import pytest
code = pytest.main(sys.argv[1:])
print("SPIED", len(started), *sorted(sys.modules))
raise SystemExit(code)
"""

HEAVY = ("torch", "numpy", "scipy", "requests", "rich", "psutil", "httptools", "uvloop", "filelock", "asyncio", "ssl")
"""The dependencies of this project that neither pytest nor pytest-benchmark loads."""

LIGHT = {
    *("answers", "deployment", "environment", "errors", "json_text", "model", "phase"),
    *("_util", "_util.time_accounting"),
    *("plugin", "plugin.failures", "plugin.fixtures", "plugin.hookspec", "plugin.option_table"),
}
"""All modules of this package that are loaded for a project that does not use the suite."""


@pytest.fixture
def foreign(pytester):
    """`foreign(*args)` runs the project's session; returns exit status, processes started, modules loaded, output."""
    pytester.makepyfile(test_foreign=FOREIGN)
    pytester.makeini("[pytest]\nmarkers =\n    gpu: theirs\naddopts = --strict-markers\n")

    def run(*args, **variables):
        done = subprocess.run(
            [sys.executable, "-c", SPY, *args],
            cwd=pytester.path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        spied = next(line for line in done.stdout.splitlines() if line.startswith("SPIED")).split()
        return done.returncode, int(spied[1]), set(spied[2:]), done.stdout + done.stderr

    return run


def saved(pytester):
    """Return the content of every saved run, by file name."""
    return {path.name: json.loads(path.read_text()) for path in pytester.path.rglob(".benchmarks/*/*.json")}


@pytest.mark.parametrize(
    ("args", "variables"),
    [
        ([], {}),
        ([], {"TS_DATA": "/nope"}),
        (["--benchmark-only"], {}),
        (["--benchmark-skip"], {}),
        (["--benchmark-disable"], {}),
        (["-n", "2"], {}),
        (["-m", "gpu"], {}),
        (["--markers"], {}),
        (["--collect-only", "-q"], {}),
        (["-x", "-p", "no:cacheprovider"], {"OMP_NUM_THREADS": "1"}),
    ],
)
def test_a_foreign_session_is_as_without_us(foreign, args, variables):
    """With the plugin the exit status, outcomes and process count are the same, and no heavy module is loaded."""
    without, with_us = foreign(*WITHOUT, *args, **variables), foreign(*args, **variables)
    assert with_us[0] == without[0]
    assert with_us[1] == without[1]
    counts = [
        next((line for line in reversed(printed.splitlines()) if " passed" in line or "collected" in line), "")
        for printed in (without[3], with_us[3])
    ]
    assert counts[0].partition(" in ")[0] == counts[1].partition(" in ")[0]
    assert not (with_us[2] - without[2]) & set(HEAVY)
    ours = {name.removeprefix("pytest_torchserve.") for name in with_us[2] if name.startswith("pytest_torchserve.")}
    assert ours == LIGHT
    if args == ["--markers"]:
        assert "@pytest.mark.capacity" not in with_us[3]


def test_what_a_foreign_session_saves_has_no_key_of_ours(foreign, pytester):
    """A saved file has the same keys as without the plugin, and compares silently, also with entries of ours."""
    assert foreign(*WITHOUT, "--benchmark-save=without")[0] == 0
    assert foreign("--benchmark-save=with")[0] == 0
    without, with_us = saved(pytester)["0001_without.json"], saved(pytester)["0002_with.json"]
    assert with_us["machine_info"].keys() == without["machine_info"].keys()
    assert with_us["benchmarks"][0].keys() == without["benchmarks"][0].keys()
    (path,) = pytester.path.rglob("0002_with.json")
    ours = {"torchserve": "0.12.0", "cpu_model": "another", "torch": "1.13.1", "server_settings": {}}
    extra = {
        "cell": "noop-cpu-b1",
        "kind": "handle",
        "phase": "handle",
        "validity": "VALID",
        "batch_size": 1,
        "load": "",
    }
    entry = {**with_us["benchmarks"][0], "fullname": "test_foreign.py::test_gone", "extra_info": extra}
    content = {**with_us, "machine_info": with_us["machine_info"] | ours, "benchmarks": [*with_us["benchmarks"], entry]}
    path.write_text(json.dumps(content))
    code, _, modules, printed = foreign("--benchmark-compare")
    assert code == 0, printed
    assert "test_it (NOW)" in printed
    assert "test_it (0002_with)" in printed
    assert not [line for line in printed.splitlines() if "missing" in line or "machine_info is different" in line]
    assert "pytest_torchserve.session.session" not in modules


def test_their_own_table_stays(foreign):
    """An extra_info of another project that has a `phase` does not make its entry an entry of ours."""
    assert "Name (time in" in foreign()[3]
