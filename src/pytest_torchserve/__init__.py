"""Performance suite for models served with TorchServe.

A repository's `conftest.py` uses the public names to define the models to serve; the repository's own tests use them
to read what was measured.
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
    """Import `Run` at its first use: only a session that measures needs it."""
    if name != "Run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_torchserve.measure.run import Run  # noqa: PLC0415 - see above

    return Run
