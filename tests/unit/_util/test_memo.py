"""`Memo`: each value is made once, and each failure happens once."""

from __future__ import annotations

import pytest

from pytest_torchserve._util.memo import Memo
from pytest_torchserve.errors import InputError


def test_made_once_for_each_key():
    """The second call with a key returns the value of the first call; another key has another value."""
    memo, made = Memo(), []

    def make():
        made.append(object())
        return made[-1]

    assert memo("a", make) is memo("a", make)
    assert memo("b", make) is made[1]
    assert len(made) == 2


def test_a_failure_is_remembered():
    """A failure is raised again without another attempt, and for its own key only."""
    memo, tries = Memo(), []

    def fail():
        tries.append(1)
        raise InputError(wanted="x", found="y", do="z")

    for _ in range(2):
        with pytest.raises(InputError):
            memo("a", fail)
    assert len(tries) == 1
    assert memo("b", lambda: 3) == 3


def test_what_is_no_error_of_ours_is_not_remembered():
    """Only a `SuiteError` is remembered: a bug in the suite does not mean that the value cannot be made."""
    memo = Memo()

    def broken():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        memo("a", broken)
    assert memo("a", lambda: 3) == 3
