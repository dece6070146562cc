"""The protocols between the load generator and the server under load, independent of the serving software."""

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
    """A function that sends one load to one path of one server, from this process (`client.send`) or from several."""

    def __call__(
        self,
        address: Address,
        path: str,
        samples: Sequence[Sample],
        schedule: Schedule,
        on_responses: OnResponses,
        clock: Clock,
        timeout_s: float,
    ) -> None:
        """Run the schedule to its end; `on_responses` gets every response once.

        Args:
            timeout_s: after which a request is given up.
        """


class Target(Protocol):
    """A model that can be put under load: an `Endpoint` of the session, or a model on an external server."""

    @property
    def batch_size(self) -> int | None:
        """The registered batch size; None where unknown."""

    @property
    def worker_count(self) -> int:
        """The number of workers; 0 where unknown."""

    @property
    def probed(self) -> bool:
        """True when every response must carry the probe's headers."""

    def send(self, schedule: Schedule, samples: Sequence[Sample], on_responses: OnResponses, clock: Clock) -> None:
        """Send the samples to the target on the schedule."""

    @property
    def owned(self) -> bool:
        """True when the server's processes are the session's, and do not count among the other processes."""

    @property
    def same_host(self) -> bool:
        """True when all processes that send share this host's clock."""

    def log_offset(self) -> int:
        """Return the current end of the server's request log."""

    def frontend_times(self, log_offset: int, wanted: AbstractSet[str]) -> Mapping[str, FrontendTimes]:
        """Return the times in the request log from `log_offset` on, by request id; none if the log is out of reach."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process as its server describes it."""

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
        """The requested deployment."""

    def workers(self) -> Sequence[Worker]:
        """Return the workers, ready or not."""

    def scale(self, workers: int) -> int:
        """Set the number of workers and return when all were ready, in monotonic nanoseconds."""
