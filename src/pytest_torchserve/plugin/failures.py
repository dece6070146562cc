"""Failures as pytest shows them: each cause in full once, with the server's log where that may help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_torchserve.errors import (
    ArchiveError,
    InputError,
    OptionError,
    ServerDiedError,
    SuiteError,
    WorkerStartError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_TOLD_KEY: pytest.StashKey[dict[str, str]] = pytest.StashKey()
"""By message, the test that failed with it first."""

_WITHOUT_LOG = (ArchiveError, InputError, OptionError, ServerDiedError, WorkerStartError)
"""The server's log does not explain these, or the message holds its essence."""


class Failed(pytest.fail.Exception):  # type: ignore[name-defined, misc]  # pytest does not type it
    """A failed test whose message says everything; a repeated message is replaced by the name of the first test.

    Args:
        message: the cause, in words.
        log: whether the end of the server's log may help.
    """

    __module__ = "builtins"  # as pytest's own: its summary shows the class with its module

    def __init__(self, message: str, *, log: bool) -> None:
        super().__init__(message, pytrace=False)
        self.log = log


def fail(message: str, *, log: bool = True) -> NoReturn:
    """Fail the test with this message alone."""
    raise Failed(message, log=log)


def or_fail(call: Callable[[], T]) -> T:
    """Return the call's result; where the call raises a `SuiteError`, fail the test with the error's message alone."""
    try:
        return call()
    except SuiteError as error:
        message, log = str(error), not isinstance(error, _WITHOUT_LOG)
    fail(message, log=log)  # outside the `except`: else the message is shown twice


def shorten(item: pytest.Item, call: pytest.CallInfo[Any]) -> bool:
    """Refer to the first test that failed with the same message; return whether the server's log belongs to this one.

    A model that cannot be measured fails each of its phases: the cause is told once, not twenty times.
    """
    error = call.excinfo.value if call.excinfo is not None else None
    if not isinstance(error, Failed):
        return True
    told = item.config.stash.setdefault(_TOLD_KEY, {})
    first = told.setdefault(str(error.msg), item.nodeid)
    if first == item.nodeid:
        return error.log
    error.msg = f"for the same reason as {first}"
    return False


def place_skip(item: pytest.Item, report: pytest.TestReport) -> None:
    """Name the test as the place of a skip, not the line of the plugin that skipped it."""
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        file = item.nodeid.partition("::")[0]  # of a test of the suite, wherever the package lies
        line = (item.location[1] or 0) + 1
        report.longrepr = (str(item.config.invocation_params.dir / file), line, report.longrepr[2])
