"""The table of environments, and the checks before a release."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def matrix():
    """The program tools/matrix.py as a module."""
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "tools" / "matrix.py")
    module = sys.modules["matrix"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table(matrix):
    """A row that was not reached has what was asked for; a bar in a message does not add a column."""
    one, other = matrix.COMBINATIONS[0], matrix.COMBINATIONS[-1]
    text = matrix.table(
        [
            matrix.Row(one, result="fails: TypeError: unsupported operand type(s) for |"),
            matrix.Row(other, "2.9.0", "openjdk 25", "works: 9 cells and phases", "as fast: × 1.000"),
        ]
    )
    rows = text.splitlines()[2:]
    assert [len(row.replace("\\|", "").split("|")) for row in rows] == [7, 7]
    assert rows[0].startswith(f"| {one.python} | {one.torch} | {one.java} | fails: ")
    assert rows[1].startswith(f"| {other.python} | 2.9.0 | openjdk 25 | works")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("E   found: no Java\nE   what to do: x", "no Java"),
        ("Traceback\nE   ModuleNotFoundError: No module named 'imp'\n", "ModuleNotFoundError: No module named 'imp'"),
    ],
)
def test_the_first_failure_in_one_line(matrix, tmp_path, text, words):
    """The failure of a session is the cause of its first failed test; without a report, its last words."""
    report = tmp_path / "report.xml"
    done = subprocess.CompletedProcess([], 1, "", "╰─▶ because\n\n")
    assert matrix.failure(report, done) == "because"
    report.write_text(f"<testsuites><testcase><failure>{text}</failure></testcase></testsuites>")
    assert matrix.failure(report, done) == words


def test_a_hang_is_a_result(matrix, tmp_path, monkeypatch):
    """A command that does not end is ended, and told."""
    monkeypatch.setattr(matrix, "LONGEST_S", 0.2)
    done = matrix.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    assert (done.returncode, done.stderr) == (1, "hangs: no end after 0.2 s")


@pytest.fixture
def release(tmp_path):
    """`release(tag, heading)` checks a release of version 1.2.3 whose changelog has this heading."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "check-release", tmp_path / ".ci")
    package = tmp_path / "src" / "pytest_torchserve"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "1.2.3"\n')
    dist = tmp_path / "build" / "dist"
    dist.mkdir(parents=True)
    for name in ("pytest_torchserve-1.2.3.tar.gz", "pytest_torchserve-1.2.3-py3-none-any.whl"):
        (dist / name).touch()

    def release_(tag, heading):
        (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n")
        command = [str(tmp_path / ".ci" / "check-release"), tag]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return release_


def test_a_release_whose_parts_agree(release):
    """Tag, version, dated heading and files agree."""
    done = release("v1.2.3", "1.2.3 – 2026-12-01")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("tag", "heading", "wanted"),
    [
        ("v1.2.4", "1.2.3 – 2026-12-01", "wanted: the tag v1.2.3"),
        ("v1.2.3", "1.2.3 – unreleased", "wanted: a heading '## 1.2.3 – YYYY-MM-DD' in CHANGELOG.md"),
        ("v1.2.3", "1.2.2 – 2026-12-01", "found: none"),
    ],
)
def test_a_release_whose_parts_do_not(release, tag, heading, wanted):
    """What contradicts is refused with what to do."""
    done = release(tag, heading)
    assert done.returncode == 1
    assert wanted in done.stderr
    assert "what to do: " in done.stderr


def test_the_version_stands_in_one_place():
    """No other file of the package names the version."""
    version = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in version
    assert "\nversion = " not in version
