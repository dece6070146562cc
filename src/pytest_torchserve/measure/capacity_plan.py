"""Choose the rates of a search for capacity, and how long each is probed.

First short probes find where the percentile crosses the goal: from the top down, since latency need not grow with the
rate (at a low one requests wait for their batch to fill), and ever nearer to saturation where the goal allows it. Then
a long probe of the highest rate that the time left can *prove* to meet the goal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

from pytest_torchserve.measure.capacity_rule import SPARE, Judged, Outcome, decidable_goal, least_sample, missed_s
from pytest_torchserve.measure.latency_curve import FULL, LatencyCurve
from pytest_torchserve.queue_percentiles import relaxation

MOST_PROBES = 16
CLOSE_ENOUGH = 1.02
"""The search ends when the goal is crossed at this many times the highest rate that was shown to meet it, or below."""

_FIRST = 0.9
"""The search begins at this utilisation: where it is easy to tell what is above and what is below."""

_GROW = 1.05
_GROW_MORE = 1.5
_FAR = 1.1
"""Beyond this many times what a closed loop made, that has told nothing."""

_ABOVE = 1.02
_WINDOW = 1.35
"""Probes down to the highest rate within the goal, divided by this, make the curve."""

_SURELY = 1.4
"""A short probe must have this many times the least sample: arrivals are random, and some do not count."""

_NEAR = 1.08
_SHORTEST_S = 5.0
_SCOUT_TIMES = 60
"""Correlation times of a short probe."""

_SCOUT_SHARE = 1 / 8
_SHORT_SHARE = 1 / 3
_PROOF_SHARE = 0.6
_SETTLING_TIMES = 3
_SETTLING_SHARE = 0.2
"""A probe starts with an empty queue: requests of so many correlation times, or this share of it, do not count."""

_KEPT = 0.99
"""The rest of the budget is for the answers that a probe waits for after its last request."""

_SLACK = 1.2
"""A rate counts as provable when this many times the usual margin fits below the goal."""

_BELOW = 0.975
"""And when it is this share of where the goal seems to be crossed, or less."""

_NEWS = 1.005
"""A rate is worth proving when it is this many times one that is proven already."""


@dataclass(slots=True)
class CapacityPlan:
    """The plan of one search, and what its probes said so far.

    Attributes:
        saturation_per_s: what a closed loop made.
        goal: the percentile that must meet the goal.
        budget_s: how long the search may take.
        spent_s: how much of that it took.
        judged: what the probe of each rate said.
        probes: number of probes.
    """

    saturation_per_s: float
    slo_s: float
    goal: float
    budget_s: float
    spent_s: float = 0.0
    judged: dict[float, Judged] = field(default_factory=dict)
    probes: int = 0
    _told_per_s: float = 0.0
    _proving: float = 0.0
    _unproven: float = math.inf

    @classmethod
    def of(cls, saturation_per_s: float, slo_s: float, budget_s: float, spent_s: float) -> Self:
        """Return the plan of a search; its goal is the highest percentile that one probe can decide."""
        goal = decidable_goal(_FIRST * saturation_per_s * budget_s * _SCOUT_SHARE)
        return cls(saturation_per_s, slo_s, goal, budget_s, spent_s)

    def __post_init__(self) -> None:
        """Keep what the closed loop told: `saturation_per_s` may grow."""
        self._told_per_s = self.saturation_per_s

    def add(self, rate_per_s: float, judged: Judged, spent_s: float) -> None:
        """Take the result of a probe.

        A closed loop of too few users tells too little: what is answered within the goal is no saturation.
        """
        self.judged[rate_per_s] = judged
        self.spent_s += spent_s
        self.probes += 1
        if judged.value_s <= self.slo_s:
            self.saturation_per_s = max(self.saturation_per_s, rate_per_s * _ABOVE)
        if judged.outcome is not Outcome.MEETS and rate_per_s == self._proving:
            self._unproven = rate_per_s

    @property
    def meets(self) -> float | None:
        """The highest rate that was shown to meet the goal."""
        return max((rate for rate, judged in self.judged.items() if judged.outcome is Outcome.MEETS), default=None)

    @property
    def misses(self) -> float | None:
        """The lowest rate above `meets` whose percentile was over the goal."""
        over = [rate for rate, judged in self.judged.items() if judged.value_s > self.slo_s]
        return min((rate for rate in over if self.meets is None or rate > self.meets), default=None)

    @property
    def crossing(self) -> float | None:
        """The rate where the percentile crosses the goal, read off the curve; None where no probe was over the goal.

        It is the best guess of the capacity, and was not shown to meet the goal.
        """
        fits, over = self._bracket()
        if fits is None or over is None:
            return None
        return max(self._curve(fits, over).crossing(self.slo_s), self.meets or 0.0)

    @property
    def decisive(self) -> set[float]:
        """The rates that the result rests on: the highest that meets the goal, and those beside the crossing."""
        return {rate for rate in (self.meets, *self._bracket()) if rate is not None}

    def next_probe(self) -> tuple[float, float] | None:
        """Return the next rate and how many seconds to probe it; None when the search is over."""
        if self.probes >= MOST_PROBES or self._left_s < _SHORTEST_S:
            return None
        fits, over = self._bracket()
        if fits is None:
            return self._scout(_lower(over, self.saturation_per_s))
        if over is None:
            return self._scout(self._higher(fits))
        if over / fits > _NEAR:
            return self._scout(self._between(fits, over))
        return self._proof(self._curve(fits, over))

    @property
    def _left_s(self) -> float:
        return _KEPT * self.budget_s - self.spent_s

    def _bracket(self) -> tuple[float | None, float | None]:
        """Return the highest rate whose percentile was within the goal, and the next higher one that was probed."""
        within = [rate for rate, judged in self.judged.items() if judged.value_s <= self.slo_s]
        fits = max(within, default=None)
        return fits, min((rate for rate in self.judged if fits is None or rate > fits), default=None)

    def _scout(self, rate_per_s: float) -> tuple[float, float] | None:
        """Return a short probe; None where the budget of one cannot decide."""
        least_s = _SURELY * least_sample(self.goal) / rate_per_s
        most_s = min(max(self.budget_s * _SCOUT_SHARE, least_s), self._left_s * _PROOF_SHARE)
        if most_s < least_s:
            return None
        requests = max(SPARE * least_sample(self.goal), _SCOUT_TIMES * self._relaxation(rate_per_s))
        return rate_per_s, min(max(requests / rate_per_s, most_s * _SHORT_SHARE), most_s)

    def _higher(self, fits: float) -> float:
        """Return the next rate above those within the goal: with half the room to saturation, then beyond it."""
        if fits < (FULL - 0.01) * self.saturation_per_s:
            return (fits + self.saturation_per_s) / 2
        return fits * (_GROW if fits < _FAR * self._told_per_s else _GROW_MORE)

    def _between(self, fits: float, over: float) -> float:
        """Return the rate where the goal is likely crossed, not too near to either."""
        if self.judged[over].outcome is Outcome.MISSES:
            return math.sqrt(fits * over)
        low, high = (math.log(self.judged[rate].value_s / self.slo_s) for rate in (fits, over))
        return fits + (over - fits) * min(0.75, max(0.25, -low / (high - low)))

    def _curve(self, fits: float, over: float) -> LatencyCurve:
        """Return the curve around the goal, up to the first rate over it.

        Far below, requests may be late because their batch does not fill: another curve.
        """
        near = {rate: judged for rate, judged in self.judged.items() if fits / _WINDOW <= rate <= over}
        return LatencyCurve.of(near, self.saturation_per_s)

    def _proof(self, curve: LatencyCurve) -> tuple[float, float] | None:
        """Return the highest rate that most of the time left can prove; None where that is nothing new."""
        import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected

        meets, crossing = self.meets or 0.0, curve.crossing(self.slo_s)
        if crossing <= CLOSE_ENOUGH * meets:
            return None
        # A margin shrinks with the root of the time: so long must a probe be for it to fit below the goal.
        rows = zip(curve.rates, curve.spreads_s, strict=True)
        of_one_s = [missed_s(spread, self.goal, rate / self._relaxation(rate)) for rate, spread in rows]
        room_s = np.maximum(self.slo_s - curve.values_s, 1e-9) / _SLACK
        seconds = np.maximum((of_one_s / room_s) ** 2, SPARE * least_sample(self.goal) / curve.rates)
        seconds = np.maximum(seconds, _SHORTEST_S)
        highest, most_s = max(crossing * _BELOW, math.sqrt(meets * crossing)), self._left_s * _PROOF_SHARE
        if meets:
            most_s = self._left_s
        # Not again what could not be proven: of enough tries one succeeds by luck.
        highest = min(highest, self._unproven / _NEWS)
        provable = np.flatnonzero((seconds <= most_s) & (curve.rates <= highest))
        if len(provable):
            self._proving = float(curve.rates[provable[-1]])
            return (self._proving, float(seconds[provable[-1]])) if self._proving > meets * _NEWS else None
        # Nothing that was probed leaves room for a margin: further below there may be some.
        lowest = float(curve.rates[0])
        if not meets:
            return self._scout(_lower(lowest, self.saturation_per_s))
        return self._scout(math.sqrt(meets * lowest)) if lowest > meets * _NEAR else None

    def _relaxation(self, rate_per_s: float) -> float:
        """Return the correlation time of the queue at this rate, in requests; 1 where nobody knows the saturation."""
        if rate_per_s > _FAR * self._told_per_s:
            return 1.0
        return relaxation(min(rate_per_s / self.saturation_per_s, FULL))


def _lower(over: float | None, saturation_per_s: float) -> float:
    """Return the next rate below those that are over the goal: with twice the room to saturation, then a half each."""
    if over is None:
        return _FIRST * saturation_per_s
    room = 2 * (1 - over / saturation_per_s)
    return (1 - room) * saturation_per_s if 0 < room <= 0.5 else over / 2  # noqa: PLR2004 - a half


def settling_requests(requests: int, utilisation: float) -> int:
    """Return how many requests pass until an empty queue has become what it is in the long run."""
    return min(math.ceil(_SETTLING_TIMES * relaxation(min(utilisation, FULL))), int(_SETTLING_SHARE * requests))
