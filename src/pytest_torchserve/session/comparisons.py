"""Comparisons of a session's cells with the baseline: runs, cells not compared and why, verdicts at the end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pytest_torchserve.compare import verdict
from pytest_torchserve.compare.baseline import BaselineFailsError, NoBaselineError
from pytest_torchserve.compare.comparison_setup import ComparisonSetup
from pytest_torchserve.compare.load_blocks import BLOCK_DELAYS
from pytest_torchserve.compare.runner import ComparisonRunner
from pytest_torchserve.measure.cell import FEWEST_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pytest_torchserve.compare.comparison import Comparison
    from pytest_torchserve.compare.early_stop import EarlyStop
    from pytest_torchserve.compare.plan import Plan
    from pytest_torchserve.config import Config
    from pytest_torchserve.measure import Cell, Context, Run
    from pytest_torchserve.session.deployments import Deployments
    from pytest_torchserve.session.shared import Shared


def why_alone(cell: Cell, config: Config) -> str:
    """Return why a cell cannot be compared with a baseline, in words; '' where it can."""
    if cell.kind in ("load", "capacity") and config.engine is not None:
        return "Locust sends to one arm only"
    if cell.kind != "load":
        return ""
    delay_s = cell.deployment.batching.max_batch_delay_ms / 1e3
    wanted_s, found_s = 2 * FEWEST_SAMPLES * BLOCK_DELAYS * delay_s, config.budget.baseline_seconds
    if wanted_s > found_s:
        return (
            f"blocks of {BLOCK_DELAYS} batch delays would take {wanted_s:.0f} s, a cell is given {found_s:.0f} s "
            "(--ts-baseline-seconds)"
        )
    return ""


class Comparisons:
    """Comparisons of cells with the session's baseline.

    Attributes:
        uncompared: the reason by cell, for cells that were to be compared and were not.
        results: one comparison for each phase of each compared cell, once `compute_verdicts` has run.
    """

    def __init__(
        self,
        shared: Shared,
        deployments: Deployments,
        plan: Plan | None = None,
    ) -> None:
        self.uncompared: dict[str, str] = {}
        self.results: list[Comparison] = []
        self._shared = shared
        self._deployments = deployments
        self._plan = plan
        self._runner: ComparisonRunner | None = None

    def compares(self, cell: Cell) -> bool:
        """Return whether the cell is to be compared with a baseline; say so where one cannot be."""
        if self._shared.config.baseline is None:
            return False
        why = why_alone(cell, self._shared.config)
        if not why:
            return True
        line = f"{cell.kind} {cell.id}: measured alone; {why}"
        self._shared.notices.extend([] if line in self._shared.notices else [line])
        return False

    def run(self, cell: Cell, context: Context) -> Run | None:
        """Return the run of a cell compared with the baseline; None where the baseline does not have it, or fails."""
        try:
            with self._planned(cell, context) as (within, early):
                candidate = self._shared.artifacts.archive(cell.deployment)
                if self._runner is None:
                    self._runner = self._make_runner()
                return self._runner.run(cell, candidate.path, within, early)
        except NoBaselineError as error:
            died = self._deployments.why_died(failed=isinstance(error, BaselineFailsError))
            if died is not None:  # no fault of the baseline's
                raise died from error
            name, why = f"{cell.kind} {cell.id}", f"no baseline: {error.wanted}; found: {error.found}"
            if isinstance(error, BaselineFailsError):
                why = f"the baseline fails: wanted {error.wanted}, found {error.found}"
            self.uncompared[name] = why
            self._shared.journal.write("uncompared", {"cell": name, "why": why})
            return None

    @contextlib.contextmanager
    def _planned(self, cell: Cell, context: Context) -> Iterator[tuple[Context, EarlyStop | None]]:
        """Give a cell its share of the session's time, and its looks; note how long it took."""
        if self._plan is None or cell.kind == "capacity":
            yield context, None
            return
        name = f"{cell.kind} {cell.id}"
        budget = replace(context.budget, baseline_seconds=self._plan.share_s(name))
        begun_s = time.monotonic()
        try:
            yield replace(context, budget=budget), self._plan.early_stop()
        finally:
            self._plan.ended(name, time.monotonic() - begun_s)

    def _make_runner(self) -> ComparisonRunner:
        config = self._shared.config
        assert config.baseline is not None  # noqa: S101 - the caller has checked
        setup = ComparisonSetup(
            baseline=config.baseline,
            weights=config.weights,
            data=config.data,
            store=config.store,
            server=config.server,
            baseline_server=config.baseline_server,
            keep=config.keep,
        )
        return ComparisonRunner(setup, self._deployments.start(), self._shared.accounting)

    def forget_server(self) -> None:
        """Let the next comparison begin with another server: the session's has died."""
        try:
            self.close(failed=True)
        finally:
            self._runner = None

    def compute_verdicts(self, runs: Collection[Run]) -> None:
        """Compute the verdicts on all compared runs; the number of comparisons is known only at the end."""
        self.results = verdict.compare(runs, self._shared.config.rules)
        if self._shared.config.baseline is not None and runs:
            self._shared.journal.write("rules", asdict(self._shared.config.rules))
        for comparison in self.results:
            self._shared.journal.write("verdict", asdict(comparison))

    @property
    def fails(self) -> bool:
        """True when a verdict fails the session, or a cell that was not compared does."""
        rules = self._shared.config.rules
        return bool(verdict.failing(self.results, rules) or (rules.strict and self.uncompared))

    def close(self, *, failed: bool) -> None:
        """Stop the servers of the comparisons; a failed session leaves its logs."""
        if self._runner is not None:
            try:
                self._runner.close(failed=failed)
            finally:
                self._shared.notices.extend(self._runner.notices)
