"""Which validity rules apply to which kind of measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.arrivals import OpenLoop
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import validity
from pytest_torchserve.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.measure.batches import Batches
    from pytest_torchserve.measure.evidence import Evidence
    from pytest_torchserve.measure.handle_meter import HandleMeter
    from pytest_torchserve.measure.traffic import Sent
    from pytest_torchserve.measure.warm_up import ServerWarmUp
    from pytest_torchserve.telemetry.monitor import Telemetry


def of_init(evidence: Evidence, telemetry: Telemetry | None) -> tuple[str, ...]:
    """Return every reason why the figures of worker starts are not representative."""
    return validity.found(
        validity.errors(evidence.errors, evidence.judged),
        validity.wrong(evidence.wrong_answers, evidence.judged),
        validity.other_processes(telemetry),
        validity.throttled(telemetry),
    )


def of_handle(evidence: Evidence, meter: HandleMeter, telemetry: Telemetry | None) -> tuple[str, ...]:
    """Return every reason why the figures of full batches are not representative."""
    return validity.found(
        validity.errors(evidence.errors, evidence.judged),
        validity.wrong(evidence.wrong_answers, evidence.judged),
        validity.never_steady(meter.steady)
        or validity.unstable(None, meter.done_ns, meter.started_ns, max(meter.done_ns, default=0), 1, unit=" batches"),
        validity.other_processes(telemetry),
        validity.throttled(telemetry),
    )


def of_rate(sent: Sent, telemetry: Telemetry | None, *, meets: bool) -> tuple[str, ...]:
    """Return every reason why the probe of one rate, in a search for capacity, is not representative.

    Args:
        meets: whether the rate was shown to meet the goal; a queue that grows is no surprise at one that was not.
    """
    return validity.found(
        validity.littles_law(sent.responses) if meets else None,
        validity.schedule_delay(sent.responses),
        validity.wrong(sent.evidence.wrong_answers, len(sent.responses)),
        validity.other_processes(telemetry),
        validity.throttled(telemetry),
    )


def of_failed_requests(sent: Sent) -> str | None:
    """Return how many requests of a load failed, in words; None where none did."""
    return validity.errors(sent.evidence.errors, len(sent.responses))


def of_comparison(errors: Mapping[str, int], wrong_answers: int, judged: int) -> tuple[str, ...]:
    """Return every reason why a comparison is not representative; other processes affect both arms alike."""
    return validity.found(validity.errors(errors, judged), validity.wrong(wrong_answers, judged))


def of_load(
    schedule: TimedSchedule,
    sent: Sent,
    gathered: Batches,
    workers: int,
    telemetry: Telemetry | None,
    warm_up: ServerWarmUp,
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
        validity.still_warming_up(warm_up),
        validity.other_processes(telemetry),
        validity.throttled(telemetry),
    ]
    if isinstance(schedule, OpenLoop):
        whole = [t for t in sent.reports if t.batch_size == gathered.configured and Phase.HANDLE in t.phases_s]
        full = {(t.pid, t.batch): t.phases_s[Phase.HANDLE] for t in whole}
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
