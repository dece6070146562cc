"""A session: the deployments, every cell measured once, and the notices for the end."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve import measure
from pytest_torchserve._util.memo import Memo
from pytest_torchserve.errors import ArchiveError, InputError, OptionError
from pytest_torchserve.measure import Context
from pytest_torchserve.session.comparisons import Comparisons
from pytest_torchserve.session.deployments import Deployments
from pytest_torchserve.session.own_answers import OwnAnswers
from pytest_torchserve.session.shared import Shared
from pytest_torchserve.session.targets import Targets
from pytest_torchserve.telemetry.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_torchserve._util.progress import Progress
    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.config import Config, Expected
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.measure import Budget, Cell, Run


class Session:
    """A session, which starts servers and deployments at first need, and ends them when no test needs them any more.

    Args:
        recovered: returns the run of a cell from a journal; None for a session that measures.

    Attributes:
        runs: every run so far, by cell and budget.
        notices: notices for the user at the end.
        artifacts: the builder of inputs and archives.
        deployments: the server, and the deployments registered there.
        comparisons: the comparisons with a baseline.
    """

    def __init__(
        self,
        config: Config,
        expected: Expected,
        progress: Progress,
        accounting: TimeAccounting,
        recovered: Callable[[Cell], Run] | None = None,
    ) -> None:
        self.config = config
        self._recovered = recovered
        self.accounting = accounting
        shared = Shared.of(config, accounting)
        self.artifacts, self.journal, self.notices = shared.artifacts, shared.journal, shared.notices
        self.runs: dict[tuple[Cell, Budget], Run] = {}
        self.deployments = Deployments(shared, expected)
        self.comparisons = Comparisons(shared, self.deployments, expected.plan)
        self._own_answers = OwnAnswers(shared, self.deployments)
        self.deployments.when_died += [self.comparisons.forget_server, self._own_answers.forget_failures]
        self._targets = Targets(shared, self.deployments, progress.say)
        self._progress = progress
        self._memo = Memo()
        self._monitor: Monitor | None = None

    def run(self, cell: Cell, budget: Budget) -> Run:
        """Return the cell's run, measured at the first call; runs and failures are remembered."""
        key = (cell, budget)
        if key not in self.runs:
            self.runs[key] = self._memo(key, lambda: self._measure(cell, budget))
        return self.runs[key]

    def _measure(self, cell: Cell, budget: Budget) -> Run:
        if self._recovered is not None:
            return self._recovered(cell)
        if self.config.attach is None:
            self.deployments.start()
        self._progress.start(f"{cell.kind} {cell.id}")
        try:
            run = self._compare(cell, budget) or self._measure_alone(cell, budget)
        except Exception as error:
            self._raise_if_died(error)
            raise
        finally:
            self._progress.finish()
        if run.errors or run.wrong or not run.seconds:
            self._raise_if_died(None)
        self.journal.write("run", run.as_dict())
        self.deployments.explain(run.errors)
        if run.left_unanswered:
            self.deployments.drop(cell.deployment)  # requests still queued would run into the next cell
        return run

    def _raise_if_died(self, error: Exception | None) -> None:
        """Raise the server's death, where it died: it explains the error, or the failed requests, of a cell."""
        of_no_server = isinstance(error, (ArchiveError, InputError, OptionError))
        died = self.deployments.why_died(failed=not of_no_server)
        if died is not None:
            raise died from error

    def _compare(self, cell: Cell, budget: Budget) -> Run | None:
        """Return the run of a cell that is compared with a baseline; None for any other cell."""
        if not self.comparisons.compares(cell):
            return None
        return self.comparisons.run(cell, self._context(self._inputs(cell), budget))

    def _measure_alone(self, cell: Cell, budget: Budget) -> Run:
        """Measure a cell without a comparison."""
        if cell.kind in ("load", "capacity"):
            inputs = self._inputs(cell) if self.config.attach is None else None
            target, inputs = self._targets.target(cell, inputs)
            measure_traffic = measure.measure_load if cell.kind == "load" else measure.measure_capacity
            return measure_traffic(target, cell, self._context(inputs, budget))
        if cell.kind == "init":
            return self._measure_init(cell, budget)
        context = self._context(self._inputs(cell), budget)
        workers = cell.deployment.workers or budget.processes
        endpoint = self.deployments.endpoint(cell.deployment, workers=workers)
        context = replace(context, budget=replace(budget, processes=workers))
        return measure.measure_handle(endpoint, context)

    def _measure_init(self, cell: Cell, budget: Budget) -> Run:
        """Measure an init cell, and ask the model's own answers, where no others are known, of its last worker."""
        inputs = self.artifacts.inputs(cell.deployment.model)
        endpoint = self.deployments.endpoint(cell.deployment)
        run = measure.measure_init(endpoint, self._context(inputs, budget))
        if not run.wrong:
            self._own_answers.ask_early(cell.deployment, inputs)
        return run

    def _inputs(self, cell: Cell) -> ModelInputs:
        """Return the inputs of the cell's model, with its own answers where no others are known."""
        return self._own_answers.complete(cell.deployment, self.artifacts.inputs(cell.deployment.model))

    def _context(self, inputs: ModelInputs, budget: Budget) -> Context:
        return Context(inputs, budget, self._progress.update, self.monitor())

    def monitor(self) -> Monitor:
        """Return the monitor of the machine, started at the first call."""
        if self._monitor is None:
            self._monitor = Monitor()
        return self._monitor

    def close(self, *, failed: bool) -> None:
        """Stop the servers, the traffic engine and all preparations; a failed session leaves its logs.

        Each part is stopped even when stopping another part fails.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self.artifacts.cancel)
            stack.callback(self.deployments.close, failed=failed)
            stack.callback(self.comparisons.close, failed=failed)
            stack.callback(self._targets.close)
            if self._monitor is not None:
                stack.callback(self._monitor.close)
