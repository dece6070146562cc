"""`tsperf`: measure archives of one's own, record their answers, make a report again, look at the machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve import doctor, environment
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.report import history, reader
from pytest_torchserve.report.html.page import write as write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(prog="tsperf", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_run, _add_recover, _add_record, _add_new, _add_report, _add_doctor):
        add(commands)
    given, rest = parser.parse_known_args(arguments)
    if rest and given.command not in ("run", "recover"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    late = [text for text in rest if text.endswith((".mar", ".tar.gz")) and given.command == "run"]
    if late:
        parser.error(f"name the archives before all options; {late[0]} comes after one")
    given.rest = rest
    try:
        run: Callable[[argparse.Namespace], int] = given.run
        return run(given)
    except SuiteError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="measure archives: init, handle, load and capacity on every device found, saved, with a report",
        description="Measure archives, unmodified. Every other option is handed to pytest, as -k NAME or --ts-quick.",
    )
    run.add_argument("places", nargs="+", metavar="MAR", help="a .mar, a .tar.gz, an unpacked one, or a folder of them")
    run.add_argument("--samples", metavar="PLACE", help="requests to send: a file, a folder of files, or a .jsonl")
    run.add_argument("--answers", metavar="FILE", help="expected answers (tsperf record-answers)")
    run.add_argument("--python", metavar="VENV", help="serve with the TorchServe of this environment")
    run.add_argument("--save", default="tsperf", metavar="NAME", help="name of the saved run (default: tsperf)")
    run.add_argument("--report", default="report", metavar="DIR", help="folder of the report (default: report)")
    run.add_argument(
        "--no-capacity",
        action="store_true",
        help="leave the search for the highest rate out, which takes minutes",
    )
    run.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    """Replace this process by pytest's: Ctrl-C and the exit status are pytest's own."""
    devices = ["cpu", *(["gpu"] if environment.gpus()[0] else [])]
    marks = " or ".join(devices if given.no_capacity else [*devices, "capacity"])
    command = [sys.executable, "-m", "pytest", f"--benchmark-save={given.save}", f"--ts-report={given.report}"]
    command += [f"--ts-mar={place}" for place in given.places]
    named = (("samples", given.samples), ("answers", given.answers), ("python", given.python))
    command += [f"--ts-{name}={value}" for name, value in named if value]
    command += ["-m", marks, *given.rest]
    os.execv(sys.executable, command)  # noqa: S606 - a list, no shell
    return 0


def _add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    recover = commands.add_parser(
        "recover",
        allow_abbrev=False,
        help="save the runs of a session that did not come to its end, from its journal",
        description="Save the runs in a journal as their session would have. Run it where the session ran; every other "
        "option is handed to pytest, as --ts-report=DIR or the paths of tests.",
    )
    recover.add_argument("journal", type=Path, metavar="JOURNAL", help="a file of .benchmarks/journal/")
    recover.add_argument(
        "--save", default="recovered", metavar="NAME", help="name of the saved run (default: recovered)"
    )
    recover.set_defaults(run=_recover)


def _recover(given: argparse.Namespace) -> int:
    """Replace this process by pytest's, which replays the journal through the same tests."""
    from pytest_torchserve.report.recovery import Recovery  # noqa: PLC0415 - only where it is used

    found = Recovery.of(given.journal)
    command = [sys.executable, "-m", "pytest", f"--ts-recover={given.journal}", f"--benchmark-save={given.save}"]
    command += ["--benchmark-save-data", *found.options, *given.rest]
    os.execv(sys.executable, command)  # noqa: S606 - a list, no shell
    return 0


def _add_record(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    record = commands.add_parser("record-answers", help="ask a trusted archive, and write its answers to a file")
    record.add_argument("place", type=Path, metavar="MAR", help="the archive to trust")
    record.add_argument("--samples", type=Path, required=True, metavar="PLACE", help="the requests to send")
    record.add_argument("--python", type=Path, metavar="VENV", help="serve with the TorchServe of this environment")
    record.add_argument("-o", "--output", type=Path, default=Path("answers.json"), help="(default: answers.json)")
    record.set_defaults(run=_record)


def _record(given: argparse.Namespace) -> int:
    """Write the answers of an archive; return 1 where some change from call to call and could not be recorded."""
    from pytest_torchserve.session import record_answers  # noqa: PLC0415 - only where it is used
    from pytest_torchserve.torchserve import interpreter  # noqa: PLC0415 - likewise

    python = interpreter.find(given.python, "--python") if given.python else None
    recorded, changed = record_answers.record(given.place, given.samples, given.output, python)
    sys.stdout.write(f"{given.output}: {recorded} answers\n")
    for words in changed:
        sys.stdout.write(f"not recorded, changed when asked again: {words}\n")
    return int(bool(changed))


def _add_new(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    new = commands.add_parser("new", help="write a folder for a model of your own, from a template that runs as it is")
    new.add_argument("name", metavar="NAME", help="the model's name, and the folder's")
    new.set_defaults(run=_new)


def _new(given: argparse.Namespace) -> int:
    """Write conftest.py, handler.py and requests.jsonl into a new folder."""
    from pytest_torchserve import suite  # noqa: PLC0415 - only where it is used

    folder = suite.write_template(given.name)
    sys.stdout.write(f"{folder}/ is ready: cd {folder} && pytest --ts-suite -m cpu --ts-quick\n")
    return 0


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    again = commands.add_parser("report", help="make a report from saved runs")
    again.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help=".benchmarks/**/*.json, or a journal (*.jsonl)"
    )
    again.add_argument("-o", "--output", type=Path, default=Path("report"), help="folder (default: report)")
    again.set_defaults(run=_report)


def _report(given: argparse.Namespace) -> int:
    """Write one page of all these runs; the trend covers the runs of one environment."""
    document = reader.read(given.runs)
    saved = [path for path in given.runs if path.suffix == ".json"]
    document.history = history.load(saved, document.environment, document.runs)
    sys.stdout.write(f"{write_page(document, given.output)}\n")
    return 0


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    look = commands.add_parser("doctor", help="what the suite finds on this machine, and what would spoil its figures")
    look.add_argument("--data", type=Path, default=None, help="a folder of samples and weights (default: TS_DATA)")
    look.set_defaults(run=_doctor)


def _doctor(given: argparse.Namespace) -> int:
    """Print the findings; return 1 where something would make figures unreliable or sessions fail."""
    findings = doctor.examine(given.data)
    for finding in findings:
        sys.stdout.write(f"{finding.mark} {finding.what:20} {finding.found}\n")
        if finding.advice:
            sys.stdout.write(f"  {'':20} → {finding.advice}\n")
    return int(any(finding.advice for finding in findings))
