"""A deployment that is live on a server: scale it, ask what its workers are, drain it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.torchserve import archive
from pytest_torchserve.torchserve.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import OnResponses, Schedule
    from pytest_torchserve.loadgen.target import Engine, Worker
    from pytest_torchserve.model import Sample
    from pytest_torchserve.torchserve.server import Server

RESPONSE_TIMEOUT_S = 300


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
        self._workers = Workers(server, deployment.name, accounting)
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

        Returns:
            When TorchServe answered, in monotonic nanoseconds.

        Raises:
            WorkerError: a worker did not become ready; the message holds its own traceback.
            ServerError: the server is gone.
        """
        self.worker_count = workers
        return self._workers.scale(workers)

    def workers(self) -> list[Worker]:
        """Return its workers, ready or not."""
        return self._workers.list()

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
        """Return what that log says since that place, by request id."""
        return self.server.frontend_times(log_offset, wanted)

    def close(self) -> None:
        """Unregister it; its workers end."""
        with self._accounting.span(Activity.WORKER_LOADS):
            self.server.management.unregister(self.name)
