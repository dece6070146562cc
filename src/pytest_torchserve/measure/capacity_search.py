"""Probe one deployment, rate by rate, for its capacity: the highest Poisson rate that meets a latency goal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure import traffic, validity_by_kind
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.capacity_result import Step
from pytest_torchserve.measure.early_stopping import (
    MOST_STEPS,
    SPARE,
    EarlyAbort,
    Outcome,
    decidable_goal,
    decide,
    least_sample,
)
from pytest_torchserve.measure.evidence import ENOUGH_WRONG, Evidence

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.loadgen.target import Target
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.context import Context
    from pytest_torchserve.measure.traffic import Sent
    from pytest_torchserve.telemetry.monitor import Telemetry

_GUESS_S = 3.0
_GUESS_SHARE = 0.5
"""The search begins at this share of a closed loop's throughput. A queue of random arrivals cannot use all of it."""

_SHORTEST_S = 5.0


class CapacitySearch:
    """The probes of one deployment's capacity, and their results."""

    def __init__(self, target: Target, cell: Cell, context: Context) -> None:
        self._target = target
        self._cell = cell
        self._context = context
        self._samples = context.inputs.samples
        self.goal = 0.0
        self.steps: list[Step] = []
        self.best: Sent | None = None
        self.telemetry: Telemetry | None = None
        self.errors: Counter[str] = Counter()
        self.failed: list[str] = []
        self._errors_at: dict[float, str | None] = {}

    def guess(self) -> float:
        """Return half of a closed loop's throughput, and set `goal` to the percentile that the budget can decide."""
        users = 2 * (self._target.batch_size or 1) * max(1, self._target.worker_count)
        sent = self._send(ClosedLoop(users, _GUESS_S))
        rate = max(1.0, _GUESS_SHARE * (traffic.throughput(sent) or 0.0))
        self.goal = decidable_goal(rate * self._context.budget.capacity_seconds)
        return rate

    def _send(self, schedule: TimedSchedule, *early_abort: EarlyAbort) -> Sent:
        """Send one schedule. Progress counts the rates probed, not the requests of one rate."""
        deployment = self._cell.deployment
        return traffic.send(self._target, self._samples, deployment, schedule, lambda *_: None, *early_abort)

    def probe(self, rate_per_s: float) -> Outcome:
        """Send Poisson arrivals at this rate until the goal can be decided or the budget of one rate is spent."""
        budget = self._context.budget
        wanted_s = SPARE * least_sample(self.goal) / rate_per_s
        schedule = Poisson(rate_per_s, min(max(wanted_s, _SHORTEST_S), budget.capacity_seconds), budget.seed)
        traffic.warm_up_server(self._target, self._samples)  # also drains what too high a rate left in the queue
        snapshot_ns = self._context.monitor.snapshot()
        early_abort = EarlyAbort(budget.slo_s, self.goal, sum(1 for _ in schedule.departures_ns()))
        self._context.progress(f"{rate_per_s:.3g}/s", len(self.steps) / MOST_STEPS)
        sent = self._send(schedule, early_abort)
        telemetry = self._context.monitor.between(snapshot_ns)
        self._remember_errors(rate_per_s, sent)
        overlatency = len(sent.responses) - traffic.within(sent, budget.slo_s)
        outcome = decide(len(sent.responses), overlatency, self.goal)
        latencies = [response.latency_s for response, _ in sent.timed]
        invalid = validity_by_kind.of_rate(sent, telemetry if self._target.owned else None)
        step = Step.of(
            latencies,
            rate_per_s=rate_per_s,
            requests=len(sent.responses),
            overlatency=overlatency,
            outcome=outcome,
            mean_batch=batches(sent.reports, {}, self._target.batch_size).mean_size,
            invalid=invalid,
        )
        self.steps.append(step)
        if outcome is Outcome.MEETS:
            self.best = sent
        if self.best is sent or self.best is None:
            self.telemetry = telemetry
        return outcome

    def _remember_errors(self, rate_per_s: float, sent: Sent) -> None:
        """Keep the failed requests of one rate.

        A server may well refuse requests at too high a rate: the rate misses the goal, and the search remains valid.
        """
        self.errors += sent.evidence.errors
        self.failed += sent.evidence.failed[: ENOUGH_WRONG - len(self.failed)]
        self._errors_at[rate_per_s] = validity_by_kind.of_failed_requests(sent)

    @property
    def evidence(self) -> Evidence:
        """The evidence at the best rate, with the failed requests of all rates."""
        best = self.best.evidence if self.best else Evidence()
        return replace(best, failed=self.failed, errors=self.errors)

    def why_invalid(self, meets: float | None, misses: float | None) -> tuple[str, ...]:
        """Return why the probes of the two rates that enclose the capacity are not representative.

        Probes of other rates are only part of the curve. Where no rate met the goal, errors at the lowest rate are a
        reason too: they show that the obstacle was not the latency.
        """
        reasons = [
            (step.rate_per_s, reason)
            for step in self.steps
            if step.rate_per_s in (meets, misses)
            for reason in step.invalid
        ]
        errors = self._errors_at.get(misses) if meets is None and misses is not None else None
        if errors is not None and misses is not None:
            reasons.append((misses, errors))
        return tuple(f"at {rate_per_s:.3g}/s {reason}" for rate_per_s, reason in reasons)
