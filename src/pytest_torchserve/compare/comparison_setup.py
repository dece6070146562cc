"""The settings of a session's comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_torchserve.compare.baseline import Baseline
    from pytest_torchserve.inputs import weights
    from pytest_torchserve.torchserve.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class ComparisonSetup:
    """The settings of a session's comparisons.

    Attributes:
        baseline: the baseline that candidates are compared with.
        weights, data: sources of the weights for a baseline that is a revision (`inputs`).
        store: the session's model store.
        server: settings of the session's server.
        baseline_server: settings of the baseline's server where it has one of its own; None for the session's settings.
        keep: whether the folder of the baseline's own server is left behind in any case.
    """

    baseline: Baseline
    weights: weights.Mode
    data: Path | None
    store: Path
    server: ServerSettings
    baseline_server: ServerSettings | None = None
    keep: bool = False
