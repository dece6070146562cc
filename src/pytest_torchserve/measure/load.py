"""Measurement of one deployment under traffic: open or closed loops, every request accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve import stats
from pytest_torchserve.loadgen.arrivals import OpenLoop
from pytest_torchserve.measure import traffic, validity_by_kind
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.latency_breakdown import latency_breakdown
from pytest_torchserve.measure.run import Run, Traffic
from pytest_torchserve.measure.slices import slices_of
from pytest_torchserve.measure.utilisation import batches_by_process, utilisation
from pytest_torchserve.measure.warm_up import BUDGET_S
from pytest_torchserve.phase import Phase
from pytest_torchserve.queue_percentiles import queue_percentiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.batches import Batches
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.context import Context


def measure_load(target: Target, cell: Cell, context: Context) -> Run:
    """Send the cell's schedule to the deployment and account for every request."""
    assert cell.schedule is not None  # noqa: S101 - a load cell has a schedule
    inputs, schedule = context.inputs, cell.schedule
    warm_up = traffic.warm_up_server(target, inputs.samples, min(BUDGET_S, schedule.duration_s))
    log_offset, snapshot_ns = target.log_offset(), context.monitor.snapshot()
    sent = traffic.send(target, inputs.samples, cell.deployment, schedule, context.progress)
    telemetry = context.monitor.between(snapshot_ns)
    frontend_times = target.frontend_times(log_offset, sent.request_ids)
    gathered = batches(sent.reports, frontend_times, target.batch_size)
    seconds = traffic.by_process(sent.timed)
    return Run.of(
        cell,
        inputs,
        sent.evidence,
        failures_are_wrong=False,
        workers=target.worker_count,
        seconds={Phase.LATENCY: seconds} if seconds else {},
        invalid=validity_by_kind.of_load(
            schedule, sent, gathered, target.worker_count, telemetry if target.owned else None, warm_up
        ),
        warm_up=warm_up.report(),
        batch_sizes=gathered.sizes,
        throughput=traffic.throughput(sent),
        worker_rss_bytes=telemetry.rss_bytes.get("worker") if telemetry else None,
        gpu_bytes=max((report.gpu_bytes for report in sent.reports), default=0),
        process_spread={Phase.LATENCY: stats.process_spread(seconds)},
        accuracy=sent.evidence.accuracy(inputs.samples, inputs.artifacts.weights_kind),
        telemetry=telemetry,
        traffic=traffic_figures(target, schedule, sent, frontend_times, gathered, context.budget.slo_s),
    )


def traffic_figures(
    target: Target,
    schedule: TimedSchedule,
    sent: traffic.Sent,
    frontend_times: Mapping[str, FrontendTimes],
    gathered: Batches,
    slo_s: float,
) -> Traffic:
    """Return the figures that only a run under traffic has."""
    offered = schedule.mean_rate_per_s if isinstance(schedule, OpenLoop) else None
    processes = batches_by_process(sent.timed)
    busy = utilisation(processes, offered, target.batch_size, max(1, target.worker_count)) if offered else None
    latency = queue_percentiles(traffic.latencies_s(sent), busy)
    return Traffic(
        asked=len(sent.responses),
        offered_per_s=offered,
        schedule_delay=stats.quantiles([(r.sent_ns - r.scheduled_ns) / 1e9 for r in sent.responses]),
        latency=latency.quantiles,
        effective_size=latency.effective_size,
        utilisation=busy,
        slo_s=slo_s,
        within_slo=traffic.within(sent, slo_s),
        waterfall=latency_breakdown(sent.timed, frontend_times, same_host=target.same_host),
        batches=gathered,
        slices=slices_of(schedule, sent),
    )
