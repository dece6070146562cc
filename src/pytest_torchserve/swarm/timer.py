"""Waiting for a moment in gevent, to the tenth of a millisecond."""

from __future__ import annotations

import ctypes
import os
import time

import gevent
from gevent.hub import get_hub

_TIMER_ABSTIME = 1
_READ = 1


class _Setting(ctypes.Structure):
    """`struct itimerspec` of timerfd_settime(2): repeat every, first at."""

    _fields_ = [
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    ]


class Timer:
    """The kernel's timer on `CLOCK_MONOTONIC`, for one waiting greenlet.

    gevent's own (libev on epoll) counts whole milliseconds, as asyncio's does: see `clock.MonotonicClock`.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._readable = get_hub().loop.io(self._timer, _READ)

    def wait_until(self, due_ns: int) -> None:
        """Return at `due_ns`; when that has passed, once the others have had their turn."""
        if due_ns <= time.monotonic_ns():
            gevent.sleep(0)
            return
        at_s, at_ns = divmod(due_ns, 1_000_000_000)
        # Setting it anew also makes it unreadable again, so that nothing needs to be read from it.
        self._libc.timerfd_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(_Setting(0, 0, at_s, at_ns)), None)
        get_hub().wait(self._readable)

    def close(self) -> None:
        """Give the descriptor back."""
        self._readable.close()
        os.close(self._timer)
