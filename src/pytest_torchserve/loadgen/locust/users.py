"""Locust users, which send a worker's part of a load."""

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
    """Locust's environment, with the part of a load that its users send."""

    part: Part


class ClosedUser(User):
    """A user that sends again as soon as the last response has come, until the time is up."""

    environment: WorkerEnvironment

    def __init__(self, environment: WorkerEnvironment) -> None:
        super().__init__(environment)
        self.part = environment.part
        self.client = self.part.destination.session

    def on_start(self) -> None:
        """Wait until the load starts, for all users at the same time."""
        gevent.sleep(max(0.0, (self.part.start_ns - time.monotonic_ns()) / 1e9))

    @task
    def ask(self) -> None:
        """Send one request."""
        now_ns = time.monotonic_ns()
        if now_ns >= self.part.end_ns:
            raise StopUser
        self.part.ask(self.part.next_index(), now_ns)


class OpenUser(User):
    """A user that sends on schedule, with a greenlet for each request, whatever the responses."""

    environment: WorkerEnvironment

    def __init__(self, environment: WorkerEnvironment) -> None:
        super().__init__(environment)
        self.part = environment.part
        self.client = self.part.destination.session
        self._flying = Group()

    @task
    def dispatch(self) -> None:
        """Send at every departure, then wait for the responses."""
        part = self.part
        with contextlib.closing(Timer()) as timer:
            for place, after_ns in enumerate(part.departures_ns):
                due_ns = part.start_ns + after_ns
                timer.wait_until(due_ns)
                self._flying.spawn(self._ask, part.first + place * part.step, due_ns)
        self._flying.join()
        raise StopUser

    def on_stop(self) -> None:
        """End requests in flight as unanswered (Locust's callback, when the user ends or is killed)."""
        self._flying.kill()

    def _ask(self, index: int, due_ns: int) -> None:
        try:
            self.part.ask(index, due_ns)
        except Exception as error:  # noqa: BLE001 - reported as Locust reports errors in its tasks
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
