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


SDIST, WHEEL = "pytest_torchserve-1.2.3.tar.gz", "pytest_torchserve-1.2.3-py3-none-any.whl"
HEADING = "1.2.3 – 2026-12-01"


@pytest.fixture
def release(tmp_path):
    """`release(tag, heading)` checks a release of version 1.2.3 whose changelog has these headings.

    `version=` stands in place of the version's line; files that `empty=` and `missing=` name are.
    """
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "check-release", tmp_path / ".ci")
    package = tmp_path / "src" / "pytest_torchserve"
    package.mkdir(parents=True)
    dist = tmp_path / "build" / "dist"
    dist.mkdir(parents=True)

    def release_(tag, *headings, version='__version__ = "1.2.3"\n', empty=(), missing=()):
        (package / "__init__.py").write_text(version)
        for name in (SDIST, WHEEL):
            if name not in missing:
                (dist / name).write_bytes(b"" if name in empty else b"x")
        text = "".join(f"\n## {heading}\n\nwords\n" for heading in headings)
        (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n{text}")
        command = [str(tmp_path / ".ci" / "check-release"), tag]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return release_


def test_a_release_whose_parts_agree(release):
    """Tag, version, dated heading and files agree."""
    for headings in (
        [HEADING],
        ["1.2.30 – unreleased", HEADING],
        [HEADING, "1.2.2 – 2026-02-29"],
        ["1.2.3 – 2028-02-29"],
    ):
        done = release("v1.2.3", *headings)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("tag", "heading", "words"),
    [
        ("v1.2.4", HEADING, "wanted: the tag v1.2.3"),
        ("v1.2.3", "1.2.3 – unreleased", "wanted: a heading '## 1.2.3 – YYYY-MM-DD' in CHANGELOG.md"),
        ("v1.2.3", "1.2.2 – 2026-12-01", "found: none"),
        ("v1.2.3", "1.2.31 – 2026-12-01", "found: none"),
        ("v1.2.3", "1.2.3.1 – 2026-12-01", "found: none"),
        ("v1.2.3", "1a2b3 – 2026-12-01", "found: none"),
        ("v1.2.3", "1.2.3 – 2026-99-99", "found: ## 1.2.3 – 2026-99-99"),
        ("v1.2.3", "1.2.3 – 2026-02-29", "found: ## 1.2.3 – 2026-02-29"),
        ("v1.2.3", "1.2.3 – 2026-12-01 (late)", "found: ## 1.2.3 – 2026-12-01 (late)"),
        ("v1.2.3", "1.2.3", "found: ## 1.2.3"),
    ],
)
def test_a_release_whose_parts_do_not(release, tag, heading, words):
    """What contradicts is refused with what to do."""
    refused(release(tag, heading), words)


def refused(done, words):
    """Assert that a release was refused in these words, with what to do, and without a message of the shell's."""
    assert done.returncode == 1
    assert words in done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["wanted", "found", "what to do"]


@pytest.mark.parametrize("name", [SDIST, WHEEL])
def test_a_release_whose_files_are_not_whole(release, name):
    """A file that is missing or empty is refused, by its name."""
    refused(release("v1.2.3", HEADING, missing=[name]), f"wanted: build/dist/{name}, not empty")
    refused(release("v1.2.3", HEADING, empty=[name]), f"wanted: build/dist/{name}, not empty")


@pytest.mark.parametrize(
    "line", ["", '__version__ = ""\n', "__version__ = '1.2.3'\n", '__version__ = "1.2.3"\n__version__ = "1.2.4"\n']
)
@pytest.mark.parametrize("tag", ["v", "v1.2.3", ""])
def test_a_release_without_a_version(release, line, tag):
    """A version that cannot be read is refused, and matches no tag."""
    done = release(tag, " – 2026-12-01", HEADING, version=line)
    refused(done, 'wanted: a line __version__ = "X.Y.Z"' if tag else "wanted: a tag")


def test_the_version_stands_in_one_place():
    """No other file of the package names the version."""
    version = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in version
    assert "\nversion = " not in version
