"""`tsperf`: what can be done without a test session: make a report again, look at the machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve import doctor
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.report import history, reader
from pytest_torchserve.report.html.page import write as write_page

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(prog="tsperf", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    again = commands.add_parser("report", help="make a report from saved runs")
    again.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help=".benchmarks/**/*.json, or a journal (*.jsonl)"
    )
    again.add_argument("-o", "--output", type=Path, default=Path("report"), help="folder (default: report)")
    look = commands.add_parser("doctor", help="what the suite finds on this machine, and what would spoil its figures")
    look.add_argument("--data", type=Path, default=None, help="a folder of samples and weights (default: TS_DATA)")
    given = parser.parse_args(arguments)
    try:
        if given.command == "report":
            return _report(given.runs, given.output)
        return _doctor(given.data)
    except SuiteError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _report(runs: Sequence[Path], folder: Path) -> int:
    """Write one page of all these runs; the trend covers the runs of one environment."""
    document = reader.read(runs)
    saved = [path for path in runs if path.suffix == ".json"]
    document.history = history.load(saved, document.environment, document.runs)
    sys.stdout.write(f"{write_page(document, folder)}\n")
    return 0


def _doctor(data: Path | None) -> int:
    """Print the findings; return 1 where something would make figures unreliable or sessions fail."""
    findings = doctor.examine(data)
    for finding in findings:
        sys.stdout.write(f"{finding.mark} {finding.what:20} {finding.found}\n")
        if finding.advice:
            sys.stdout.write(f"  {'':20} → {finding.advice}\n")
    return int(any(finding.advice for finding in findings))
