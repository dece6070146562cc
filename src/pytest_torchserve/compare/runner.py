"""Compare a candidate with its baseline: deploy both arms, measure, and take both down again."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.compare.archives import ArmArchives
from pytest_torchserve.compare.arms import OF_BASELINE, OF_EITHER
from pytest_torchserve.compare.baseline import BaselineFailsError
from pytest_torchserve.compare.capacity_pairs import measure_capacity_pairs
from pytest_torchserve.compare.init_pairs import measure_init_pairs
from pytest_torchserve.compare.load_pairs import measure_load_pairs
from pytest_torchserve.compare.pair_meter import ProcessWideError
from pytest_torchserve.compare.params import ComparisonParams
from pytest_torchserve.compare.same_process import measure_same_process
from pytest_torchserve.compare.separate_processes import measure_separate_processes
from pytest_torchserve.compare.servers import ArmServers
from pytest_torchserve.errors import WorkerError, WorkerStartError
from pytest_torchserve.torchserve.worker_log import worker_traceback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_torchserve.compare.comparison_setup import ComparisonSetup
    from pytest_torchserve.compare.early_stop import EarlyStop
    from pytest_torchserve.measure import Cell, Context, Run
    from pytest_torchserve.torchserve.server import Server


class ComparisonRunner:
    """The comparisons of a session that names a baseline, with their archives and servers.

    Attributes:
        notices: messages to the user about how cells were measured.
    """

    def __init__(self, setup: ComparisonSetup, server: Server, accounting: TimeAccounting) -> None:
        self._baseline = setup.baseline
        self._accounting = accounting
        self._archives = ArmArchives(setup)
        self._servers = ArmServers(setup, server, accounting)
        self.notices: list[str] = list(setup.baseline.notices)

    def run(self, cell: Cell, candidate: Path, context: Context, early: EarlyStop | None = None) -> Run:
        """Measure both arms of one cell of any kind.

        Args:
            candidate: the candidate's archive.
            early: the looks at the cell before its time is over; None where it takes its time.

        Raises:
            NoBaselineError: the baseline does not have the model, or does not start or answer.
        """
        params = ComparisonParams(cell.deployment, self._baseline.words, context, early=early)
        if self._baseline.has_own_server:
            return self._in_separate_processes(cell, {"baseline": candidate, "candidate": candidate}, params)
        with self._accounting.span(Activity.GOLDEN):
            arms = {"baseline": self._archives.of_baseline(cell.deployment), "candidate": candidate}
        if cell.kind == "init":
            return self._in_separate_processes(cell, arms, params)
        try:
            run = self._in_same_process(cell, arms, params)
            if run.wrong and all(words.startswith(OF_BASELINE) for words in run.wrong):
                raise _fails("answers of the baseline", run.wrong[0].removeprefix(OF_BASELINE))
        except (ProcessWideError, WorkerError) as error:
            # Some calls work only once in a process. An arm that cannot start by itself will fail again, and visibly.
            found = error.found if isinstance(error, ProcessWideError) else "they cannot start in one process"
            self.notices.append(f"{cell.id}: {found}; so each arm had processes of its own")
            return self._in_separate_processes(cell, arms, replace(params, differs=found))
        if any(words.startswith(OF_EITHER) for words in run.wrong):
            # Asked in processes of their own, the arm at fault is known; where neither fails now, this run stays red.
            told = self._in_separate_processes(cell, arms, params)
            return told if told.wrong else run
        return run

    def _in_same_process(self, cell: Cell, arms: Mapping[str, Path], params: ComparisonParams) -> Run:
        """Measure both arms in one worker process."""
        made = self._archives.pair(params.deployment, arms, params.context.budget.seed)
        with self._servers.deployed("pair", params.deployment, made) as endpoint:
            if cell.kind == "load":
                return measure_load_pairs(endpoint, cell, params)
            if cell.kind == "capacity":
                return measure_capacity_pairs(endpoint, cell, params)
            return measure_same_process(endpoint, params)

    def _in_separate_processes(self, cell: Cell, arms: Mapping[str, Path], params: ComparisonParams) -> Run:
        """Measure each arm in processes, and perhaps on a server, of its own."""
        alone = {arm: self._archives.alone(arm, path, params.deployment.device) for arm, path in arms.items()}
        with contextlib.ExitStack() as stack:
            endpoints = {
                arm: stack.enter_context(self._servers.deployed(arm, params.deployment, made))
                for arm, made in alone.items()
            }
            baseline = endpoints["baseline"]
            logged = baseline.server.model_log_size()
            try:
                if cell.kind == "load":
                    run = measure_load_pairs(endpoints, cell, params)
                elif cell.kind == "capacity":
                    run = measure_capacity_pairs(endpoints, cell, params)
                else:
                    measure = measure_init_pairs if cell.kind == "init" else measure_separate_processes
                    run = measure(endpoints, params)
            except WorkerStartError as error:
                if endpoints["candidate"].archive.path in endpoints["candidate"].server.unable:
                    raise
                raise _fails("a worker of the baseline that starts", error.found) from error
            if run.wrong and all(words.startswith(OF_BASELINE) for words in run.wrong):
                traceback = worker_traceback(baseline.server.model_log(logged), baseline.name)
                raise _fails(
                    "answers of the baseline", f"{run.wrong[0].removeprefix(OF_BASELINE)}\n{traceback}".strip()
                )
            return run

    def close(self, *, failed: bool) -> None:
        """Remove what was made for comparisons, and stop the baseline's server."""
        self._archives.close()
        self._servers.close(failed=failed)
        self.notices += self._servers.notices


def _fails(wanted: str, found: str) -> BaselineFailsError:
    """Return the error of a baseline that cannot be measured; the candidate is measured without it."""
    return BaselineFailsError(wanted=wanted, found=found, do="compare with a baseline that works, or leave it out")
