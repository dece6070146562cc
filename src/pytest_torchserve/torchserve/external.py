"""A model on an external TorchServe, one that someone else runs: measured, described, and left as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.loadgen import client
from pytest_torchserve.torchserve.management import Management
from pytest_torchserve.torchserve.timeouts import DEFAULT_S, Timeouts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.schedule import OnResponses, Schedule
    from pytest_torchserve.loadgen.target import Engine
    from pytest_torchserve.model import Sample


class AttachedEndpoint:
    """A model on an external server. Nothing is registered, scaled or removed; the management API is only read.

    Args:
        address: the inference address with its key.
        management: the management address with its key; None where it is out of reach: the batch size and the
            number of workers are then unknown.
        model: the model's name on the server, or NAME/VERSION.
        accounting: the accounting that the time is booked in.
        engine: the function that sends the requests.
        timeout_s: how long to wait for an answer; None for the server's own time-out, or its usual one where that is
            out of reach.

    Raises:
        ManagementError: the management API does not know the model, or refuses the key.
    """

    def __init__(
        self,
        address: Address,
        management: Address | None,
        model: str,
        accounting: TimeAccounting,
        engine: Engine = client.send,
        timeout_s: float | None = None,
    ) -> None:
        self._address = address
        self._accounting = accounting
        self._engine = engine
        self.path = f"/predictions/{quote(model)}"  # a slash stays: NAME/VERSION
        self._timeout_s = timeout_s
        self.batch_size: int | None = None
        self.worker_count = 0
        if management is not None:
            management_api = Management(management.url, management.key)
            try:
                described = management_api.describe(model)
            finally:
                management_api.close()
            self.batch_size = int(described["batchSize"])
            self.worker_count = len(described["workers"])
            self._timeout_s = timeout_s or Timeouts.of(described).sender_s

    @property
    def probed(self) -> bool:
        """False: the model's archive need not hold the probe."""
        return False

    def send(self, schedule: Schedule, samples: Sequence[Sample], on_responses: OnResponses, clock: Clock) -> None:
        """Send the schedule's requests; `on_responses` gets the responses as they come and returns whether to go on."""
        with self._accounting.span(Activity.IN_FLIGHT):
            timeout_s = self._timeout_s or DEFAULT_S
            self._engine(self._address, self.path, samples, schedule, on_responses, clock, timeout_s)

    def log_offset(self) -> int:
        """Return 0: the server's log is out of reach."""
        return 0

    @property
    def owned(self) -> bool:
        """False: the server's processes are someone else's; on this host they count among the other processes."""
        return False

    @property
    def same_host(self) -> bool:
        """True unless the engine's workers do not share this host's clock."""
        return getattr(self._engine, "one_clock", True)

    def frontend_times(self, log_offset: int, wanted: AbstractSet[str]) -> Mapping[str, FrontendTimes]:  # noqa: ARG002 - the shape of a target
        """Return no times: the server's log is out of reach."""
        return {}
