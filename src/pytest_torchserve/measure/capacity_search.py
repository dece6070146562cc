"""Probe one deployment, rate by rate, for its capacity: the highest Poisson rate that meets a latency goal."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import traffic, validity, validity_by_kind
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.capacity_plan import CapacityPlan, settling_requests
from pytest_torchserve.measure.capacity_result import Step
from pytest_torchserve.measure.capacity_rule import EarlyAbort, Judged, Outcome, as_latency_s, judge
from pytest_torchserve.measure.evidence import ENOUGH_WRONG, Evidence
from pytest_torchserve.measure.utilisation import batches_by_process, utilisation
from pytest_torchserve.measure.warm_up import WARM_UP_S

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.context import Context
    from pytest_torchserve.measure.traffic import Sent
    from pytest_torchserve.telemetry.monitor import Telemetry

_CLOSED_LOOP_SHARE = 1 / 60
"""The part of the budget that a closed loop gets, which tells what the server makes at most."""


class CapacitySearch:
    """The probes of one deployment's capacity, and their results.

    Attributes:
        saturated: the traffic of the closed loop at the beginning.
        plan: what was probed, and what comes next.
        steps: every probe, in the order of time.
        best: the traffic of the highest rate that was shown to meet the goal, or else of the highest within it.
        telemetry: of `best`, or of the last probe where no rate was within the goal.
        errors, failed: the failed requests of all probes.
    """

    def __init__(self, target: Target, cell: Cell, context: Context) -> None:
        self._target = target
        self._cell = cell
        self._context = context
        self._samples = context.inputs.samples
        self._clock = MonotonicClock()
        self._start_ns = self._clock.now_ns()
        self.plan = self._plan()
        self.steps: list[Step] = []
        self.best: Sent | None = None
        self.telemetry: Telemetry | None = None
        self.errors: Counter[str] = Counter()
        self.failed: list[str] = []
        self._best_rank = (False, 0.0)
        self._errors_at: dict[float, str | None] = {}

    def _plan(self) -> CapacityPlan:
        """Return the plan: what a closed loop makes is what the server makes at most."""
        budget, target = self._context.budget, self._target
        users = 2 * (target.batch_size or 1) * max(1, target.worker_count)
        sent = self._send(ClosedLoop(users, max(1.0, _CLOSED_LOOP_SHARE * budget.capacity_seconds)))
        self.saturated = sent
        throughput = traffic.throughput(sent) or 0.0
        return CapacityPlan.of(throughput, budget.slo_s, budget.capacity_seconds, self._spent_s())

    def _spent_s(self) -> float:
        """Return the seconds since the search, or its last probe, began."""
        start_ns, self._start_ns = self._start_ns, self._clock.now_ns()
        return (self._start_ns - start_ns) / 1e9

    def _send(self, schedule: TimedSchedule, *early_abort: EarlyAbort) -> Sent:
        """Send one schedule. Progress counts the time spent, not the requests of one rate."""
        deployment = self._cell.deployment
        return traffic.send(self._target, self._samples, deployment, schedule, lambda *_: None, *early_abort)

    def run(self) -> None:
        """Probe one rate after the other until the plan ends."""
        while self.plan.saturation_per_s and (following := self.plan.next_probe()) is not None:
            self._context.progress(f"{following[0]:.3g}/s", self.plan.spent_s / self.plan.budget_s)
            self._probe(*following)

    def _probe(self, rate_per_s: float, seconds: float) -> None:
        """Send Poisson arrivals at this rate, and judge them."""
        schedule = Poisson(rate_per_s, seconds, self._context.budget.seed + len(self.steps))
        # This also drains what too high a rate left in the queue.
        traffic.warm_up_server(self._target, self._samples, WARM_UP_S)
        snapshot_ns = self._context.monitor.snapshot()
        planned = sum(1 for _ in schedule.departures_ns())
        early_abort = EarlyAbort(self.plan.slo_s, self.plan.goal, planned)
        sent = self._send(schedule, early_abort)
        telemetry = self._context.monitor.between(snapshot_ns)
        self._remember_errors(rate_per_s, sent, lost=early_abort.lost)
        judged = self._judge(rate_per_s, sent, lost=early_abort.lost)
        self.steps.append(self._step(schedule, sent, judged, telemetry))
        self.plan.add(rate_per_s, judged, self._spent_s())
        rank = (judged.outcome is Outcome.MEETS, rate_per_s)
        if judged.value_s <= self.plan.slo_s and rank > self._best_rank:
            self.best, self._best_rank = sent, rank
        if self.best is sent or self.best is None:
            self.telemetry = telemetry

    def _judge(self, rate_per_s: float, sent: Sent, *, lost: bool) -> Judged:
        """Judge one rate by its requests once the queue has settled; a lost one by all that there are."""
        use = utilisation(
            batches_by_process(sent.timed), rate_per_s, self._target.batch_size, max(1, self._target.worker_count)
        )
        use = rate_per_s / self.plan.saturation_per_s if use is None else use
        cut = 0 if lost else settling_requests(len(sent.responses), use)
        settled = sorted(sent.responses, key=lambda response: response.scheduled_ns)[cut:]
        # By identity: a light copy of a large answer is the one that is kept.
        right = {id(response) for response, _ in sent.timed}
        latencies = [as_latency_s(one, self.plan.slo_s, right=id(one) in right) for one in settled]
        return judge(latencies, self.plan.goal, self.plan.slo_s, use, lost=lost)

    def _step(self, schedule: Poisson, sent: Sent, judged: Judged, telemetry: Telemetry | None) -> Step:
        """Return what is kept of one probe."""
        return Step.of(
            [response.latency_s for response, _ in sent.timed],
            rate_per_s=schedule.rate_per_s,
            seconds=schedule.duration_s,
            requests=len(sent.responses),
            overlatency=len(sent.responses) - traffic.within(sent, self.plan.slo_s),
            outcome=judged.outcome,
            goal_s=_finite(judged.value_s),
            upper_s=_finite(judged.upper_s),
            effective_size=judged.effective_size,
            mean_batch=batches(sent.reports, {}, self._target.batch_size).mean_size,
            invalid=validity_by_kind.of_rate(
                sent, telemetry if self._target.owned else None, meets=judged.outcome is Outcome.MEETS
            ),
        )

    def _remember_errors(self, rate_per_s: float, sent: Sent, *, lost: bool) -> None:
        """Keep the failed requests of one rate; those that were given up with their probe have not failed.

        A server may well refuse requests at too high a rate: the rate misses the goal, and the search remains valid.
        """
        given_up = {one.error or "" for one in sent.responses if lost and one.failure is Failure.UNANSWERED}
        failed = [words for words in sent.evidence.failed if not any(error in words for error in given_up)]
        errors = {kind: n for kind, n in sent.evidence.errors.items() if not (given_up and kind == Failure.UNANSWERED)}
        self.errors += Counter(errors)
        self.failed += failed[: ENOUGH_WRONG - len(self.failed)]
        self._errors_at[rate_per_s] = validity.errors(errors, len(sent.responses))

    @property
    def evidence(self) -> Evidence:
        """The evidence at the best rate, with the failed requests of all rates."""
        best = self.best.evidence if self.best else Evidence()
        return replace(best, failed=self.failed, errors=self.errors)

    def why_invalid(self) -> tuple[str, ...]:
        """Return why the probes of the rates that the result rests on are not representative.

        Probes of other rates are only part of the curve. Where no rate met the goal, errors at the lowest rate are a
        reason too: they show that the obstacle was not the latency.
        """
        if not self.steps:
            return validity.found(
                validity_by_kind.of_failed_requests(self.saturated) or validity.nothing_probed(len(self.steps))
            )
        meets, misses, decisive = self.plan.meets, self.plan.misses, self.plan.decisive
        last = {step.rate_per_s: step for step in self.steps if step.rate_per_s in decisive}
        reasons = [(rate, reason) for rate, step in sorted(last.items()) for reason in step.invalid]
        errors = self._errors_at.get(misses) if meets is None and misses is not None else None
        if errors is not None and misses is not None:
            reasons.append((misses, errors))
        return tuple(f"at {rate_per_s:.3g}/s {reason}" for rate_per_s, reason in reasons)


def _finite(seconds: float) -> float | None:
    """Return None for infinity, which JSON does not know."""
    return seconds if math.isfinite(seconds) else None
