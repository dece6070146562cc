"""Resident memory of processes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def resident_bytes(pids: Sequence[int]) -> int | None:
    """Return the resident memory of the largest of these processes; None if none can be read."""
    import psutil  # noqa: PLC0415 - not needed to collect tests

    sizes = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            sizes.append(psutil.Process(pid).memory_info().rss)
    return max(sizes, default=None)
