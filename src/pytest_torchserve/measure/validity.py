"""Validity rules: reasons why the figures of a run are not representative.

Each rule is a function of its own that returns a reason as "cause: figures", or None; the summary groups by cause.
`validity_by_kind` says which rules apply to which kind of measurement. (MLPerf LoadGen marks its runs VALID or
INVALID in the same way.)
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING

from pytest_torchserve import stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_torchserve.loadgen.arrivals import OpenLoop
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.measure.batches import Batches
    from pytest_torchserve.measure.warm_up import ServerWarmUp
    from pytest_torchserve.telemetry.monitor import Telemetry

LATE_SHARE = 0.05
"""The p99 schedule delay may be at most this share of the median latency."""

RATE_SHARE = 0.95
"""At least this share of the scheduled rate must have left."""

OTHER_PROCESSES_SHARE = 0.1
"""Other processes, the hypervisor included, may have used at most this share of the machine's CPU."""

LITTLE_SHARE = 0.05
"""Requests in flight may differ from rate × latency by this share, and what is in flight at an end of the window."""

UNSTABLE_SHARE = 0.3
"""The throughput of a window may differ from the expected throughput by this share and one batch."""

THROTTLE_REASONS = {
    0x04: "its power limit",
    0x08: "slowed down by the hardware",
    0x20: "its temperature, by the driver",
    0x40: "its temperature, by the hardware",
    0x80: "the power supply's brake",
}
"""NVML's nvmlClocksEventReasons that slow a GPU down; an idle GPU's low clock, say, is none of them."""

WINDOWS = 5
_SIGMAS = 3


def found(*checked: str | None) -> tuple[str, ...]:
    """Return the reasons among the results of the rules."""
    return tuple(reason for reason in checked if reason is not None)


def schedule_delay(responses: Sequence[Response]) -> str | None:
    """Return a reason when an open loop's client sent late and so added to the latency that it measures."""
    late_ns = sorted(r.sent_ns - r.scheduled_ns for r in responses)
    if not late_ns:
        return None
    p99_ms = late_ns[min(len(late_ns) - 1, math.ceil(0.99 * len(late_ns)) - 1)] / 1e6
    median_ms = statistics.median(r.latency_s for r in responses) * 1e3
    if p99_ms <= LATE_SHARE * median_ms:
        return None
    return f"the sender was late: p99 {p99_ms:.3g} ms, {p99_ms / median_ms:.0%} of the median latency"


def rate(schedule: OpenLoop, responses: Sequence[Response]) -> str | None:
    """Return a reason when fewer requests per second left than the schedule demands."""
    if not responses:
        return "no request left"
    first_ns = min(r.scheduled_ns for r in responses)
    overrun_s = (max(r.sent_ns for r in responses) - max(r.scheduled_ns for r in responses)) / 1e9
    planned_s = max(r.scheduled_ns - first_ns for r in responses) / 1e9
    reached = planned_s / (planned_s + overrun_s) if planned_s else 1.0
    if reached >= RATE_SHARE:
        return None
    return (
        f"the rate was not reached: {reached * schedule.mean_rate_per_s:.3g}/s left of {schedule.mean_rate_per_s:g}/s"
    )


def errors(kinds: Mapping[str, int], asked: int) -> str | None:
    """Return a reason when a request failed."""
    if not kinds:
        return None
    listed = ", ".join(f"{kind} × {count}" for kind, count in sorted(kinds.items()))
    return f"requests failed: {sum(kinds.values())} of {asked}: {listed}"


def wrong(count: int, asked: int) -> str | None:
    """Return a reason when an answer was wrong."""
    return f"answers were wrong: {count} of {asked}" if count else None


def unstable(
    due_ns: Sequence[int] | None, done_ns: Sequence[int], start_ns: int, end_ns: int, grain: int, *, unit: str = ""
) -> str | None:
    """Return a reason when throughput was not the same in five equal windows, to within a batch (`grain`) and 30%.

    The expected throughput of a window is, in an open loop, the requests that were due in the window; in a closed loop,
    the median of the windows.
    """
    if end_ns <= start_ns or len(done_ns) < WINDOWS:
        return None
    done = _windows(done_ns, start_ns, end_ns)
    middle = statistics.median(done)
    expected: Sequence[float] = [middle] * WINDOWS if due_ns is None else _windows(due_ns, start_ns, end_ns)
    for index, (got, wanted) in enumerate(zip(done, expected, strict=True)):
        if abs(got - wanted) > UNSTABLE_SHARE * wanted + grain:
            window_s = (end_ns - start_ns) / WINDOWS / 1e9
            return (
                f"throughput was not stable: {got / window_s:.3g}{unit}/s in window {index + 1} of {WINDOWS}, "
                f"where {wanted / window_s:.3g}{unit}/s {'is usual' if due_ns is None else 'were due'}"
            )
    return None


def _windows(times_ns: Sequence[int], start_ns: int, end_ns: int) -> list[int]:
    """Return how many of these times fall into each window."""
    width = (end_ns - start_ns) / WINDOWS
    counts = Counter(math.floor((time_ns - start_ns) / width) for time_ns in times_ns)
    return [counts[index] for index in range(WINDOWS)]


