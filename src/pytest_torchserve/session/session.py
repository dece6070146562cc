"""One session: what is deployed, every cell measured once, and what is to be told at the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_torchserve import measure
from pytest_torchserve._util.memo import Memo
from pytest_torchserve.measure import Context
from pytest_torchserve.session.comparisons import Comparisons
from pytest_torchserve.session.deployments import Deployments
from pytest_torchserve.session.shared import Shared
from pytest_torchserve.session.targets import Targets
from pytest_torchserve.telemetry.monitor import Monitor

if TYPE_CHECKING:
    from pytest_torchserve._util.progress import Progress
    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.config import Config, Expected
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.measure import Budget, Cell, Run


class Session:
    """Starts things when they are first needed, and ends them when no test needs them any more.

    Attributes:
        runs: every run so far, by what was asked for.
        notices: what the user should know at the end.
        artifacts: the archives, and what the models are asked.
        deployments: the server, and what is registered there.
        comparisons: what is held against a baseline.
    """

    def __init__(self, config: Config, expected: Expected, progress: Progress, accounting: TimeAccounting) -> None:
        self.config = config
        self.accounting = accounting
        shared = Shared.of(config, accounting)
        self.artifacts, self.journal, self.notices = shared.artifacts, shared.journal, shared.notices
        self.runs: dict[tuple[Cell, Budget], Run] = {}
        self.deployments = Deployments(shared, expected)
        self.comparisons = Comparisons(shared, self.deployments)
        self._targets = Targets(shared, self.deployments, progress.say)
        self._progress = progress
        self._memo = Memo()
        self._monitor: Monitor | None = None

    def run(self, cell: Cell, budget: Budget) -> Run:
        """Return the cell's run, measured at the first call and remembered, as a failure is too."""
        key = (cell, budget)
        if key not in self.runs:
            self.runs[key] = self._memo(key, lambda: self._measure(cell, budget))
        return self.runs[key]

    def _measure(self, cell: Cell, budget: Budget) -> Run:
        if self.config.attach is None:
            self.deployments.start()
        self._progress.start(f"{cell.kind} {cell.id}")
        try:
            run = self._compare(cell, budget) or self._measure_alone(cell, budget)
        finally:
            self._progress.finish()
        self.journal.write("run", run.as_dict())
        if run.left_unanswered:
            self.deployments.drop(cell.deployment)  # what it still has queued would run into the next cell
        return run

    def _compare(self, cell: Cell, budget: Budget) -> Run | None:
        """Measure a cell that is held against a baseline; None for one that is not."""
        if not self.comparisons.concern(cell):
            return None
        return self.comparisons.run(cell, self._context(self.artifacts.inputs(cell.deployment.model), budget))

    def _measure_alone(self, cell: Cell, budget: Budget) -> Run:
        """Measure a cell that is not held against a baseline."""
        if cell.kind in ("load", "capacity"):
            target, inputs = self._targets.target(cell.deployment)
            measure_traffic = measure.measure_load if cell.kind == "load" else measure.measure_capacity
            return measure_traffic(target, cell, self._context(inputs, budget))
        context = self._context(self.artifacts.inputs(cell.deployment.model), budget)
        if cell.kind == "init":
            return measure.measure_init(self.deployments.endpoint(cell.deployment), context)
        endpoint = self.deployments.endpoint(cell.deployment, workers=budget.processes)
        return measure.measure_handle(endpoint, context)

    def _context(self, inputs: ModelInputs, budget: Budget) -> Context:
        return Context(inputs, budget, self._progress.update, self.monitor())

    def monitor(self) -> Monitor:
        """Return what looks at the machine, started at the first call."""
        if self._monitor is None:
            self._monitor = Monitor()
        return self._monitor

    def close(self, *, failed: bool) -> None:
        """Stop the server and whatever is still being prepared; a failed session leaves its logs.

        Each is stopped whatever becomes of the others.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self.artifacts.cancel)
            stack.callback(self.deployments.close, failed=failed)
            stack.callback(self.comparisons.close, failed=failed)
            stack.callback(self._targets.close)
            if self._monitor is not None:
                stack.callback(self._monitor.close)
