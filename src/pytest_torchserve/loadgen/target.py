"""What measuring needs of a server: the neutral protocol between the load and whoever serves the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_torchserve.loadgen.schedule import FullBatches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.frontend_times import FrontendTimes
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import OnResponses, Schedule
    from pytest_torchserve.model import Sample


class Engine(Protocol):
    """Sends one load to one path of one server: this process (`client.send`), or many."""

    def __call__(
        self,
        address: Address,
        path: str,
        samples: Sequence[Sample],
        schedule: Schedule,
        on_responses: OnResponses,
        clock: Clock,
    ) -> None:
        """Drive the load to its end; `on_responses` is shown every response once."""


class Target(Protocol):
    """What can be put under load: an `Endpoint` of ours, or one that someone else runs."""

    @property
    def batch_size(self) -> int | None:
        """As registered; None where nobody tells."""

    @property
    def worker_count(self) -> int:
        """How many workers it has; 0 where nobody tells."""

    @property
    def probed(self) -> bool:
        """Whether every answer must carry the probe's headers."""

    def send(self, schedule: Schedule, samples: Sequence[Sample], on_responses: OnResponses, clock: Clock) -> None:
        """Put it under load."""

    @property
    def owned(self) -> bool:
        """Whether its processes are the session's, and not to be counted among the other processes."""

    @property
    def same_host(self) -> bool:
        """Whether all who send share this host's clock."""

    def log_offset(self) -> int:
        """A place in the server's log of requests."""

    def frontend_times(self, log_offset: int, wanted: AbstractSet[str]) -> Mapping[str, FrontendTimes]:
        """What that log says since that place, by request id; nothing where it is out of reach."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process as its server describes it."""

    pid: int
    status: str


def ask(target: Target, samples: Sequence[Sample], clock: Clock) -> list[Response]:
    """Send these samples at once and return their responses in the order of the samples."""
    answers: list[Response] = []

    def on_responses(responses: Sequence[Response]) -> bool:
        answers.extend(responses)
        return False

    target.send(FullBatches(len(samples)), samples, on_responses, clock)
    return sorted(answers, key=lambda response: response.begun_ns)


class ScalableTarget(Target, Protocol):
    """A target whose workers the session starts and ends."""

    @property
    def name(self) -> str:
        """The name that the model is registered under."""

    @property
    def deployment(self) -> Deployment:
        """What was asked for."""

    def workers(self) -> Sequence[Worker]:
        """Its workers, ready or not."""

    def scale(self, workers: int) -> int:
        """Bring it to exactly this many workers; returns when they were ready, in monotonic nanoseconds."""
