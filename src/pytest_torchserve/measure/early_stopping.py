"""Decide whether a rate meets a latency goal, and stop as soon as the decision is known.

The rule is that of MLPerf LoadGen's early stopping: of n requests k may have taken longer than the goal if so few
would be luck (probability at most 1%) were the true share as large as the percentile allows:
Σ_{i≤k} C(n,i) q^i (1-q)^(n-i) ≤ 1%, with q = 1 - p. For p99 the rule needs 459 requests with none over the goal.
The rule takes requests for independent, which the requests of one queue are not quite; no simpler rule is better.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.response import Response

CONFIDENCE = 0.99
"""LoadGen's confidence."""

GOALS = (0.99, 0.95, 0.9, 0.5)
"""Percentiles for the goal: the first that the budget can decide is used."""

SPARE = 3
"""A rate is probed with this many times the least sample, so that some requests may be over the goal."""

MOST_STEPS = 12


class Outcome(StrEnum):
    """The outcome of probing one rate."""

    MEETS = "meets"
    MISSES = "misses"
    UNDECIDED = "undecided"
    """Neither is beyond doubt; the search goes on as if the rate had missed the goal."""


def decide(n: int, overlatency: int, p: float) -> Outcome:
    """Apply LoadGen's rule in both directions: `overlatency` of n requests exceeded the goal for the p-quantile."""
    from scipy import stats  # noqa: PLC0415 - a second of import, not to be paid when tests are only collected

    chance = stats.binom(n, 1 - p)
    if n and chance.cdf(overlatency) <= 1 - CONFIDENCE:
        return Outcome.MEETS
    if n and chance.sf(overlatency - 1) <= 1 - CONFIDENCE:
        return Outcome.MISSES
    return Outcome.UNDECIDED


def least_sample(p: float) -> int:
    """Return the fewest requests that can show that the p-quantile meets the goal: ln(1 - 0.99) / ln(p), rounded up."""
    n = 1
    while p**n > 1 - CONFIDENCE:
        n += 1
    return n


def decidable_goal(requests: float) -> float:
    """Return the highest percentile that so many requests can decide with something to spare."""
    return next((p for p in GOALS if requests >= SPARE * least_sample(p)), GOALS[-1])


class EarlyAbort:
    """Abort a probe once so many requests are over the goal that the whole probe would miss it."""

    def __init__(self, slo_s: float, goal: float, planned: int) -> None:
        from scipy import stats  # noqa: PLC0415 - as in `decide`

        self._slo_s = slo_s
        self._most = int(stats.binom(planned, 1 - goal).isf((1 - CONFIDENCE) / 10))
        self._overlatency = 0

    def __call__(self, fresh: Sequence[Response]) -> bool:
        """Count the new responses; return whether to abort."""
        self._overlatency += sum(response.error is not None or response.latency_s > self._slo_s for response in fresh)
        return self._overlatency > self._most
