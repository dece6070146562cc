"""The division of a load into the parts of the workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_torchserve.loadgen.arrivals import OpenLoop
from pytest_torchserve.loadgen.schedule import ClosedLoop, TimedSchedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.locust.exchange import Destination
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import Schedule


def partition(schedule: Schedule, workers: int) -> list[dict[str, Any]]:
    """Return each worker's users or departures; an empty list for a schedule that is neither a closed nor an open loop.

    The departures themselves are sent: a worker with another version of Python or of this package might draw others.
    """
    if not isinstance(schedule, TimedSchedule):
        return []
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
    """The part of one load that one worker sends. All times are on the clock of the worker's host.

    Attributes:
        number: the number of the load, by which late messages of another load are recognised.
        destination: the server and path to send to, and the samples.
        start_ns: when the load starts.
        end_ns: when users of a closed loop stop.
        first: the index, in the load, of this worker's first request.
        step: the number of workers, and so the distance between the indices of this worker's requests.
        users: the number of Locust users; in an open loop one, the dispatcher.
        departures_ns: when requests leave, after the start; empty in a closed loop.
        shift_ns: added to these times, gives times on the master's clock.
        over: True when no more requests must be sent.
        fresh: responses that have not been reported yet.
        count: the number of responses so far.
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
        """True for an open loop, where requests leave at scheduled times."""
        return bool(self.departures_ns)

    def next_index(self) -> int:
        """Return the index of a closed loop's next request."""
        self._taken += 1
        return self.first + (self._taken - 1) * self.step

    def ask(self, index: int, scheduled_ns: int) -> None:
        """Send one request and keep its response."""
        self.destination.ask(index, scheduled_ns, self._keep)

    def _keep(self, response: Response) -> None:
        self.count += 1
        self.fresh.append(response)
