"""The parameters of one comparison, and the number of samples that it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare.early_stop import precise
from pytest_torchserve.measure.run import Paired

if TYPE_CHECKING:
    from pytest_torchserve.compare.arms import Arms
    from pytest_torchserve.compare.early_stop import EarlyStop
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
        early: the looks at the cell before its time is over; None where it takes its time.
        differs: why one process could not hold both arms, such as the settings of the process that differ; '' where
            one process was not tried.
    """

    deployment: Deployment
    baseline: str
    context: Context
    differs: str = ""
    early: EarlyStop | None = None

    def decided(self, paired: Paired, processes: int) -> bool:
        """Return whether the cell may end: its samples so far decide all that gates."""
        return self.early is not None and self.early.decided(paired, processes)

    def told_all(self, arms: Arms, process: int) -> bool:
        """Return whether more pairs of a process that holds both arms would tell nothing."""
        if self.early is None:
            return False
        paired = Paired(self.baseline, arms.pairs_of(process), probe_cost_s=arms.probe_cost_s)
        return precise(paired, process, self.early.min_effect)

    def looked_at(self, paired: Paired) -> Paired:
        """Return the pairs with the share of the error that the looks have left."""
        return paired if self.early is None else replace(paired, error_share=self.early.left)
