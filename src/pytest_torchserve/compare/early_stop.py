"""How a compared cell ends early: when it is decided; and a process, when more of its pairs would tell no more.

Who looks at a 95% interval until it decides is wrong more often than in one case of twenty. So the error that a cell's
intervals may make is spent: each look takes a quarter of what is left of it, and the last interval has the rest. By
Bonferroni's inequality all looks together make no more error than a single one would, whatever the samples are and
however many looks there were. (Spending is after Lan and DeMets, Biometrika 70 (1983) 659–663; their bounds are
narrower, for they assume to know how the looks depend on each other.)

All pairs of a process share its bias (`intervals.BIAS`): once a process's own median is known far better than that,
more pairs only seem to tell more. That depends on how the pairs scatter, not on their ratio, and costs no error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve.compare import verdict
from pytest_torchserve.compare.intervals import BIAS, pair_variance

if TYPE_CHECKING:
    from pytest_torchserve.measure.run import Paired

LOOK_SHARE = 0.25
"""The part of the error left that one look takes."""

FIRST_LOOK = {False: 5, True: 6}
"""The processes at the first look, by whether each arm has its own: of fewer nobody can say how far they differ.
With a bias of 1% and a look at three, 8% of simulated cells were wrong at 95%; with one at five, as few as without."""

GROWTH = 1.6
"""The next look comes when there are so many times the processes: few looks cost little of the error."""


PRECISE = 0.5
"""A process has told all it can when its median is known to this part of `intervals.BIAS`: its variance is then four
fifths bias, and endless pairs would make an interval a tenth narrower."""

FEWEST_PAIRS = 20
"""The pairs from which quartiles say how far pairs scatter."""


def precise(paired: Paired, process: int, min_effect: float) -> bool:
    """Return whether a process has told all it can about every gating phase.

    A phase of which the probe itself takes more than the minimum effect is judged by larger changes, and needs to be
    known less well in proportion.
    """
    for phase in verdict.gating(paired):
        ratios = [math.log(new / old) for old, new in paired.pairs[phase].get(process, ()) if old and new]
        wanted = PRECISE * BIAS * max(1.0, verdict.probe_cost(paired, phase) / min_effect)
        if len(ratios) < FEWEST_PAIRS or pair_variance([ratios])[0] > wanted**2:
            return False
    return True


@dataclass(slots=True)
class EarlyStop:
    """The looks at one cell.

    Attributes:
        error: the error that each gating interval of the cell may make, over all looks.
        min_effect: changes below this are ignored, as a fraction.
        left: the share of the error that is left for the next look, or was for the one that decided.
    """

    error: float
    min_effect: float
    left: float = 1.0
    _next: float = 0.0

    def decided(self, paired: Paired, processes: int) -> bool:
        """Return whether every gating metric is decided; False where it is not time to look.

        Args:
            paired: the pairs or blocks so far.
            processes: the number of processes, or of rounds of processes, that gave them.
        """
        due = max(self._next, FIRST_LOOK[paired.by_process])
        if processes < due:
            return False
        self._next = due * GROWTH
        share = LOOK_SHARE * self.left
        if verdict.decides(paired, self.min_effect, 1 - self.error * share):
            self.left = share
            return True
        self.left -= share
        return False
