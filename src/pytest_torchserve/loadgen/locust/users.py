"""Who sends a worker's share of a load: Locust users."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import gevent
from gevent.pool import Group
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from pytest_torchserve.loadgen.locust.timer import Timer

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.locust.partition import Part


class WorkerEnvironment(Environment):
    """Locust's, and the share that its users send."""

    part: Part


class ClosedUser(User):
    """Sends again as soon as it is answered, until the time is up."""

    environment: WorkerEnvironment

    def __init__(self, environment: WorkerEnvironment) -> None:
        super().__init__(environment)
        self.part = environment.part
        self.client = self.part.destination.session

    def on_start(self) -> None:
        """All start together."""
        gevent.sleep(max(0.0, (self.part.start_ns - time.monotonic_ns()) / 1e9))

    @task
    def ask(self) -> None:
        """One request."""
        now_ns = time.monotonic_ns()
        if now_ns >= self.part.end_ns:
            raise StopUser
        self.part.ask(self.part.next_index(), now_ns)


class OpenUser(User):
    """Sends on schedule: a greenlet for each request, and no look at the answers."""

    environment: WorkerEnvironment

    def __init__(self, environment: WorkerEnvironment) -> None:
        super().__init__(environment)
        self.part = environment.part
        self.client = self.part.destination.session
        self._flying = Group()

    @task
    def dispatch(self) -> None:
        """All departures; then it waits for the answers."""
        part = self.part
        with contextlib.closing(Timer()) as timer:
            for place, after_ns in enumerate(part.departures_ns):
                due_ns = part.start_ns + after_ns
                timer.wait_until(due_ns)
                self._flying.spawn(self._ask, part.first + place * part.step, due_ns)
        self._flying.join()
        raise StopUser

    def on_stop(self) -> None:
        """Locust's callback: at its end, or when it is killed. Requests in flight end as unanswered."""
        self._flying.kill()

    def _ask(self, index: int, due_ns: int) -> None:
        try:
            self.part.ask(index, due_ns)
        except Exception as error:  # noqa: BLE001 - ours: told as Locust tells of those in its tasks
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
