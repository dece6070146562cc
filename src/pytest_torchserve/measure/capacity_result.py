"""The result of a search for the highest rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.measure.capacity_rule import Outcome


@dataclass(frozen=True, slots=True)
class Step:
    """The probe of one rate.

    Attributes:
        rate_per_s: rate of the Poisson arrivals.
        seconds: how long they were to come.
        requests: number of requests that left.
        overlatency: number of requests without a right answer within the goal.
        outcome: whether the rate meets the goal.
        goal_s: the percentile of the goal, once the queue had settled; failed requests count as over the goal. None
            where too few requests were sent.
        upper_s: its upper limit, with 99%; None where the run supports none.
        effective_size: how many independent requests would say as much.
        p50_s, p99_s: percentiles of latency; None where the sample supports none.
        mean_batch: mean achieved batch size; None where unknown.
        invalid: why the probe itself is not representative.
    """

    rate_per_s: float
    seconds: float
    requests: int
    overlatency: int
    outcome: Outcome
    goal_s: float | None
    upper_s: float | None
    effective_size: float
    p50_s: float | None
    p99_s: float | None
    mean_batch: float | None
    invalid: tuple[str, ...] = ()

    @classmethod
    def of(cls, latencies_s: Sequence[float], **rest: Any) -> Self:
        """Return a step with the percentiles of these latencies."""
        return cls(p50_s=stats.percentile(latencies_s, 0.5), p99_s=stats.percentile(latencies_s, 0.99), **rest)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that meets the latency goal, and the probes that led to it.

    Attributes:
        slo_s: the goal, in seconds.
        goal: the percentile that must meet the goal.
        rate_per_s: the highest rate that was shown to meet the goal; None where none was.
        missed_per_s: the lowest rate above `rate_per_s` whose percentile was over the goal; None where none was found.
        crossing_per_s: where the percentile crosses the goal, read off the curve of all probes: the best guess of the
            capacity. None where the goal was not crossed.
        saturation_per_s: what a closed loop made.
        steps: every probe, by rate.
    """

    slo_s: float
    goal: float
    rate_per_s: float | None
    missed_per_s: float | None
    crossing_per_s: float | None
    saturation_per_s: float
    steps: tuple[Step, ...]
