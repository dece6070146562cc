"""Batches for two arms: the order of the samples, and the times of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.phase import METHOD_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.model import Sample


def batch_times(responses: Sequence[Response], report: ProbeReport) -> dict[Phase, float]:
    """Return the seconds of one whole batch: the phases in its probe report, and the latency at the client."""
    found = {phase: report.phases_s[phase] for phase in (*METHOD_PHASES, Phase.HANDLE) if phase in report.phases_s}
    if report.streamed:
        found[Phase.FIRST_CHUNK] = (max(r.first_byte_ns for r in responses) - min(r.sent_ns for r in responses)) / 1e9
    found[Phase.LATENCY] = (max(r.done_ns for r in responses) - min(r.sent_ns for r in responses)) / 1e9
    return found


def twice(samples: Sequence[Sample], batch_size: int) -> list[Sample]:
    """Return the samples in an order in which every batch comes twice: once for each arm of a pair."""
    batches = -(-len(samples) // batch_size)
    found: list[Sample] = []
    for first in range(0, batches * batch_size, batch_size):
        batch = [samples[index % len(samples)] for index in range(first, first + batch_size)]
        found += batch * 2
    return found
