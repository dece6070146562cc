"""The latency breakdown of a request: late → send → frontend and queue → the handler's phases → return → client."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_torchserve import stats
from pytest_torchserve.phase import METHOD_PHASES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response


class Stage(StrEnum):
    """A stage of a request's latency; the stages are in the order of time."""

    LATE = "late"
    """From when the request should have left to when the client took it up."""
    SEND = "send"
    """Until the request's bytes were written; where no connection was idle, a connection was opened first."""
    FRONTEND = "frontend+queue"
    """Until `handle` began, where the frontend's own stages are unknown."""
    RECEIVE = "receive"
    """Until the frontend had read the request and queued a job."""
    QUEUE = "queue"
    """Until an idle worker began to gather the request's batch."""
    FILL = "fill wait"
    """Until the batch was full, or had waited for max_batch_delay."""
    DISPATCH = "dispatch"
    """Until `handle` began: the batch goes over the socket to the worker and is decoded there."""
    PREPROCESS = "preprocess"
    INFERENCE = "inference"
    POSTPROCESS = "postprocess"
    HANDLE = "handle"
    """The handler as a whole, where its phases are not known, or ran in several threads at once."""
    FIRST_CHUNK = "first chunk"
    """Of a streamed answer: from when `handle` began to the first byte."""
    STREAM = "stream"
    """Of a streamed answer: from the first byte to the last."""
    UNATTRIBUTED = "unattributed"
    """The time that was not observed at both ends."""
    RETURN = "return"
    """From the end of `handle` to the last byte of the answer: in the client's kernel, where that tells, else in the
    client."""
    CLIENT = "client"
    """From when the kernel had the last byte to when the client had read it: the client's own share."""


_PHASES = tuple(Stage(phase.value) for phase in METHOD_PHASES)


def share_a_clock(pairs: Sequence[tuple[Response, ProbeReport]]) -> bool:
    """Return whether the worker's times are comparable with the client's: each `handle` lies within its request.

    Clocks of two hosts count from their own boots; to pass, two such clocks would have to agree to the millisecond,
    every time.
    """
    return all(r.begun_ns <= t.start_ns <= max(t.start_ns, t.end_ns) <= r.done_ns for r, t in pairs)


def stages(
    response: Response, report: ProbeReport | None, frontend: FrontendTimes | None, *, one_clock: bool = True
) -> dict[Stage, float]:
    """Return the latency of one request in seconds by stage; the stages add up to the latency.

    Only time observed at both ends is attributed. Without a common clock these are the client's stages and the duration
    of each phase; without a probe report, only the client's stages.
    """
    sent_ns = response.sent_ns
    if report is not None and one_clock:
        # The client may lose its processor between writing and reading its clock: `handle` begins earlier then.
        sent_ns = min(sent_ns, report.start_ns)
    found = {Stage.LATE: response.begun_ns - response.scheduled_ns, Stage.SEND: sent_ns - response.begun_ns}
    streamed = report is not None and report.streamed
    arrived_ns = response.done_ns
    if response.arrived_ns and not streamed:
        end_ns = report.end_ns if report is not None and one_clock else response.sent_ns
        arrived_ns = min(max(response.arrived_ns, end_ns), response.done_ns)
        found[Stage.CLIENT] = response.done_ns - arrived_ns
    if report is not None and one_clock:
        found |= _frontend(sent_ns, report, frontend)
        if not report.streamed:
            found[Stage.RETURN] = arrived_ns - report.end_ns
    if report is not None and report.streamed:
        found[Stage.STREAM] = response.done_ns - response.first_byte_ns
        if one_clock:
            found[Stage.FIRST_CHUNK] = response.first_byte_ns - report.start_ns
    in_s = {stage: ns / 1e9 for stage, ns in found.items()}
    if report is not None:
        in_s |= _handler(report)
    in_s[Stage.UNATTRIBUTED] = response.latency_s - sum(in_s.values())
    return {stage: in_s[stage] for stage in Stage if stage in in_s}


