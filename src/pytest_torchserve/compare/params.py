"""What one comparison is told, and how many samples it wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.measure.context import Context

FEWEST_PAIRS = 2

WANTED_PAIRS = 20
"""A cell may take twice its budget to have so many, over all of its processes."""

WANTED_ROUNDS = 5
"""Of processes, likewise."""

STRETCH = 2.0


@dataclass(frozen=True, slots=True)
class ComparisonParams:
    """What one comparison is told.

    Attributes:
        deployment: what is compared.
        baseline: what the candidate is held against, in the user's words.
        context: what every measurement is given.
        differs: which settings of the process made one process impossible; '' for other reasons.
    """

    deployment: Deployment
    baseline: str
    context: Context
    differs: str = ""
