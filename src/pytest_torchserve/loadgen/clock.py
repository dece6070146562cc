"""Monotonic clocks that wait with an accuracy of a tenth of a millisecond."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Protocol

_TIMER_ABSTIME = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Clock(Protocol):
    """A monotonic clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since an arbitrary start."""

    async def wait_until(self, due_ns: int) -> None:
        """Return at `due_ns`; if that is past, at the event loop's next turn."""


class _Interval(ctypes.Structure):
    """`struct itimerspec` of timerfd_settime(2)."""

    _fields_ = [
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    ]


class KernelTimer:
    """timerfd(2) on `CLOCK_MONOTONIC`: a file descriptor that becomes readable at a set time.

    An event loop's own timer counts whole milliseconds (epoll, and so asyncio, uvloop and gevent): at 500 requests/s
    a request would leave up to a millisecond late, or the client would have to spin. This timer is exact to some ten
    microseconds. Python has timerfd only from 3.13 on, hence the calls into the C library.

    Raises:
        OSError: the system has no timer left.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, due_ns: int) -> None:
        """Make the descriptor readable at `due_ns`, and not before; 0 for never."""
        at_s, at_ns = divmod(due_ns, 1_000_000_000)
        self._libc.timerfd_settime(self.fd, _TIMER_ABSTIME, ctypes.byref(_Interval(0, 0, at_s, at_ns)), None)

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class MonotonicClock:
    """The real clock: `CLOCK_MONOTONIC`, and a kernel timer to wait with. One waiter at a time."""

    def __init__(self) -> None:
        self._timer: KernelTimer | None = None

    def now_ns(self) -> int:
        """Return nanoseconds since boot, on Linux."""
        return time.monotonic_ns()

    async def wait_until(self, due_ns: int) -> None:
        """Sleep until `due_ns`; if that is past, until the event loop's next turn."""
        if due_ns <= time.monotonic_ns():
            await asyncio.sleep(0)  # a client that is late must still read responses
            return
        if self._timer is None:
            self._timer = KernelTimer()
        self._timer.set(due_ns)
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        loop.add_reader(self._timer.fd, woken.set_result, None)
        try:
            await woken
        finally:
            loop.remove_reader(self._timer.fd)
            self._timer.set(0)

    def __del__(self) -> None:
        if self._timer is not None:
            self._timer.close()
