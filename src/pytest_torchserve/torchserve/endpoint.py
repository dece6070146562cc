"""A deployment that is live on a server: scale it, ask what its workers are, drain it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.errors import ManagementError, ServerError, WorkerError
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.target import Worker, ask
from pytest_torchserve.torchserve import archive
from pytest_torchserve.torchserve.worker_log import worker_traceback

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import OnResponses, Schedule
    from pytest_torchserve.loadgen.target import Engine
    from pytest_torchserve.model import Sample
    from pytest_torchserve.torchserve.server import Server

SCALE_TIMEOUT_S = 300.0
RESPONSE_TIMEOUT_S = 300
_GONE_S = 60.0
_LOG_S = 3.0
_READY_S = 30.0
_FRONTEND_TIMES_S = 2.0


class Endpoint:
    """One registration at one server.

    Args:
        server: a started server.
        deployment: what to register.
        made: its .mar, in the server's store.
        accounting: where the time is booked.
        engine: what sends the requests.

    Attributes:
        worker_count: how many workers it was scaled to.
        engine: as given; a full batch is a stopwatch, and always this process's.
    """

    def __init__(
        self,
        server: Server,
        deployment: Deployment,
        made: archive.Archive,
        accounting: TimeAccounting,
        engine: Engine = client.send,
    ) -> None:
        self.server = server
        self.deployment = deployment
        self.archive = made
        self.name = deployment.name
        self.worker_count = 0
        self._accounting = accounting
        self.engine = engine

    @property
    def path(self) -> str:
        """Where predictions are asked for."""
        return f"/predictions/{self.name}"

    def register(self) -> None:
        """Register without workers.

        Raises:
            ArchiveError: the archive is corrupt. TorchServe would take it, and fail later with other words.
            ManagementError: the server refused the archive.
        """
        with self._accounting.span(Activity.ARCHIVES):
            archive.check(self.archive.path)
        with self._accounting.span(Activity.WORKER_LOADS):
            self.server.management.register(
                self.name,
                self.archive.path.name,
                self.deployment.batching,
                response_timeout_s=RESPONSE_TIMEOUT_S,
            )

    def scale(self, workers: int) -> int:
        """Bring it to exactly this many workers; returns when they are ready and those that left are gone.

        TorchServe answers a hair before it calls the last worker READY (`WorkerThread.setState` tells its
        listeners first), so the description is awaited as well.

        Returns:
            When TorchServe answered, in monotonic nanoseconds.

        Raises:
            WorkerError: a worker did not become ready; the message holds its own traceback.
            ServerError: the server is gone.
        """
        self.worker_count = workers
        before = self.server.model_log_size()
        old = {worker.pid for worker in self.workers()}
        try:
            with self._accounting.span(Activity.WORKER_LOADS):
                self.server.management.scale(self.name, workers, timeout_s=SCALE_TIMEOUT_S)
                answered_ns = time.monotonic_ns()
                settled = wait_until(lambda: self._ready() == workers, timeout_s=_READY_S)
        except ManagementError as error:
            if not self.server.alive():
                raise ServerError(
                    wanted=f"{workers} workers of {self.name}",
                    found=f"the server ended; the end of its log:\n{self.server.log_tail()}",
                    do=f"read the logs in {self.server.folder}",
                ) from error
            traceback = self._traceback_since(before)
            raise WorkerError(
                wanted=f"{workers} workers of {self.name}",
                found=f"{error.found}\nthe worker's own words:\n{traceback or self.server.log_tail()}",
                do="mend the handler or install what it imports; the server's logs are in " + str(self.server.folder),
            ) from error

        if not settled:
            raise WorkerError(
                wanted=f"{workers} ready workers of {self.name}",
                found=f"{self.workers()}, {_READY_S:.0f} s after TorchServe said that they were",
                do=f"read the logs in {self.server.folder}",
            )
        self._await_end(old - {worker.pid for worker in self.workers()})
        return answered_ns

    def _traceback_since(self, start: int) -> str:
        """The worker's traceback. The server may answer before the last lines have reached the log.

        So the log must hold one and have stopped growing; a chain of exceptions has several.
        """
        sizes = [-1]

        def settled() -> bool:
            sizes.append(self.server.model_log_size())
            return sizes[-1] == sizes[-2] and bool(worker_traceback(self.server.model_log(start)))

        wait_until(settled, timeout_s=_LOG_S, every_s=0.25)
        return worker_traceback(self.server.model_log(start))

    def _await_end(self, pids: set[int]) -> None:
        """Wait until these processes are gone: a dying one would be measured along."""
        import psutil  # noqa: PLC0415 - not needed to collect tests

        with self._accounting.span(Activity.WORKER_LOADS):
            gone = wait_until(lambda: not any(pid > 0 and psutil.pid_exists(pid) for pid in pids), timeout_s=_GONE_S)
        if not gone:
            raise WorkerError(
                wanted=f"the end of processes {sorted(pids)}, workers of {self.name} that were scaled away",
                found=f"some still run after {_GONE_S:.0f} s",
                do=f"read the logs in {self.server.folder}",
            )

    def _ready(self) -> int:
        """How many workers are ready; -1 while there are others."""
        statuses = [worker.status for worker in self.workers()]
        return len(statuses) if set(statuses) <= {"READY"} else -1

    def describe(self) -> dict[str, Any]:
        """The server's description of it."""
        return self.server.management.describe(self.name)

    def workers(self) -> list[Worker]:
        """Its workers, ready or not."""
        return [Worker(pid=int(worker["pid"]), status=worker["status"]) for worker in self.describe()["workers"]]

    @property
    def batch_size(self) -> int:
        """As registered."""
        return self.deployment.batching.batch_size

    @property
    def probed(self) -> bool:
        """Its archive holds the probe."""
        return True

    def send(self, schedule: Schedule, samples: Sequence[Sample], on_responses: OnResponses, clock: Clock) -> None:
        """Put it under load: `on_responses` is given the responses as they come and says whether to go on."""
        with self._accounting.span(Activity.IN_FLIGHT):
            self.engine(self.server.address, self.path, samples, schedule, on_responses, clock)

    def ask(self, samples: Sequence[Sample]) -> list[Response]:
        """Send these samples at once and return their responses in the order of the samples."""
        return ask(self, samples, MonotonicClock())

    def log_offset(self) -> int:
        """A place in the server's log of requests."""
        return self.server.request_log_size()

    @property
    def owned(self) -> bool:
        """The server is a process of this session."""
        return True

    @property
    def same_host(self) -> bool:
        """Unless the engine knows better."""
        return getattr(self.engine, "one_clock", True)

    def frontend_times(self, log_offset: int, wanted: AbstractSet[str]) -> dict[str, FrontendTimes]:
        """What that log says since that place, by request id: of an answer the last line is written after it left."""
        found: dict[str, FrontendTimes] = {}

        def whole() -> bool:
            found.update(self.server.frontend_times(log_offset))
            return wanted <= found.keys()

        wait_until(whole, timeout_s=_FRONTEND_TIMES_S)
        return found

    def close(self) -> None:
        """Unregister it; its workers end."""
        with self._accounting.span(Activity.WORKER_LOADS):
            self.server.management.unregister(self.name)
