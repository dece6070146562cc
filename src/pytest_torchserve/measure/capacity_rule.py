"""Decide whether a rate meets a latency goal, from requests that share a queue.

A percentile is shown to meet the goal when its upper limit does. Near saturation the limit must not come from the
samples alone: a run may end before the long queue that makes the true percentile, and then scatters little, too. Two
limits are taken, and the higher one counts:

- by *sections*: consecutive parts of the run, whose percentiles scatter as whole runs would (`queue_percentiles`);
- by what a run of this length can *miss*: the queue in front of a busy server is a Brownian motion held above zero. Its
  waiting times are exponentially distributed, and the mean that a run shows of them has a relative standard deviation
  of 1 ÷ √(effective size) (Whitt, Planning queueing simulations, Management Science 35 (1989) 1341–1366).

The constants `_TAIL` and `_MOST_SECTIONS` come from simulated queues (`make bench-stats` holds the rule against them).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.queue_percentiles import correlation_time, relaxation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from pytest_torchserve.loadgen.response import Response

CONFIDENCE = 0.99
_Z = statistics.NormalDist().inv_cdf(CONFIDENCE)

_TAIL = 2.5
"""The scatter of a high percentile of waiting times, where that of their mean is 1."""

_MOST_SECTIONS = 20
_FEWEST_SECTIONS = 3
_TIMES = 6
"""Correlation times in a section."""

_BEYOND = 3
"""Requests of a section beyond its percentile."""

GOALS = (0.99, 0.95, 0.9, 0.5)
"""Percentiles for the goal: the first that the budget can decide is used."""

SPARE = 3
"""A rate is probed with this many times the least sample, so that some requests may be over the goal."""

_LOST = 5
"""A probe is lost once the share over the goal is this many times what the percentile allows."""

_AS_FAILED = 10
"""A failed request counts as one that took this many times the goal."""


class Outcome(StrEnum):
    """The outcome of probing one rate."""

    MEETS = "meets"
    MISSES = "misses"
    UNDECIDED = "undecided"
    """Neither is beyond doubt."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one probe says about its rate.

    Attributes:
        outcome: whether the rate meets the goal.
        value_s: the percentile of the goal.
        upper_s: its upper limit, with 99%; infinite at saturation.
        spread_s: how far the percentile lies above the middle of the latencies: the part that waiting makes.
        effective_size: how many independent requests would say as much.
    """

    outcome: Outcome
    value_s: float
    upper_s: float
    spread_s: float
    effective_size: float


def judge(latencies_s: Sequence[float], p: float, slo_s: float, utilisation: float, *, lost: bool = False) -> Judged:
    """Judge the probe of one rate.

    Args:
        latencies_s: of all requests, in the order in which they were due; `as_latency_s` says what a failed one counts.
        p: the percentile that must meet the goal.
        utilisation: the rate as a share of the server's capacity.
        lost: whether the probe was broken off because too many requests were over the goal.
    """
    import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected

    n = len(latencies_s)
    if n < (_FEWEST_SECTIONS if lost else least_sample(p)):
        worst = max(latencies_s, default=0.0) if lost else 0.0
        return Judged(Outcome.MISSES if lost else Outcome.UNDECIDED, max(worst, _AS_FAILED * slo_s), math.inf, 0.0, n)
    values = np.asarray(latencies_s, dtype=float)
    size = n / max(relaxation(utilisation), *(correlation_time(values, q) for q in (0.5, 0.9)))
    value = float(np.quantile(values, p, method="weibull"))
    spread = value - float(np.quantile(values, _middle(p)))
    half = max(_by_sections(values, p, value, size), missed_s(spread, p, size))
    if lost:
        outcome = Outcome.MISSES
    elif value + half <= slo_s:
        outcome = Outcome.MEETS
    else:
        outcome = Outcome.MISSES if value - half > slo_s else Outcome.UNDECIDED
    return Judged(outcome, value, value + half, spread, size)


def as_latency_s(response: Response, slo_s: float, *, right: bool) -> float:
    """Return what a request counts: a failed or wrong one ten times the goal.

    One that was given up when its probe was broken off has waited for as long as it had, and is no failure.
    """
    return response.latency_s if right or response.failure is Failure.UNANSWERED else _AS_FAILED * slo_s


def missed_s(spread_s: float, p: float, effective_size: float) -> float:
    """Return how far the true percentile may lie above the one that a run shows, with 99%.

    Waiting times of mean m have their p-quantile at m · ln(1 ÷ (1 - p)): the distance of two quantiles tells m, and so
    how much of the percentile is waiting.
    """
    if effective_size <= 0:
        return math.inf
    of_p, of_middle = (-math.log1p(-q) for q in (p, _middle(p)))
    return _Z * _TAIL * spread_s * of_p / (of_p - of_middle) / math.sqrt(effective_size)


def _middle(p: float) -> float:
    """Return the quantile from which the spread is measured."""
    return 0.5 if p > 0.5 else 0.1  # noqa: PLR2004 - the median itself


def _by_sections(values: np.ndarray, p: float, value: float, effective_size: float) -> float:
    """Return the upper half of Student's interval of the sections' percentiles, stretched as in `queue_percentiles`."""
    import numpy as np  # noqa: PLC0415 - as above
    from scipy import stats  # noqa: PLC0415 - as above

    most = min(effective_size / _TIMES, len(values) * (1 - p) / _BEYOND, _MOST_SECTIONS)
    count = max(_FEWEST_SECTIONS, int(most))
    length = len(values) // count
    parts = values[len(values) - count * length :].reshape(count, length)
    apart = np.quantile(parts, p, axis=1, method="weibull") - value
    deviate = float(stats.t.ppf(CONFIDENCE, count - 1)) * (1 + 1 / (count - 1))
    return deviate * math.sqrt(float(apart @ apart) / (count - 1) / count)


def least_sample(p: float) -> int:
    """Return the fewest requests that can show that the p-quantile meets the goal: ln(1 - 0.99) / ln(p), rounded up.

    With fewer, all requests may be within the goal by luck (MLPerf LoadGen's early stopping has the same bound).
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(p))


def decidable_goal(requests: float) -> float:
    """Return the highest percentile that so many requests can decide with something to spare."""
    return next((p for p in GOALS if requests >= SPARE * least_sample(p)), GOALS[-1])


class EarlyAbort:
    """Abort a probe once so many requests are over the goal that the rate cannot meet it.

    Requests over the goal come in bursts: the probe goes on until they are five times as many as the whole probe may
    have.

    Attributes:
        most: the most requests that may be over the goal.
        lost: whether more were.
    """

    def __init__(self, slo_s: float, goal: float, planned: int) -> None:
        self._slo_s = slo_s
        self.most = planned * min(_LOST * (1 - goal), (1 + (1 - goal)) / 2)
        self._overlatency = 0
        self.lost = False

    def __call__(self, fresh: Sequence[Response]) -> bool:
        """Count the new responses; return whether to abort."""
        self._overlatency += sum(response.error is not None or response.latency_s > self._slo_s for response in fresh)
        self.lost = self._overlatency > self.most
        return self.lost
