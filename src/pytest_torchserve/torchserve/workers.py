"""The workers of one registration: their number, status, start and end."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.errors import ManagementError, ServerError, WorkerError, WorkerStartError
from pytest_torchserve.loadgen.target import Worker
from pytest_torchserve.torchserve.worker_log import worker_traceback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psutil

    from pytest_torchserve.torchserve.server import Server

_BESIDE_STARTUP_S = 180.0
"""For all that TorchServe does before and after workers start; it then says itself which worker did not."""

_GONE_S = 60.0
_LOG_S = 3.0
_READY_S = 30.0


class Workers:
    """The workers of one registration.

    Args:
        name: the name of the registration.
        accounting: the accounting that the time is booked in.
    """

    def __init__(self, server: Server, name: str, accounting: TimeAccounting) -> None:
        self._server = server
        self._name = name
        self._accounting = accounting

    def current(self) -> list[Worker]:
        """Return the workers, ready or not."""
        described = self._server.management.describe(self._name)
        return [Worker(pid=int(worker["pid"]), status=worker["status"]) for worker in described["workers"]]

    def scale(self, workers: int, *, startup_timeout_s: float) -> int:
        """Scale to exactly this many workers; return when all are ready and the workers scaled away are gone.

        A process that a worker started ends with it: left alone, it would use the machine during other measurements.

        TorchServe answers a moment before it calls the last worker READY (`WorkerThread.setState` informs its
        listeners first), so the model's description is awaited as well.

        Args:
            startup_timeout_s: how long TorchServe waits until a worker is ready.

        Returns:
            The time of TorchServe's answer, in monotonic nanoseconds.

        Raises:
            WorkerStartError: a worker could not start; the message holds its traceback.
            WorkerError: a worker did not become ready, or did not end.
            ServerError: the server is gone.
        """
        before = self._server.model_log_size()
        old = {worker.pid for worker in self.current()}
        helpers = self.helpers()
        timeout_s, start_s = startup_timeout_s + _BESIDE_STARTUP_S, time.monotonic()
        try:
            with self._accounting.span(Activity.WORKER_LOADS):
                self._server.management.scale(self._name, workers, timeout_s=timeout_s)
                answered_ns = time.monotonic_ns()
                settled = wait_until(lambda: self._ready() == workers, timeout_s=_READY_S)
        except ManagementError as error:
            if not self._server.alive():
                raise ServerError(
                    wanted=f"{workers} workers of {self._name}",
                    found=f"the server ended; the end of its log:\n{self._server.log_tail()}",
                    do=f"read the logs in {self._server.folder}",
                ) from error
            raise self._start_error(error, workers, before, time.monotonic() - start_s, startup_timeout_s) from error

        if not settled:
            raise WorkerError(
                wanted=f"{workers} ready workers of {self._name}",
                found=f"{self.current()}, {_READY_S:.0f} s after TorchServe said that they were",
                do=f"read the logs in {self._server.folder}",
            )
        ended = old - {worker.pid for worker in self.current()}
        self._await_end(ended)
        self.end_helpers({pid: found for pid, found in helpers.items() if pid in ended})
        return answered_ns

    def _start_error(
        self, error: ManagementError, workers: int, log_start: int, spent_s: float, startup_timeout_s: float
    ) -> WorkerStartError:
        """Return the error of a worker that could not start: its traceback, or the time-out that it has met."""
        traceback = self._traceback_since(log_start)
        do = "mend the handler or install what it imports"
        if not traceback and spent_s >= startup_timeout_s:
            do = (
                f"--ts-startup-timeout=SECONDS waits longer than {startup_timeout_s:g} s for a worker that is not ready"
            )
        return WorkerStartError(
            wanted=f"{workers} workers of {self._name}",
            found=f"{error.found}\nthe worker's own words:\n{traceback or self._server.log_tail()}",
            do=f"{do}; the server's logs are in {self._server.folder}",
        )

    def helpers(self) -> dict[int, list[psutil.Process]]:
        """Return the processes that each worker has started; only those that have started any."""
        found = {worker.pid: _children(worker.pid) for worker in self.current() if worker.pid > 0}
        return {pid: children for pid, children in found.items() if children}

    def end_helpers(self, helpers: Mapping[int, Sequence[psutil.Process]]) -> None:
        """Kill the processes that have outlived the workers that started them, once those are gone."""
        import psutil  # noqa: PLC0415 - not needed to collect tests

        if not helpers:
            return
        self._await_end(set(helpers))
        left = [process for children in helpers.values() for process in children if process.is_running()]
        for process in left:  # `is_running` compares start times: a pid that is another's by now is not touched
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_GONE_S)

    def _traceback_since(self, start: int) -> str:
        """Return the last traceback in the workers' log from byte `start` on.

        The server may answer before the last lines have reached the log. So the log must hold a traceback and
        have stopped growing: a chain of exceptions has several tracebacks.
        """
        sizes = [-1]

        def settled() -> bool:
            sizes.append(self._server.model_log_size())
            return sizes[-1] == sizes[-2] and bool(worker_traceback(self._server.model_log(start), self._name))

        wait_until(settled, timeout_s=_LOG_S, every_s=0.25)
        return worker_traceback(self._server.model_log(start), self._name)

    def _await_end(self, pids: set[int]) -> None:
        """Wait until these processes are gone: a process that is still ending would be measured, too."""
        import psutil  # noqa: PLC0415 - not needed to collect tests

        with self._accounting.span(Activity.WORKER_LOADS):
            gone = wait_until(lambda: not any(pid > 0 and psutil.pid_exists(pid) for pid in pids), timeout_s=_GONE_S)
        if not gone:
            raise WorkerError(
                wanted=f"the end of processes {sorted(pids)}, workers of {self._name} that were scaled away",
                found=f"some still run after {_GONE_S:.0f} s",
                do=f"read the logs in {self._server.folder}",
            )

    def _ready(self) -> int:
        """Return how many workers are ready; -1 while any worker is not."""
        statuses = [worker.status for worker in self.current()]
        return len(statuses) if set(statuses) <= {"READY"} else -1


def _children(pid: int) -> list[psutil.Process]:
    """Return the processes that a process has started, and those that they have started."""
    import psutil  # noqa: PLC0415 - not needed to collect tests

    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
