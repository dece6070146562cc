"""The master and its workers together: start, joining, messages, end."""

from __future__ import annotations

import socket
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_torchserve import __version__
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.locust import protocol
from pytest_torchserve.loadgen.locust.child import Child, Line
from pytest_torchserve.loadgen.locust.protocol import Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANSWER_S = 60.0
"""The time limit for actions of the master and the workers that normally take a moment."""

_ANY_HOST = ("*", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
_LOOPBACK = "127.0.0.1"
_LOOK_EVERY_S = 0.25
_MASTER_SILENT_S = 15.0
_REAPED_S = 1.0


class LocustError(SuiteError):
    """Locust's master or workers did not start, did not join, or ended while they were needed."""


class Processes:
    """A master and its workers.

    Args:
        workers: the number of workers.
        master: `HOST:PORT` to listen on for workers that are started by hand; None starts the workers here.
        join_timeout_s: how long to wait until the workers have joined.

    Attributes:
        wanted: the load that needs the processes, in words, for messages.
        boots: the boot ids of the hosts of the workers that have joined, by worker, in the order of joining.
    """

    def __init__(self, workers: int, master: str | None, join_timeout_s: float) -> None:
        self.workers = workers
        self.wanted = f"{workers} Locust workers"
        self.boots: dict[str, str] = {}
        self._where = master
        self._join_timeout_s = join_timeout_s
        self._children: list[Child] = []
        self._line: Line | None = None
        self._port = 0

    @property
    def command(self) -> str:
        """The command that starts a worker by hand."""
        host, port = protocol.split_address(self._where) if self._where else (_LOOPBACK, 0)
        host = socket.gethostname() if host in _ANY_HOST else host
        return f"python -m pytest_torchserve.loadgen.locust.worker {Address(host, port or self._port).authority}"

    def start(self) -> None:
        """Start the processes, unless they run already, and return when all workers have joined.

        Raises:
            LocustError: not all workers joined; no process is left running.
        """
        if self._children:
            return
        if self.workers < 1:
            self.fail("there must be one at least", "--ts-load-workers=1, or more")
        if any(find_spec(name) is None for name in ("locust", "msgpack")):
            self.fail("Locust is not installed", "pip install 'pytest-torchserve[locust]'")
        try:
            self._launch()
            self._join()
        except BaseException:
            self.close()
            raise

    def _launch(self) -> None:
        """Start all processes at once, as loading Locust takes a second; then send the workers the master's port."""
        master = Child("the master", "master", self._where or f"{_LOOPBACK}:0", piped=True)
        ours = range(self.workers if self._where is None else 0)
        self._children = [master, *(Child(f"worker {place}", "worker") for place in ours)]
        self._line = Line(master)
        for _ in self.turns(time.monotonic() + ANSWER_S):
            if self._port:
                break
        for child in self._children[1:]:
            child.say(f"{_LOOPBACK}:{self._port}\n")

    def _join(self) -> None:
        """Wait for the workers to join; surplus workers stay idle."""
        deadline_s = time.monotonic() + self._join_timeout_s
        while len(self.boots) < self.workers:
            self.turn(deadline_s)
            if time.monotonic() >= deadline_s:
                came = f"{len(self.boots)} of {self.workers} came within {self._join_timeout_s:g} s"
                self.fail(came, f"on each machine that shall send, type: {self.command}")

    def close(self) -> None:
        """End all started processes together."""
        children, self._children, self._line = self._children, [], None
        self._port, self.boots = 0, {}
        for child in children:
            child.release()
        for child in children:
            child.end()

    def tell(self, kind: MessageKind, data: Sequence[dict[str, Any]]) -> None:
        """Send each worker its own data."""
        assert self._line is not None  # noqa: S101 - they are started
        for worker, own in zip(list(self.boots)[: self.workers], data, strict=True):
            self._line.send(Message(kind, worker, own))

    def turns(self, deadline_s: float) -> Iterator[list[Message]]:
        """Yield the messages of turn after turn, until the caller stops.

        Raises:
            LocustError: the caller has not stopped by the deadline.
        """
        while time.monotonic() < deadline_s:
            yield self.turn(deadline_s)
        self.fail("no answer in time", f"see the master's last words:\n{self._children[0].tail()}")

    def turn(self, until_s: float) -> list[Message]:
        """Return the next messages; none if none come until `until_s`, or within the time between checks of processes.

        Raises:
            LocustError: a process is gone, does not answer, or reports a failure.
        """
        assert self._line is not None  # noqa: S101 - they are started
        messages = self._line.receive(min(until_s - time.monotonic(), _LOOK_EVERY_S))
        for message in messages:
            self._heed(message)
        # The end of a pipe may be visible before the end of its process.
        wait_s = _REAPED_S if self._line.ended else 0.0
        ended = [words for child in self._children if (words := child.why_ended(wait_s))]
        if ended:
            self.fail("\n".join(ended), "see its words; a worker started by hand (--ts-load-master) can be watched")
        if self._line.ended or time.monotonic() - self._line.heard_s > _MASTER_SILENT_S:
            self.fail("the master does not answer", f"see its last words:\n{self._children[0].tail()}")
        return messages

    def _heed(self, message: Message) -> None:
        """Handle the messages that can come at any time."""
        worker, data = message.worker, message.data
        match message.kind:
            case MessageKind.LISTENING:
                self._port = data["port"]
            case MessageKind.HELLO if data["version"] != __version__:
                self.fail(f"{worker} has pytest-torchserve {data['version']}", f"install {__version__} there, as here")
            case MessageKind.HELLO if len(self.boots) < self.workers:
                self.boots[worker] = data["boot_id"]
            case MessageKind.LOST if worker in self.boots:
                again = f"start it again: {self.command}" if self._where else "see what stopped it"
                self.fail(f"{worker} has gone, or is out of reach", again)
            case MessageKind.FAILED:
                self.fail(f"{worker} failed:\n{data['traceback']}", "its traceback says what; report it")

    def fail(self, found: str, do: str) -> NoReturn:
        """Raise a `LocustError`."""
        raise LocustError(wanted=self.wanted, found=found, do=do)
