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


def test_an_error_of_any_kind_is_remembered():
    """A bug is one failure as well, not one attempt for each test; an interruption is not remembered."""
    memo, calls = Memo(), []

    def broken(error):
        calls.append(error)
        raise error

    for error in (RuntimeError, KeyboardInterrupt):
        for _ in range(2):
            with pytest.raises(error):
                memo(error, lambda error=error: broken(error))
    assert calls == [RuntimeError, KeyboardInterrupt, KeyboardInterrupt]
