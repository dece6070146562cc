"""One worker's part of a load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_torchserve.loadgen.arrivals import OpenLoop
from pytest_torchserve.loadgen.schedule import ClosedLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.locust.exchange import Destination
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import Schedule


def partition(schedule: Schedule, workers: int) -> list[dict[str, Any]]:
    """Each worker's users, or its departures; nothing for a load that is neither closed nor open.

    The schedule travels as it is: a worker with another Python, or another version of ours, cannot draw another.
    """
    if isinstance(schedule, ClosedLoop):
        each, left = divmod(schedule.concurrency, workers)
        parts: list[dict[str, Any]] = [{"users": each + (k < left), "departures_ns": []} for k in range(workers)]
    elif isinstance(schedule, OpenLoop):
        due_ns = list(schedule.departures_ns())
        parts = [
            {"users": min(1, len(due_ns[k::workers])), "departures_ns": due_ns[k::workers]} for k in range(workers)
        ]
    else:
        return []
    duration_ns = round(schedule.duration_s * 1e9)
    return [{"first": k, "step": workers, "duration_ns": duration_ns, **part} for k, part in enumerate(parts)]


@dataclass(slots=True)
class Part:
    """What one worker sends of one load. All times are of this host's clock.

    Attributes:
        number: the load's, to tell a late message from one that is meant.
        destination: where to send what.
        start_ns: when the load starts.
        end_ns: when users of a closed loop stop.
        first: the load's number of this worker's first request.
        step: how many workers share the load, and so how far its requests' numbers lie apart.
        users: how many users it has; one, the dispatcher, in an open loop.
        departures_ns: when requests leave, after the start; empty in a closed loop.
        shift_ns: what makes these times those of the master's clock.
        over: nothing shall be sent any more.
        fresh: responses that nobody has been told of.
        count: how many responses there were.
    """

    number: int
    destination: Destination
    start_ns: int
    end_ns: int
    first: int
    step: int
    users: int
    departures_ns: Sequence[int]
    shift_ns: int = 0
    over: bool = False
    fresh: list[Response] = field(default_factory=list)
    count: int = 0
    _taken: int = 0

    @property
    def open(self) -> bool:
        """Whether requests leave on a schedule."""
        return bool(self.departures_ns)

    def next_index(self) -> int:
        """The number of a closed loop's next request."""
        self._taken += 1
        return self.first + (self._taken - 1) * self.step

    def ask(self, index: int, scheduled_ns: int) -> None:
        """Send one request and keep its response."""
        self.destination.ask(index, scheduled_ns, self._keep)

    def _keep(self, response: Response) -> None:
        self.count += 1
        self.fresh.append(response)
