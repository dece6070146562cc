"""The hook by which a repository names its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.model import Model


@pytest.hookspec
def pytest_torchserve_models(config: pytest.Config) -> Sequence[Model]:  # type: ignore[empty-body]
    """Return the models to serve, in the order of the tables. Implement this hook in conftest.py."""
