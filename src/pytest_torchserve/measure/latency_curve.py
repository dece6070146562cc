"""The curve of a latency percentile against the rate, from a few probed rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from pytest_torchserve.measure.capacity_rule import Judged

FULL = 0.98
"""A closed loop's throughput is known to some per cent: the room above this utilisation cannot be told."""

_POINTS = 400


@dataclass(frozen=True, slots=True)
class LatencyCurve:
    """Percentile and spread by rate: between probes on a line, and never falling with the rate.

    Probes scatter, so neighbours that contradict each other are averaged (isotonic regression, weighted by the
    effective size). The line is drawn over 1 ÷ (1 - utilisation), by which the waits of a queue grow.

    Attributes:
        rates: rates in equal ratios, from the lowest to the highest probed one.
        values_s: the percentile at each of them.
        spreads_s: how far it lies above the middle of the latencies.
    """

    rates: np.ndarray
    values_s: np.ndarray
    spreads_s: np.ndarray

    @classmethod
    def of(cls, judged: Mapping[float, Judged], saturation_per_s: float) -> LatencyCurve:
        """Draw the curve through these probes."""
        import numpy as np  # noqa: PLC0415 - not to be paid when tests are only collected
        from scipy.optimize import isotonic_regression  # noqa: PLC0415 - as above

        known = sorted(judged)
        rates = np.geomspace(known[0], known[-1], _POINTS)
        sizes = [max(1.0, judged[rate].effective_size) for rate in known]
        logs = isotonic_regression([math.log(judged[rate].value_s) for rate in known], weights=sizes).x
        spreads = isotonic_regression([judged[rate].spread_s for rate in known], weights=sizes).x
        at, seen = (1 / (1 - np.minimum(of / saturation_per_s, FULL)) for of in (rates, np.array(known)))
        return cls(rates, np.exp(np.interp(at, seen, logs)), np.interp(at, seen, spreads))

    def crossing(self, slo_s: float) -> float:
        """Return the highest rate on the curve whose percentile is within the goal; the lowest where none is."""
        return float(self.rates[self.values_s <= slo_s].max(initial=float(self.rates[0])))
