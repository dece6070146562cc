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

_BEFORE_OTHERS = 10


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

    Collecting garbage takes the longer the more responses are kept, and there are no cycles in them. A `punctual`
    sender, of an open loop, also goes before others where it is allowed to (root is): it needs little of the
    processor, but at once. A closed loop competes as anyone does.
    """
    collecting, usual = gc.isenabled(), os.getpriority(os.PRIO_PROCESS, 0)
    gc.disable()
    if punctual:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, usual - _BEFORE_OTHERS)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, usual)
        if collecting:
            gc.enable()


def allow_connections() -> None:
    """As many open files as the system lets us have: an open loop against a slow server needs many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
