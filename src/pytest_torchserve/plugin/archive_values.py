"""The values of the options for archives of the user's own: which, with what requests, answers and environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve._util import paths, plain_numbers
from pytest_torchserve.answers import Tolerance
from pytest_torchserve.errors import OptionError
from pytest_torchserve.torchserve import interpreter, own_models

if TYPE_CHECKING:
    import pytest


def samples(text: str | None) -> Path | None:
    """Return the requests to send, a file or a folder that exists."""
    if text and (why := paths.why_absent(Path(text))):
        raise OptionError(
            wanted=f"requests to send at {paths.shown(text)} (--ts-samples)",
            found=why,
            do="name a file, a folder of files, or a .jsonl",
        )
    return Path(text).absolute() if text else None


def of_archives(config: pytest.Config) -> dict[str, Any]:
    """Return what the options say of archives of the user's own.

    Raises:
        OptionError: an archive, requests or answers do not exist, or an option for archives is given without one.
    """
    archives = tuple(own_models.find([Path(place) for place in config.getoption("ts_mar") or ()]))
    given = [name for name in ("answers", "tolerance") if config.getoption(f"ts_{name}")]
    if given and not archives:
        raise OptionError(
            wanted=f"--ts-mar with --ts-{given[0]}", found="no --ts-mar", do="add --ts-mar=FILE, or leave it out"
        )
    if archives and config.getoption("ts_url"):
        raise OptionError(wanted="--ts-mar or --ts-url", found="both", do="leave one out")
    answers = config.getoption("ts_answers")
    if answers and (why := paths.why_absent(Path(answers))):
        raise OptionError(
            wanted=f"a file of answers at {paths.shown(answers)} (--ts-answers)",
            found=why,
            do="make it: tsperf record-answers",
        )
    if answers and len(archives) > 1 and not Path(answers).is_dir():
        raise OptionError(
            wanted=f"answers for {len(archives)} archives (--ts-answers)",
            found=f"one file, {answers}",
            do="name a folder that holds NAME.json for each archive NAME.mar",
        )
    return {
        "archives": archives,
        "samples": samples(config.getoption("ts_samples")),
        "answers": paths.resolved(answers) if answers else None,
        "tolerance": tolerance(config.getoption("ts_tolerance")),
        "python": interpreter.find(Path(python), "--ts-python") if (python := config.getoption("ts_python")) else None,
    }


def tolerance(text: str | None) -> Tolerance | None:
    """Read `0.01/0.001` or `0.01` as the absolute and the relative tolerance of numbers."""
    if not text:
        return None
    parts = text.split("/")
    try:
        numbers = [plain_numbers.number(part) for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2:  # noqa: PLR2004 - ABS/REL
        raise OptionError(
            wanted="--ts-tolerance as ABSOLUTE or ABSOLUTE/RELATIVE, from 0", found=repr(text), do="write 0.01/0.001"
        )
    return Tolerance(*numbers)
