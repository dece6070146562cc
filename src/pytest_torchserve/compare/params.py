"""The parameters of one comparison, and the number of samples that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.measure.context import Context

FEWEST_PAIRS = 2

WANTED_PAIRS = 20
"""A cell may take twice its budget to reach this number of pairs, over all of its processes."""

WANTED_ROUNDS = 5
"""A cell may take twice its budget to reach this number of rounds of processes."""

STRETCH = 2.0


@dataclass(frozen=True, slots=True)
class ComparisonParams:
    """The parameters of one comparison.

    Attributes:
        deployment: the deployment that is compared.
        baseline: the baseline that the candidate is compared with, in the user's words.
        context: the context of every measurement.
        differs: why one process could not hold both arms, such as the settings of the process that differ; '' where
            one process was not tried.
    """

    deployment: Deployment
    baseline: str
    context: Context
    differs: str = ""
