"""Search for the highest rate that meets a goal: bracket the rate, then bisect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.measure.early_stopping import MOST_STEPS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE_ENOUGH = 1.1
"""The search ends when the lowest rate that misses the goal is at most this many times the highest that meets it."""

_GROW = 1.5


def search(
    probe: Callable[[float], Outcome], guess_per_s: float, lowest_per_s: float = 0.0
) -> tuple[float | None, float | None]:
    """Bracket in growing steps, then bisect geometrically.

    Args:
        probe: tries one rate.
        guess_per_s: the first rate to try.
        lowest_per_s: below this rate the budget is too short to decide.

    Returns:
        The highest rate that meets the goal, and the lowest that does not.
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
