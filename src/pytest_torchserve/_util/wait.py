"""Waiting for a condition."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    every_s: float = 0.05,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Poll until the condition holds; return False when the deadline passes first.

    Synchronous code in pytest's process sleeps nowhere else.
    """
    deadline = clock() + timeout_s
    while not condition():
        if clock() >= deadline:
            return False
        time.sleep(every_s)
    return True
