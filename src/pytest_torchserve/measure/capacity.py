"""The highest Poisson rate at which a latency goal is met, found by bracketing and bisection.

Whether a rate meets the goal is decided as MLPerf LoadGen's early stopping decides it: of n requests k may have
taken longer than the goal if so few would be luck (at most 1%) were the true share as large as the percentile
allows: Σ_{i≤k} C(n,i) q^i (1-q)^(n-i) ≤ 1%, with q = 1 - p. For p99 that takes 459 requests with not one over.
The rule takes requests for independent, which those of one queue are not quite; nothing simpler is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIDENCE = 0.99
"""LoadGen's."""

GOALS = (0.99, 0.95, 0.9, 0.5)
"""The percentile that the goal is about: the first that the budget can decide."""

CLOSE_ENOUGH = 1.1
"""The search ends when the lowest rate that misses is at most this many times the highest that meets."""

MOST_STEPS = 12
_GROW = 1.5
SPARE = 3
"""A rate is probed with this many times the least sample, so that some requests may be over the goal."""


class Outcome(StrEnum):
    """What a rate's probe showed."""

    MEETS = "meets"
    MISSES = "misses"
    UNDECIDED = "undecided"
    """Neither beyond doubt; the search goes on as if it missed."""


def decide(n: int, over: int, p: float) -> Outcome:
    """LoadGen's rule, both ways: `over` of n requests took longer than the goal of the p-quantile."""
    from scipy import stats  # noqa: PLC0415 - a second of import, not to be paid when tests are only collected

    chance = stats.binom(n, 1 - p)
    if n and chance.cdf(over) <= 1 - CONFIDENCE:
        return Outcome.MEETS
    if n and chance.sf(over - 1) <= 1 - CONFIDENCE:
        return Outcome.MISSES
    return Outcome.UNDECIDED


def least_sample(p: float) -> int:
    """The fewest requests that can show that the p-quantile meets the goal: ln(1 - 0.99) / ln(p), rounded up."""
    n = 1
    while p**n > 1 - CONFIDENCE:
        n += 1
    return n


def decidable_goal(requests: float) -> float:
    """The highest percentile that so many requests can decide with something to spare."""
    return next((p for p in GOALS if requests >= SPARE * least_sample(p)), GOALS[-1])


@dataclass(frozen=True, slots=True)
class Step:
    """One probed rate.

    Attributes:
        rate_per_s: of the Poisson arrivals.
        requests: how many left.
        over: how many were not answered rightly within the goal.
        outcome: what that says.
        p50_s, p99_s: of latency; None where the sample supports none.
        mean_batch: achieved batch size; None where nobody tells.
        invalid: why the probe itself was no good.
    """

    rate_per_s: float
    requests: int
    over: int
    outcome: Outcome
    p50_s: float | None
    p99_s: float | None
    mean_batch: float | None
    invalid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the search found.

    Attributes:
        slo_s: the goal, in seconds.
        goal: the percentile that must meet it.
        rate_per_s: the highest rate that met it; None where none did.
        missed_per_s: the lowest rate above it that did not; None where none was found.
        steps: every probe, by rate: the knee.
    """

    slo_s: float
    goal: float
    rate_per_s: float | None
    missed_per_s: float | None
    steps: tuple[Step, ...]


def search(
    probe: Callable[[float], Outcome], guess_per_s: float, lowest_per_s: float = 0.0
) -> tuple[float | None, float | None]:
    """Bracket in growing steps, then bisect geometrically: the highest rate that meets, the lowest that does not.

    Args:
        probe: tries one rate.
        guess_per_s: where to begin.
        lowest_per_s: below this nothing could be decided.
    """
    meets: float | None = None
    misses: float | None = None
    rate, step = guess_per_s, _GROW
    for _ in range(MOST_STEPS):
        if probe(rate) is Outcome.MEETS:
            meets = rate
        else:
            misses = rate
        if meets is None or misses is None:
            rate = rate / step if meets is None else rate * step
            step *= _GROW
        else:
            rate = (meets * misses) ** 0.5
            if misses / meets <= CLOSE_ENOUGH:
                break
        if rate < lowest_per_s:
            break
    return meets, misses
