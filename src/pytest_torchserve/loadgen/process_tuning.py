"""Settings of the client's process: event loop, open files, garbage collection and priority."""

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
    """Return uvloop's loop factory, which halves the client's own cost; without uvloop None, for asyncio's."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def undisturbed(*, punctual: bool) -> Iterator[None]:
    """Prevent delays of the client's requests.

    A `punctual` client, in an open loop, also gets real-time priority. In a closed loop the priority stays normal.
    """
    with without_collecting(), before_others() if punctual else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Stop garbage collection, which takes longer the more responses are kept; responses contain no cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def before_others() -> Iterator[None]:
    """Give this thread real-time priority, where that is allowed (to root it is).

    Where a model computes on every core, a waking thread waits for the end of another thread's time slice, some
    milliseconds; a thread of the real-time class does not. This thread needs little processor time, as it sleeps
    until a request is due.
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
    """Raise the limit of open files to the maximum: an open loop against a slow server needs many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