def overload(
    schedule: OpenLoop, responses: Sequence[Response], batches: Batches, handle_s: Sequence[float], workers: int
) -> str | None:
    """Return a reason when the queue has grown without bound.

    There are two signs. Either full batches show less capacity (batch_size over their median `handle`, for each worker)
    than requests arrived. Or, in the second half of the departures, more requests arrived than were answered, by more
    than a batch for each worker and chance (3√n) explain.

    Args:
        handle_s: `handle` of each *full* batch.
    """
    size = batches.configured or 1
    if handle_s:
        capacity = workers * size / statistics.median(handle_s)
        if capacity < schedule.mean_rate_per_s:
            return f"overload: {schedule.mean_rate_per_s:g}/s came, full batches make {capacity:.3g}/s"
    due = sorted(r.scheduled_ns for r in responses)
    if len(due) < 2 * WINDOWS:
        return None
    half_ns, end_ns = due[len(due) // 2], due[-1]
    came = len(due) - len(due) // 2
    went = sum(half_ns <= r.done_ns < end_ns for r in responses)
    slack = size * workers + _SIGMAS * math.sqrt(came)
    if came - went <= slack:
        return None
    return f"overload: in the second half {came} requests came and {went} were answered; the queue grew"


def littles_law(responses: Sequence[Response]) -> str | None:
    """Return a reason when requests in flight (L), arrivals (λ) and latency (W) contradict L = λW.

    Little's law holds for any queue that is in the same state at both ends of a window (Little and Graves,
    Little's law, in Building Intuition, 2008). All three are of our own records, of the last three quarters of the
    schedule: L from departures and answers alone, λ and W from the requests that were due. What is in flight at an end
    counts for one side only: the latency at the beginning, as a share of the window, is allowed on top of 5%.
    """
    due = sorted(r.scheduled_ns for r in responses)
    if len(due) < 2 * WINDOWS:
        return None
    start_ns, end_ns = due[len(due) // 4], due[-1]
    window_ns = end_ns - start_ns
    inside = [r for r in responses if start_ns <= r.scheduled_ns < end_ns]
    if not window_ns or not inside:
        return None
    in_flight = sum(max(0, min(r.done_ns, end_ns) - max(r.scheduled_ns, start_ns)) for r in responses) / window_ns
    expected = len(inside) * statistics.fmean(r.done_ns - r.scheduled_ns for r in inside) / window_ns
    first = [r.done_ns - r.scheduled_ns for r in inside if r.scheduled_ns < start_ns + window_ns / WINDOWS]
    allowed = LITTLE_SHARE + statistics.fmean(first or [0]) / window_ns
    if abs(in_flight - expected) <= allowed * expected:
        return None
    return f"Little's law does not hold: {in_flight:.3g} requests were in flight, {expected:.3g} follow from latency"


def other_processes(telemetry: Telemetry | None) -> str | None:
    """Return a reason when other processes used the machine."""
    if telemetry is None:
        return None
    if telemetry.other_processes_on_gpu:
        return f"another process computed on the GPU: {', '.join(map(str, telemetry.other_processes_on_gpu))}"
    taken = telemetry.other_processes_cpu + telemetry.stolen_cpu
    if taken <= OTHER_PROCESSES_SHARE:
        return None
    percent = round(100 * telemetry.stolen_cpu)
    stolen = f", {percent}% by the hypervisor" if percent else ""
    return f"other processes used the machine: {telemetry.other_processes_cpu:.0%} of the CPU{stolen}"


def still_warming_up(warm_up: ServerWarmUp) -> str | None:
    """Return a reason when the batches before the measurement were not steady within their budget."""
    if not warm_up.answered:
        return "the server did not answer its warm-up"
    if warm_up.steady is not False:
        return None
    return f"the server was still warming up: after {warm_up.batches} batches in {warm_up.spent_s:.3g} s"


def never_steady(steady: bool | None) -> str | None:  # noqa: FBT001 - None is a value of its own
    """Return a reason when full batches got faster for more than half of the measurement."""
    return "the server was still warming up: its batches got faster to the end" if steady is False else None


def throttled(telemetry: Telemetry | None) -> str | None:
    """Return a reason when a GPU lowered its clock for its power or its temperature."""
    bits = 0
    for gpu in telemetry.gpus if telemetry else ():
        bits |= int(gpu.get("clock_event_reasons", 0))
    lowered = [words for bit, words in THROTTLE_REASONS.items() if bits & bit]
    return f"the GPU was throttled: {', '.join(lowered)}" if lowered else None


def nothing_probed(rates: int) -> str | None:
    """Return a reason when a search for capacity ended before it had probed any rate."""
    return None if rates else "no rate was probed: the budget is too short"


def too_few(latencies: int) -> str | None:
    """Return a reason when there are too few latencies for a median."""
    return None if stats.supports(latencies, 0.5) else f"too few answers: {latencies}, not even enough for a median"
