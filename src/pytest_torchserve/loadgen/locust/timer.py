"""A timer for gevent with an accuracy of a tenth of a millisecond."""

from __future__ import annotations

import time

import gevent
from gevent.hub import get_hub

from pytest_torchserve.loadgen.clock import KernelTimer

_READ = 1


class Timer:
    """A kernel timer for one waiting greenlet; gevent's own timer counts whole milliseconds."""

    def __init__(self) -> None:
        self._timer = KernelTimer()
        self._readable = get_hub().loop.io(self._timer.fd, _READ)

    def wait_until(self, due_ns: int) -> None:
        """Return at `due_ns`; if that is past, once other greenlets have had their turn."""
        if due_ns <= time.monotonic_ns():
            gevent.sleep(0)
            return
        # Setting the timer also makes its descriptor unreadable again, so that nothing needs to be read.
        self._timer.set(due_ns)
        get_hub().wait(self._readable)

    def close(self) -> None:
        """Close the descriptor."""
        self._readable.close()
        self._timer.close()
