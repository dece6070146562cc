"""A load sent by many processes, on this machine or on others, through Locust.

`LocustEngine` is imported on first access: the master and the workers import this package too, and Locust must
replace the standard library's sockets before any other module has imported them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.locust.engine import LocustEngine

__all__ = ["LocustEngine"]


def __getattr__(name: str) -> type[LocustEngine]:
    if name != "LocustEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_torchserve.loadgen.locust.engine import LocustEngine  # noqa: PLC0415 - see above

    return LocustEngine
