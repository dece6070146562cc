"""What a session is told: by the options (`Config`) and by the collected tests (`Expected`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_torchserve.deployment import Deployment, Device
    from pytest_torchserve.inputs import weights
    from pytest_torchserve.measure import Effort
    from pytest_torchserve.model import Model
    from pytest_torchserve.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Config:
    """What the options say.

    Attributes:
        weights, data: where weights and samples come from (`inputs`).
        batch_sizes: the handle cells' batch sizes.
        effort: how much time a measurement may take.
        server: the user's server settings.
        store: the model store.
        journal: the journal's file.
        keep: whether the server's folder is left behind in any case.
        require_gpu: whether a missing GPU is a failure.
    """

    weights: weights.Mode
    data: Path | None
    batch_sizes: tuple[int, ...]
    effort: Effort
    server: ServerSettings
    store: Path
    journal: Path
    keep: bool = False
    require_gpu: bool = False


@dataclass(slots=True)
class Expected:
    """What the collected tests will ask for, so that nothing is prepared in vain or kept too long."""

    models: dict[str, Model] = field(default_factory=dict)
    archived: dict[tuple[str, Device], Deployment] = field(default_factory=dict)
    deployments: Counter[str] = field(default_factory=Counter)
    cells: int = 0
