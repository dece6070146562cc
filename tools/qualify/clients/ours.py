"""Our own client: its throughput, processor time and schedule delay, and the share of a latency that it attributes."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_torchserve import stats
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen import client, process_tuning
from pytest_torchserve.loadgen.arrivals import ConstantRate
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import traffic
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.latency_breakdown import latency_breakdown

if TYPE_CHECKING:
    from clients.service import Deployed
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import TimedSchedule

WINDOW_S = 2.0
WINDOWS_WITHOUT_GAIN = 4
GAIN = 1.02
PUNCTUAL_MS = 1.0


class Tally(NamedTuple):
    """The result of one closed loop of our client.

    Attributes:
        requests: how many requests were answered, all rightly.
        per_s: how many requests were answered per second.
        send_cpu_us: this process's time for sending one request and keeping its response.
        check_cpu_us: this process's time for checking one response.
    """

    requests: int
    per_s: float
    send_cpu_us: float
    check_cpu_us: float

    @property
    def cpu_us(self) -> float:
        """The time for sending one request and checking its response."""
        return self.send_cpu_us + self.check_cpu_us


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """Return the processor time used so far, in the kernel as well."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _quiet(_words: str, _share: float) -> None:
    """Show no progress."""


def _send(deployed: Deployed, load: TimedSchedule) -> list[Response]:
    """Send one load as `traffic.send` does; return its responses, not checked yet."""
    endpoint, clock = deployed.endpoint, MonotonicClock()
    kept = traffic.Collector(load.duration_s, clock, _quiet, Checker.for_cell(deployed.deployment))
    client.send(endpoint.server.address, endpoint.path, deployed.inputs.samples, load, kept.on_responses, clock)
    return kept.responses


def _judge(deployed: Deployed, responses: list[Response]) -> None:
    """Check every response; a wrong answer ends the benchmark."""
    checker = Checker.for_cell(deployed.deployment)
    right = traffic.judged(responses, checker)
    if len(right) < len(responses) or not right:
        raise MeasurementError(
            wanted=f"right answers from {deployed.endpoint.name}",
            found=f"{len(right)} right of {len(responses)}: {'; '.join(checker.evidence.rejected[:3])}",
            do="run `make test`: serving is broken, and speed means nothing",
        )


def closed_loop(deployed: Deployed, connections: int, duration_s: float) -> Tally:
    """Run a closed loop and return its tally; all responses are checked after the time has been taken."""
    cpu_0_s = cpu_s()
    responses = _send(deployed, ClosedLoop(connections, duration_s))
    cpu_1_s = cpu_s()
    _judge(deployed, responses)
    cpu_2_s = cpu_s()
    count = len(responses)
    # As the other clients count: the responses within `duration_s` of the first departure.
    end_ns = min(response.sent_ns for response in responses) + duration_s * 1e9
    per_s = sum(response.done_ns <= end_ns for response in responses) / duration_s
    return Tally(count, per_s, (cpu_1_s - cpu_0_s) / count * 1e6, (cpu_2_s - cpu_1_s) / count * 1e6)


def warm_up(deployed: Deployed, connections: int, most_s: float) -> list[float]:
    """Send load until the throughput stops rising (the JVM compiles what runs often); return it for each window."""
    windows: list[float] = []
    best, without_gain = 0.0, 0
    while without_gain < WINDOWS_WITHOUT_GAIN and len(windows) * WINDOW_S < most_s:
        windows.append(closed_loop(deployed, connections, WINDOW_S).per_s)
        without_gain = 0 if windows[-1] > GAIN * best else without_gain + 1
        best = max(best, windows[-1])
    return windows


def schedule_delay(deployed: Deployed, rate_per_s: float, duration_s: float) -> dict[str, float]:
    """Return the schedule delay of the requests of an open loop, in ms."""
    responses = _send(deployed, ConstantRate(rate_per_s, duration_s))
    _judge(deployed, responses)
    return _told([(response.sent_ns - response.scheduled_ns) / 1e6 for response in responses])


def bare_schedule_delay(rate_per_s: float, duration_s: float) -> dict[str, float]:
    """Return the delay of a loop that only wakes up, without server or socket, in ms: the machine's own delay."""
    start_ns, late_ms = time.monotonic_ns(), []
    with process_tuning.undisturbed(punctual=True):
        for number in range(1, 1 + int(rate_per_s * duration_s)):
            due_ns = start_ns + round(number / rate_per_s * 1e9)
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(left_ns / 1e9)
            late_ms.append(-left_ns / 1e6)
    return _told(late_ms)


def _told(late_ms: list[float]) -> dict[str, float]:
    """Return a summary of the delays, in ms."""
    late_ms = sorted(late_ms)
    tail_ms = stats.percentile(late_ms, 0.99)
    if tail_ms is None:
        raise MeasurementError(
            wanted="a 99th percentile", found=f"{len(late_ms)} requests", do="send more: a higher rate, or for longer"
        )
    return {
        "requests": len(late_ms),
        "p50_ms": late_ms[len(late_ms) // 2],
        "p99_ms": tail_ms,
        "max_ms": late_ms[-1],
        "share_within_1_ms": sum(ms <= PUNCTUAL_MS for ms in late_ms) / len(late_ms),
    }


def attributed(deployed: Deployed, rate_per_s: float, duration_s: float) -> dict[str, Any]:
    """Return the share of the median request's latency that is attributed, measured as `measure_load` does."""
    endpoint, inputs = deployed.endpoint, deployed.inputs
    traffic.warm_up_server(endpoint, inputs.samples)
    log_offset, load = endpoint.log_offset(), ConstantRate(rate_per_s, duration_s)
    sent = traffic.send(endpoint, inputs.samples, deployed.deployment, load, _quiet)
    found = latency_breakdown(sent.timed, endpoint.frontend_times(log_offset, sent.request_ids))
    if found is None or len(sent.timed) < len(sent.responses):
        raise MeasurementError(
            wanted=f"right answers from {endpoint.name}",
            found=f"{len(sent.timed)} of {len(sent.responses)}: {'; '.join(sent.evidence.wrong[:3])}",
            do="run `make test`: serving is broken",
        )
    return {
        "requests": found.requests,
        "attributed_p50": found.attributed_p50,
        "queue_told": found.queue_told,
        "one_clock": found.one_clock,
        "mean_ms": {stage: seconds * 1e3 for stage, seconds in found.mean_s.items()},
    }
