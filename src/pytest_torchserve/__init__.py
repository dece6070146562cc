"""Performance suite for models served with TorchServe.

The public names are those that a repository's `conftest.py` needs to say what it serves, and a test of its own to
use what was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_torchserve.deployment import Batching
from pytest_torchserve.model import Model, Sample, Weights
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from pytest_torchserve.measure.run import Run

__all__ = ["Batching", "Model", "Phase", "Run", "Sample", "Weights"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load what only a session that measures needs when it is asked for."""
    if name != "Run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_torchserve.measure.run import Run  # noqa: PLC0415 - see above

    return Run
