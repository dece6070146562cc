"""The models that this repository serves: those of the catalogue, on every device, at the usual batch sizes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from models.catalogue import DENSENET161, NOOP, RESNET56, VARIANTS

if TYPE_CHECKING:
    import pytest

    from pytest_torchserve import Model


def pytest_torchserve_models(config: pytest.Config) -> list[Model]:  # noqa: ARG001 - the hook's shape
    """Return the models in the order of the tables: noop first."""
    return [NOOP, RESNET56, DENSENET161, *VARIANTS]
