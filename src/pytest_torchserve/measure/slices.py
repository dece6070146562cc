"""Figures by time slice, for a load whose rate changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve import stats
from pytest_torchserve.loadgen.arrivals import OpenLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.measure.traffic import Sent

SLICES = 10


@dataclass(frozen=True, slots=True)
class Slice:
    """Figures of the requests that were due in one time slice of a schedule.

    Attributes:
        start_s, end_s: edges of the slice, in seconds since the schedule began.
        requests: number of requests that were due.
        right: number of these requests that were answered rightly.
        offered_per_s: requests a second.
        p50_s, p99_s: percentiles of latency, in seconds; None where the sample supports none.
    """

    start_s: float
    end_s: float
    requests: int
    right: int
    offered_per_s: float
    p50_s: float | None
    p99_s: float | None


def slices(
    responses: Sequence[Response], right: Sequence[Response], start_ns: int, duration_s: float, count: int = SLICES
) -> tuple[Slice, ...]:
    """Cut a schedule into equal time slices, by when its requests should have left.

    Args:
        responses: all responses.
        right: the responses with a right answer.
        start_ns: when the schedule began.
        duration_s: how long its requests left.
    """
    width_s = duration_s / count
    asked: list[int] = [0] * count
    latencies: list[list[float]] = [[] for _ in range(count)]
    for response in responses:
        asked[_place(response, start_ns, width_s, count)] += 1
    for response in right:
        latencies[_place(response, start_ns, width_s, count)].append(response.latency_s)
    return tuple(
        Slice(
            start_s=index * width_s,
            end_s=(index + 1) * width_s,
            requests=asked[index],
            right=len(values),
            offered_per_s=asked[index] / width_s,
            p50_s=stats.percentile(values, 0.5),
            p99_s=stats.percentile(values, 0.99),
        )
        for index, values in enumerate(latencies)
    )


def slices_of(schedule: TimedSchedule, sent: Sent) -> tuple[Slice, ...]:
    """Return the figures by time slice; none for a schedule whose rate is the same throughout."""
    if not isinstance(schedule, OpenLoop) or schedule.steady:
        return ()
    start_ns = min((response.scheduled_ns for response in sent.responses), default=sent.start_ns)
    return slices(sent.responses, [response for response, _ in sent.timed], start_ns, schedule.duration_s)


def _place(response: Response, start_ns: int, width_s: float, count: int) -> int:
    """Return the index of the slice in which a request was due.

    The first and the last slice include requests that rounding puts just outside.
    """
    return min(count - 1, max(0, int((response.scheduled_ns - start_ns) / 1e9 / width_s)))
