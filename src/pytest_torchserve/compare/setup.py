"""What the comparisons of a session are made with."""

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
    """What a comparison is made with.

    Attributes:
        baseline: what candidates are held against.
        weights, data: where the weights of a baseline that is a revision come from (`inputs`).
        store: the session's model store.
        server: settings of the session's server.
        baseline_server: settings of the baseline's server where it has one of its own; None for the same ones.
        keep: whether that server's folder is left behind in any case.
    """

    baseline: Baseline
    weights: weights.Mode
    data: Path | None
    store: Path
    server: ServerSettings
    baseline_server: ServerSettings | None = None
    keep: bool = False
