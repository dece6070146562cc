"""A deployment that is registered on a server: scale it, list its workers, send it requests, unregister it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.errors import WorkerStartError
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.target import ask
from pytest_torchserve.torchserve import archive
from pytest_torchserve.torchserve.timeouts import Timeouts
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


class Endpoint:
    """The registration of a deployment on a server.

    Args:
        server: a started server.
        deployment: the deployment to register.
        made: the deployment's .mar, in the server's store.
        accounting: the accounting that the time is booked in.
        engine: the function that sends the requests; None for this process.

    Attributes:
        worker_count: the number of workers that the deployment was last scaled to.
        timeouts: how long TorchServe waits for this deployment's workers, as it says itself.
        engine: as given; full batches, which measure durations, are always sent by this process.
    """

    def __init__(
        self,
        server: Server,
        deployment: Deployment,
        made: archive.Archive,
        accounting: TimeAccounting,
        engine: Engine | None = None,
    ) -> None:
        self.server = server
        self.deployment = deployment
        self.archive = made
        self.name = deployment.name
        self.worker_count = 0
        self._accounting = accounting
        self._workers = Workers(server, deployment.name, accounting)
        self._registered = False
        self.engine: Engine = engine or client.send
        self.timeouts = Timeouts()

    @property
    def path(self) -> str:
        """The URL path of the predictions."""
        return f"/predictions/{quote(self.name)}"

    def register(self) -> None:
        """Register the deployment without workers.

        Raises:
            ArchiveError: the archive is corrupt; TorchServe would accept it, and fail later with another message.
            ManagementError: the server refused the archive.
        """
        with self._accounting.span(Activity.ARCHIVES):
            archive.check(self.archive.path)
        with self._accounting.span(Activity.WORKER_LOADS):
            self.server.management.register(
                self.name,
                self.archive.path.name,
                self.deployment.batching,
            )
            self.timeouts = Timeouts.of(self.server.management.describe(self.name))
        self._registered = True

    def scale(self, workers: int) -> int:
        """Scale to exactly this many workers; return when all are ready and the workers scaled away are gone.

        Returns:
            The time of TorchServe's answer, in monotonic nanoseconds.

        Raises:
            WorkerError: a worker did not become ready; the message holds the worker's traceback. An archive whose
                worker could not start is not tried again on this server, and its registration ends: TorchServe would
                start it again and again, for minutes, beside other measurements.
            ServerError: the server is gone.
        """
        known = self.server.unable.get(self.archive.path)
        if known is not None and workers:
            raise known
        self.worker_count = workers
        try:
            return self._workers.scale(workers, startup_timeout_s=self.timeouts.startup_s)
        except WorkerStartError as error:
            self.server.unable[self.archive.path] = error
            self.close()
            raise

    def workers(self) -> list[Worker]:
        """Return the workers, ready or not."""
        return self._workers.current() if self._registered else []

    @property
    def batch_size(self) -> int:
        """The batch size, as registered."""
        return self.deployment.batching.batch_size

    @property
    def probed(self) -> bool:
        """True: the archive holds the probe."""
        return True

    def send(self, schedule: Schedule, samples: Sequence[Sample], on_responses: OnResponses, clock: Clock) -> None:
        """Send the schedule's requests; `on_responses` gets the responses as they come and returns whether to go on."""
        with self._accounting.span(Activity.IN_FLIGHT):
            timeout_s = self.timeouts.sender_s
            self.engine(self.server.address, self.path, samples, schedule, on_responses, clock, timeout_s)

    def ask(self, samples: Sequence[Sample]) -> list[Response]:
        """Send these samples at once and return their responses in the order of the samples."""
        return ask(self, samples, MonotonicClock())

    def log_offset(self) -> int:
        """Return the present end of the server's request log, in bytes."""
        return self.server.request_log_size()

    @property
    def owned(self) -> bool:
        """True: the server is a process of this session."""
        return True

    @property
    def same_host(self) -> bool:
        """True unless the engine's workers do not share this host's clock."""
        return getattr(self.engine, "one_clock", True)

    def frontend_times(self, log_offset: int, wanted: AbstractSet[str]) -> dict[str, FrontendTimes]:
        """Return the frontend's times by request id, from this offset of the request log on."""
        return self.server.frontend_times(log_offset, wanted)

    def close(self) -> None:
        """Unregister the deployment, once; its workers end, and what they have started."""
        if not self._registered:
            return
        self._registered = False
        helpers = self._workers.helpers()
        with self._accounting.span(Activity.WORKER_LOADS):
            self.server.management.unregister(self.name)
        self._workers.end_helpers(helpers)
