"""Whether the queue and the fill wait of a real load are those of a simulated batcher, fed with the same arrivals."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
from batch_queue import serve

from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.latency_breakdown import Stage, stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.arrivals import Poisson
    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.model import Sample

_NS = 1e9


def agreement(endpoint: Any, samples: Sequence[Sample], load: Poisson, delay_s: float) -> dict[str, float]:
    """Put a load on one worker, and compare each request's waits with the simulation's.

    Returns:
        The share of the batches that have the simulated size, and, for queue and fill wait, the mean in the run and the
        mean distance of a request's wait from the simulated one, in seconds.
    """
    responses: list[Any] = []
    offset = endpoint.log_offset()

    def on_responses(fresh: Sequence[Any]) -> bool:
        responses.extend(fresh)
        return True

    endpoint.send(load, samples, on_responses, MonotonicClock())
    pairs = [(response, report) for response in responses if (report := ProbeReport.of(response))]
    logged = endpoint.frontend_times(offset, {report.request_id for _, report in pairs})
    rows = sorted(((logged[r.request_id], response, r) for response, r in pairs), key=lambda row: row[0].arrived_ns)
    found = [stages(response, report, times) for times, response, report in rows]
    simulated, number = _simulated([(times, report) for times, _, report in rows], endpoint.batch_size, delay_s)
    queue = simulated.taken_s[number] - simulated.due_s
    starts = simulated.start_s[number]
    sim = {
        Stage.QUEUE: np.maximum(0.0, queue),
        Stage.FILL: starts - np.maximum(simulated.taken_s[number], simulated.due_s),
    }
    sizes = [report.batch_size for _, _, report in rows]
    told: dict[str, float] = {"batches_alike": float(np.mean(simulated.size[number] == np.array(sizes)))}
    for stage, values in sim.items():
        real = np.array([row[stage] for row in found])
        told[f"{stage.value} mean_s"] = float(real.mean())
        told[f"{stage.value} apart_s"] = float(np.mean(np.abs(real - values)))
    return told


def _simulated(rows: Sequence[tuple[FrontendTimes, ProbeReport]], size: int, delay_s: float) -> tuple[Any, np.ndarray]:
    """Return the simulation of these arrivals, and each request's batch in it.

    A batch occupies its worker from when it left the frontend to when the next could be taken: to the end of `handle`,
    and then as long as it took in the median where a request was waiting.
    """
    by_batch = {report.batch: (times, report) for times, report in rows}
    batches = [by_batch[number] for number in sorted(by_batch)]
    first = {}
    for times, report in rows:
        first[report.batch] = min(times.arrived_ns, first.get(report.batch, times.arrived_ns))
    after_ns = [
        times.taken_ns - before.end_ns
        for (_, before), (times, report) in itertools.pairwise(batches)
        if first[report.batch] < before.end_ns
    ]
    between_ns = statistics.median(after_ns) if after_ns else 0.0
    occupied_s = [(report.end_ns - times.left_ns + between_ns) / _NS for times, report in batches]
    due_s = np.array([times.arrived_ns for times, _ in rows]) / _NS
    simulated = serve(due_s, size, delay_s, lambda number, _: occupied_s[min(number, len(occupied_s) - 1)])
    return simulated, np.repeat(np.arange(len(simulated.size)), simulated.size)
