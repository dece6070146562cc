"""What a search for the highest rate found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.measure.early_stopping import Outcome


@dataclass(frozen=True, slots=True)
class Step:
    """One probed rate.

    Attributes:
        rate_per_s: of the Poisson arrivals.
        requests: how many left.
        overlatency: how many were not answered rightly within the goal.
        outcome: what that says.
        p50_s, p99_s: of latency; None where the sample supports none.
        mean_batch: achieved batch size; None where nobody tells.
        invalid: why the probe itself was no good.
    """

    rate_per_s: float
    requests: int
    overlatency: int
    outcome: Outcome
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
    """What the search found.

    Attributes:
        slo_s: the goal, in seconds.
        goal: the percentile that must meet it.
        rate_per_s: the highest rate that met it; None where none did.
        missed_per_s: the lowest rate above it that did not; None where none was found.
        steps: every probe, by rate.
    """

    slo_s: float
    goal: float
    rate_per_s: float | None
    missed_per_s: float | None
    steps: tuple[Step, ...]
