"""Start one worker, and time its start and its first response."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.phase import PROBED_INIT_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.target import ScalableTarget
    from pytest_torchserve.model import Sample


@dataclass(frozen=True, slots=True)
class Start:
    """The start of one worker.

    Attributes:
        seconds: seconds by phase of the start.
        report: the probe report of the worker's first response.
    """

    seconds: dict[Phase, float]
    report: ProbeReport


def start_worker(
    target: ScalableTarget, samples: Sequence[Sample], check: Callable[[Response], ProbeReport | None]
) -> Start | None:
    """End all workers, start one, and send it one request. Return None where `check` rejects the response.

    Raises:
        MeasurementError: another client's request reached the new worker first.
    """
    if target.workers():
        target.scale(0)
    start_ns = time.monotonic_ns()
    total_s = (target.scale(1) - start_ns) / 1e9
    (first,) = ask(target, samples[:1], MonotonicClock())
    report = check(first)
    if report is None:
        return None
    if report.batch != 1:
        raise MeasurementError(
            wanted="the first batch of a new worker",
            found=f"batch {report.batch}: something else sent requests to {target.name}",
            do="leave the server to this session",
        )
    init = report.init_s
    seconds = {
        **{phase: init[phase] for phase in PROBED_INIT_PHASES if phase in init},
        Phase.SPAWN_AND_IMPORT: total_s - init["initialize"],
        Phase.TOTAL: total_s,
        Phase.FIRST_INFERENCE: (first.done_ns - first.sent_ns) / 1e9,
    }
    return Start(seconds, report)
