"""The validity rules that apply to a load, and the reasons that they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.arrivals import OpenLoop
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import validity

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.measure.batches import Batches
    from pytest_torchserve.measure.traffic import Sent
    from pytest_torchserve.telemetry.monitor import Telemetry


def why_invalid(
    schedule: TimedSchedule, sent: Sent, gathered: Batches, workers: int, telemetry: Telemetry | None
) -> tuple[str, ...]:
    """Return every reason why the figures of a load are not representative."""
    responses, evidence = sent.responses, sent.evidence
    end_ns = sent.start_ns + round(schedule.duration_s * 1e9)
    done_ns = [r.done_ns for r, _ in sent.timed]
    grain = max(gathered.sizes, default=1) * max(1, workers)
    reasons = [
        validity.errors(evidence.errors, len(responses)),
        validity.wrong(evidence.wrong_answers, len(responses)),
        validity.too_few(len(sent.timed)),
        validity.other_processes(telemetry),
    ]
    if isinstance(schedule, OpenLoop):
        full = {(t.pid, t.batch): t.phases_s["handle"] for t in sent.reports if t.batch_size == gathered.configured}
        reasons += [validity.schedule_delay(responses), validity.rate(schedule, responses)]
        if schedule.steady:
            due_ns = [r.scheduled_ns for r in responses]
            reasons.append(
                validity.overload(schedule, responses, gathered, list(full.values()), workers)
                or validity.unstable(due_ns, done_ns, sent.start_ns, end_ns, grain)
            )
    else:
        users = schedule.concurrency if isinstance(schedule, ClosedLoop) else grain
        reasons.append(validity.unstable(None, done_ns, sent.start_ns, end_ns, min(grain, users)))
    return validity.found(*reasons)
