"""What the sender needs of its process: an event loop, open files, and to be left alone."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

_LOWEST_REAL_TIME = 1


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which halves the sender's own cost, else asyncio's."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def undisturbed(*, punctual: bool) -> Iterator[None]:
    """Keep away from the sender what would make its requests late.

    A `punctual` sender, of an open loop, also goes before others. A closed loop competes as anyone does.
    """
    with without_collecting(), before_others() if punctual else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no garbage: it takes the longer the more responses are kept, and there are no cycles in them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def before_others() -> Iterator[None]:
    """Let this thread have the processor as soon as it wants it, where that is allowed (to root it is).

    Where a model computes on every core, a waking thread waits for the end of another's time slice, some
    milliseconds; one of the real-time class does not. It needs little: it sleeps until a request is due.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    allowed = True
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_LOWEST_REAL_TIME))
    except PermissionError:
        allowed = False
    try:
        yield
    finally:
        if allowed:
            os.sched_setscheduler(0, policy, parameters)


def allow_connections() -> None:
    """As many open files as the system lets us have: an open loop against a slow server needs many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
