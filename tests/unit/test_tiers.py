"""The sessions of `make test` and `make test-rest`: each test is in exactly one of them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def sessions(target):
    """Return the arguments of the pytest sessions that a Makefile target runs, without the number of processes."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    short = re.search(r"^SHORT = (.*)$", makefile, re.MULTILINE)[1]
    found = re.findall(r"-m pytest (.*?)(?: -n \d+)? \$\(ARGS\)", recipe)
    return [shlex.split(arguments.replace("$(SHORT)", short)) for arguments in found]


def collected(*args):
    """Return the node ids that a session of this repository would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *args]
    # The options of the caller's own session are not for this one.
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_every_test_is_in_one_session():
    """Unit tests, the smoke session and the rest cover all tests that need no GPU, each test once."""
    told = [*sessions("test"), *sessions("test-rest")]
    assert len(told) == 3
    unit, smoke, rest = (collected(*args) for args in told)
    assert Counter(unit + smoke + rest) == Counter(collected("-m", "cpu or not gpu", "--ts-batch-sizes=1,16"))
    assert all(test.startswith("tests/unit/") for test in unit)


NEW_TESTS = {
    "server/test_new.py": "def test_session(): pass",
    "unit/test_new.py": "def test_unit(): pass\ndef test_server(ts_deploy): pass",
    "test_new.py": "def test_device(ts_device): pass\ndef test_bare(): pass",
}


def test_a_new_test_is_sorted_by_folder_and_fixture(suite):
    """A new test is marked by its folder and fixtures, and needs no marker of its own."""
    for folder in ("unit", "server"):
        (suite.path / "tests" / folder).mkdir(parents=True)
    (suite.path / "tests" / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (suite.path / "pytest.ini").write_text((ROOT / "pytest.ini").read_text())
    for name, text in NEW_TESTS.items():
        (suite.path / "tests" / name).write_text(text)

    def marked(expression):
        result = suite.runpytest_subprocess("--collect-only", "-q", "-m", expression)
        return {line.partition("::")[2] for line in result.outlines if "::" in line}

    assert marked("server") == {"test_session", "test_server", "test_device[cpu]", "test_device[gpu]", "test_bare"}
    assert marked("harness and not server") == {"test_unit"}