def _handler(report: ProbeReport) -> dict[Stage, float]:
    """Return the handler's phases in seconds; phases of several threads overlap, and do not add up to a latency."""
    phases = {stage: report.phases_s[stage] for stage in _PHASES if stage in report.phases_s}
    if phases and report.threads == 1:
        return phases
    return {Stage.HANDLE: report.phases_s[Stage.HANDLE]} if Stage.HANDLE in report.phases_s else {}


def _frontend(sent_ns: int, report: ProbeReport, frontend: FrontendTimes | None) -> dict[Stage, int]:
    """Return the stages from the client to the handler, in nanoseconds.

    The frontend writes its log lines some microseconds late, so the times are forced into order.
    """
    if frontend is None:
        return {Stage.FRONTEND: report.start_ns - sent_ns}
    arrived_ns = min(max(frontend.arrived_ns, sent_ns), report.start_ns)
    left_ns = min(max(frontend.left_ns, arrived_ns), report.start_ns)
    taken_ns = min(max(frontend.taken_ns, arrived_ns), left_ns)
    return {
        Stage.RECEIVE: arrived_ns - sent_ns,
        Stage.QUEUE: taken_ns - arrived_ns,
        Stage.FILL: left_ns - taken_ns,
        Stage.DISPATCH: report.start_ns - left_ns,
    }


@dataclass(frozen=True, slots=True)
class LatencyBreakdown:
    """The latency breakdown of many requests.

    Attributes:
        requests: number of requests.
        mean_s: by stage, seconds, over all requests; the stages add up to the mean latency.
        slow_s: the same over the slowest `slow_share` of the requests; empty where there are too few requests.
        slow_share: 0.01 where the sample supports a p99, else 0.1.
        attributed_p50: the median share of a request's latency that was observed at both ends.
        one_clock: whether the worker's clock is the client's; if not, only durations were used.
        probed: whether any answer carried a probe report.
        queue_told: whether the server's own log shows the wait in its queue as a stage of its own.
    """

    requests: int
    mean_s: Mapping[str, float]
    slow_s: Mapping[str, float]
    slow_share: float
    attributed_p50: float
    one_clock: bool
    probed: bool
    queue_told: bool

    @property
    def caveat(self) -> str:
        """The stages that could not be observed, in words; empty where all were."""
        if not self.probed:
            return "the answers carry no Server-Timing: latency only"
        if not self.one_clock:
            return "the worker's clock is not the sender's: durations only"
        return "" if self.queue_told else "the server's own log is out of reach: its queue is not told apart"


def latency_breakdown(
    timed: Sequence[tuple[Response, ProbeReport | None]],
    frontend_times: Mapping[str, FrontendTimes],
    *,
    same_host: bool = True,
) -> LatencyBreakdown | None:
    """Return the latency breakdown of these requests; None where there are none.

    Args:
        same_host: False where the clients are known to be on other hosts; else the times show it.
    """
    if not timed:
        return None
    pairs = [(response, report) for response, report in timed if report is not None]
    one_clock = same_host and share_a_clock(pairs)
    rows = [
        stages(response, report, frontend_times.get(report.request_id) if report else None, one_clock=one_clock)
        for response, report in timed
    ]
    rows.sort(key=lambda row: sum(row.values()))
    slow_share = 0.01 if stats.supports(len(rows), 0.99) else 0.1
    slowest = rows[-round(len(rows) * slow_share) :] if stats.supports(len(rows), 1 - slow_share) else []
    return LatencyBreakdown(
        requests=len(rows),
        mean_s=_means(rows),
        slow_s=_means(slowest),
        slow_share=slow_share,
        attributed_p50=statistics.median(1 - row[Stage.UNATTRIBUTED] / sum(row.values()) for row in rows),
        one_clock=one_clock,
        probed=bool(pairs),
        queue_told=any(Stage.QUEUE in row for row in rows),
    )


def _means(rows: Sequence[Mapping[Stage, float]]) -> dict[str, float]:
    present = [stage for stage in Stage if any(stage in row for row in rows)]
    return {stage.value: statistics.fmean(row.get(stage, 0.0) for row in rows) for stage in present}
