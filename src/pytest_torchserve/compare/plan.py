"""The time of all comparisons of a session (`--ts-baseline-minutes`), given to the cells that it decides."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

from pytest_torchserve.compare.early_stop import EarlyStop

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST = 0.25
"""The part of an equal share that a cell gets in any case."""

MARGIN = 1.25
"""How many times the expected time a cell gets: what it does not need goes to the later ones."""


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier comparison of a cell.

    Attributes:
        spent_s: how long it took.
        half_width: half the width of its widest gating interval, as a log-ratio; infinite where one had no interval.
        confidence: that interval's.
        detectable: the largest change that a gating metric would have hidden, as a fraction; infinite likewise.
    """

    spent_s: float
    half_width: float
    confidence: float
    detectable: float

    def needed_s(self, min_effect: float, confidence: float) -> float:
        """Return how long it would take to call unchanged code unchanged: until the half-width is the minimum effect.

        A half-width shrinks with the square root of the time, and is proportional to the quantile of its confidence.
        """
        wider = _quantile(confidence) / _quantile(self.confidence)
        return self.spent_s * (wider * self.half_width / math.log1p(min_effect)) ** 2

    def detectable_within(self, seconds: float, min_effect: float, confidence: float) -> float:
        """Return the change that a comparison of so many seconds is expected to detect, as a fraction."""
        wider = _quantile(confidence) / _quantile(self.confidence)
        return max(min_effect, self.detectable * wider * math.sqrt(self.spent_s / seconds))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@dataclass(slots=True)
class Plan:
    """The cells that a session compares, and the time for all of them.

    Attributes:
        seconds: for all cells together, worker starts included.
        past: by cell, in the order of the session, an earlier comparison; None where there was none.
        min_effect: changes below this are ignored, as a fraction.
        error: the error that each gating interval of the session may make.
        spent_s: the time that comparisons have taken so far.
    """

    seconds: float
    past: Mapping[str, Past | None]
    min_effect: float
    error: float
    spent_s: float = 0.0
    _ended: set[str] = field(default_factory=set)

    def shares(self) -> dict[str, float]:
        """Return, by cell that has not ended, the seconds that it may take.

        Every cell gets a quarter of an equal share. The rest goes first to the cells that it can decide, those that
        need the least before others; what is then left is shared equally by those that it cannot. A cell of which
        nothing is known is taken to need an equal share.
        """
        cells = [cell for cell in self.past if cell not in self._ended]
        if not cells:
            return {}
        left_s = max(self.seconds - self.spent_s, 0.0)
        equal_s = left_s / len(cells)
        found, pool_s = dict.fromkeys(cells, LEAST * equal_s), (1 - LEAST) * left_s
        needed_s = {cell: self._needed_s(cell, equal_s) for cell in cells}
        undecided = sorted(cells, key=needed_s.__getitem__)
        while undecided and (more_s := max(0.0, needed_s[undecided[0]] - LEAST * equal_s)) <= pool_s:
            found[undecided.pop(0)] += more_s
            pool_s -= more_s
        for cell in undecided or cells:
            found[cell] += pool_s / len(undecided or cells)
        return found

    def _needed_s(self, cell: str, equal_s: float) -> float:
        past = self.past[cell]
        return equal_s if past is None else MARGIN * past.needed_s(self.min_effect, 1 - self.error)

    def share_s(self, cell: str) -> float:
        """Return the seconds that a cell may take now, one at least, whatever earlier ones took.

        A cell that the plan does not know, or that has ended and is measured again, gets a part of what is left.
        """
        share_s = self.shares().get(cell)
        if share_s is None:
            share_s = max(0.0, self.seconds - self.spent_s) / max(1, len(self.past))
        return max(1.0, share_s)

    def ended(self, cell: str, spent_s: float) -> None:
        """Note that a cell was compared: what it did not need goes to the others."""
        self._ended.add(cell)
        self.spent_s += spent_s

    def early_stop(self) -> EarlyStop:
        """Return the looks at one cell."""
        return EarlyStop(self.error, self.min_effect)

    def _detects(self, cell: str, seconds: float) -> str:
        past = self.past[cell]
        if past is None:
            return ""
        change = past.detectable_within(seconds, self.min_effect, 1 - self.error)
        return f"  {change:6.1%}" if change <= 1 else "       –"

    def lines(self) -> list[str]:
        """Return the plan as a person reads it: each cell's seconds, and what they are expected to detect."""
        shares = self.shares()
        if not shares:
            return []
        known = sum(past is not None for past in self.past.values())
        width = max(map(len, shares))
        told = f"{known} of them compared before" if known else "none compared before, so equal shares"
        cells = "1 cell" if len(shares) == 1 else f"{len(shares)} cells"
        found = [f"comparisons: {self.seconds / 60:.3g} min for {cells}, {told} (--ts-baseline-minutes)"]
        for cell, seconds in shares.items():
            detects = self._detects(cell, max(1.0, seconds))
            found.append(f"  {cell:{width}}  {seconds:4.0f} s{detects}")
        return [*found, "  (the change that such a time is expected to detect)"] if known else found
