"""Percentiles of requests that share a queue, with intervals that hold for dependent samples.

Requests that wait in one queue are late together: a thousand of them may say as much as ten independent ones. The
interval therefore comes from a few consecutive *sections* of the run, whose percentiles scatter as whole runs would
(sectioning: Asmussen and Glynn, Stochastic Simulation, 2007, III.5), as Student's interval of their logarithms. How
many sections there are depends on how long the queue remembers, its *correlation time*, counted in requests.

A run of a busy server may never see the long queue that makes its true percentile. What its samples cannot show follows
from its utilisation u: a queue near saturation is a Brownian motion held above zero, whose correlation time is
2 σ² ÷ drift² (Whitt, Planning queueing simulations, Management Science 35 (1989) 1341–1366). With Poisson arrivals and
nearly regular service that is 2 (u ÷ (1 - u))² requests. The larger of both counts.

Two constants are not from a book but from simulations of a batching queue (tools/qualify/stats.py holds the result
against other queues too): `_TIMES`, and the stretch of the upper end, since what a sample of a queue has not seen is
mostly worse than what it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve.stats import CONFIDENCE, PERCENTILES, Quantile, percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_MOST_SECTIONS = 6
_FEWEST_SECTIONS = 2
_FEWEST_FOR_A_TAIL = 3
_TIMES = 12
"""Correlation times in a section."""

_STRETCH = 1.0
"""The upper half of an interval is longer by this, divided by the degrees of freedom."""

_WINDOW = 6
"""Sokal's window: autocorrelations count up to the lag of so many correlation times."""

_TAIL = 0.95
FARTHEST = 10
"""An interval ends at this many times the largest value at the latest: such an end says "nobody knows"."""

FEWEST_BEYOND = 2
"""A percentile above p95 is withheld where fewer independent samples than this would lie beyond it: a p99 needs an
effective size of 200, a p99.9 of 2,000."""


@dataclass(frozen=True, slots=True)
class QueuePercentiles:
    """The percentiles of one run.

    Attributes:
        quantiles: those that the run supports.
        effective_size: how many independent requests would say as much as these; 0 where there are none.
    """

    quantiles: tuple[Quantile, ...] = ()
    effective_size: float = 0.0


def queue_percentiles(
    values: Sequence[float], utilisation: float | None = None, ps: Sequence[float] = PERCENTILES
) -> QueuePercentiles:
    """Return percentiles with 95% intervals that hold for dependent samples.

    Args:
        values: positive times, in the order in which the requests were due.
        utilisation: the share of the server's capacity that was asked for; None where nobody knows, or where the
            number of requests in flight is limited.
    """
    import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected

    if not values:
        return QueuePercentiles()
    array = np.asarray(values, dtype=float)
    size = len(array) / max(relaxation(utilisation), *(correlation_time(array, p) for p in (0.5, 0.9)))
    found = (_quantile(array, values, p, size) for p in ps)
    return QueuePercentiles(tuple(quantile for quantile in found if quantile is not None), size)


def relaxation(utilisation: float | None) -> float:
    """Return the correlation time, in requests, of a queue with this utilisation; at least 1, infinite from 1 on."""
    if utilisation is None:
        return 1.0
    return math.inf if utilisation >= 1 else max(1.0, 2 * (utilisation / (1 - utilisation)) ** 2)


def correlation_time(values: np.ndarray, p: float) -> float:
    """Return how many consecutive requests say as much about the p-quantile as one independent request; at least 1.

    The integrated autocorrelation time 1 + 2 Σ r(k) of the series "below the quantile or not", with k up to the first
    lag that is six times the sum so far (Sokal, Monte Carlo methods in statistical mechanics, 1997, section 3).
    """
    import numpy as np  # noqa: PLC0415 - as above

    n = len(values)
    below = (values <= np.quantile(values, p)).astype(float)
    below -= below.mean()
    spectrum = np.fft.rfft(below, 2 * n)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum))[:n]
    if covariance[0] <= 0:
        return 1.0
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    beyond = np.nonzero(np.arange(n) >= _WINDOW * times)[0]
    return max(1.0, float(times[beyond[0] if len(beyond) else -1]))


def sections(n: int, p: float, effective_size: float) -> int:
    """Return the number of sections: of several correlation times each, with a value beyond the quantile in each."""
    most = min(effective_size / _TIMES, n * (1 - p), _MOST_SECTIONS)
    return max(_FEWEST_SECTIONS, math.floor(most + 1e-9))


def _quantile(array: np.ndarray, values: Sequence[float], p: float, effective_size: float) -> Quantile | None:
    """Return a percentile and its interval; None where the run does not support it."""
    import numpy as np  # noqa: PLC0415 - as above
    from scipy import stats  # noqa: PLC0415 - as above

    value, count = percentile(values, p), sections(len(array), p, effective_size)
    unsure = p > _TAIL and (count < _FEWEST_FOR_A_TAIL or effective_size * (1 - p) < FEWEST_BEYOND - 1e-9)
    if value is None or unsure:
        return None
    length = len(array) // count
    logs = np.log(array[len(array) - count * length :]).reshape(count, length)
    apart = np.quantile(logs, p, axis=1, method="weibull") - math.log(value)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * math.sqrt(float(apart @ apart) / (count - 1) / count)
    # Two sections may scatter over any number of decades: no end lies below what was seen, or far above it.
    low, high = math.log(value) - half, math.log(value) + (1 + _STRETCH / (count - 1)) * half
    farthest = math.log(FARTHEST * float(array.max()))
    return Quantile(p, value, max(float(array.min()), math.exp(low)), math.exp(min(high, farthest)))
