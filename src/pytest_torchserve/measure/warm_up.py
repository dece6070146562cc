"""Decide when a worker, and the server as a whole, is warm: the first batches are slow and do not count.

A JVM compiles for seconds what it runs often, a worker's memory grows for some batches. MSER finds the end of that in a
series: it cuts off the beginning so that the standard error of what is left is smallest, over means of five values
(White, An effective truncation heuristic for bias reduction in simulation output, Simulation 69 (1997) 323–334; White,
Cobb and Spratt, WSC 2000, for MSER-5). Here it may cut off the first half at most, and a series of which it would cut
all of that is not steady yet. It is given logarithms: one disturbed batch is no beginning.

Of full batches the beginning is cut afterwards; before a load, batches are sent until they are steady.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM_UP_BATCHES = 3
WARM_UP_S = 1.0
BUDGET_S = 10.0
"""The longest warm-up of a server."""

_FEWEST = 20
"""Batches that can tell. Where a second has fewer, each is so long that the JVM's part in it is small."""

_FIVE = 5
_MANY = 50
_LOOK_AGAIN = 1.2
WarmUpRecord = dict[str, float | bool | None]

_SURE = 0.4
"""A cut beyond this share of the series is at the end of what may be cut."""


@dataclass(slots=True)
class WarmUp:
    """The state of one process's warm-up.

    Attributes:
        batches: number of batches (or pairs of batches) that the process has answered.
        spent_s: seconds that these batches took.
    """

    batches: int = 0
    spent_s: float = 0.0

    def add(self, batch_s: float) -> None:
        """Count one batch."""
        self.batches += 1
        self.spent_s += batch_s

    @property
    def done(self) -> bool:
        """True when the process is warm: after `WARM_UP_BATCHES`, or as soon as its batches took `WARM_UP_S`."""
        return self.batches >= WARM_UP_BATCHES or (self.batches > 0 and self.spent_s >= WARM_UP_S)


@dataclass(slots=True)
class ServerWarmUp:
    """The warm-up of the server as a whole.

    Attributes:
        budget_s: the longest warm-up.
        spent_s: seconds that its batches took.
        steady: whether the batches are stationary; None where too few can tell.
        answered: whether the server answered at all.
    """

    budget_s: float = BUDGET_S
    spent_s: float = 0.0
    steady: bool | None = None
    answered: bool = True
    _batches_s: list[float] = field(default_factory=list)
    _look_at: int = _FEWEST

    def report(self) -> WarmUpRecord:
        """Return what was cut, and whether the server was steady when it ended."""
        return record(self.batches, self.spent_s, self.steady)

    @property
    def batches(self) -> int:
        """The number of batches."""
        return len(self._batches_s)

    def add(self, batch_s: float) -> None:
        """Count one batch, and look from time to time whether the series is steady."""
        self._batches_s.append(batch_s)
        self.spent_s += batch_s
        if self.batches >= self._look_at:
            self._look_at = math.ceil(_LOOK_AGAIN * self.batches)
            _, self.steady = truncation(self._batches_s)

    @property
    def done(self) -> bool:
        """True when the server is warm, or its budget spent; after `WARM_UP_BATCHES` and `WARM_UP_S` at least."""
        if self.batches < WARM_UP_BATCHES or self.spent_s < WARM_UP_S:
            return False
        return self.steady is not False or self.spent_s >= self.budget_s


def record(batches: int, seconds: float, steady: bool | None) -> WarmUpRecord:  # noqa: FBT001 - of three values
    """Return a warm-up as a run's record has it."""
    return {"batches": batches, "seconds": round(seconds, 3), "steady": steady}


def truncation(values_s: Sequence[float]) -> tuple[int, bool]:
    """Return how many positive values MSER cuts off the beginning of a series, and whether the rest is steady."""
    import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected

    size = _FIVE if len(values_s) >= _MANY else 1
    count = len(values_s) // size
    logs = np.log(np.maximum(values_s[-count * size :], 1e-9)).reshape(count, size).mean(axis=1)[::-1]
    logs -= logs.mean()
    left = np.arange(1, count + 1)
    error = ((np.cumsum(logs**2) - np.cumsum(logs) ** 2 / left) / left**2)[math.ceil(count / 2) - 1 :]
    kept = int(np.flatnonzero(error <= error.min() + 1e-12)[-1]) + math.ceil(count / 2)  # of equal ones the most
    return (count - kept) * size, count - kept <= _SURE * count
