"""The master and its workers together: started, joined, told, heard, ended."""

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
from pytest_torchserve.loadgen.locust.protocol import Kind, Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANSWER_S = 60.0
"""So long the master and the workers may take to do what costs them a moment."""

_ANY_HOST = ("*", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
_LOOPBACK = "127.0.0.1"
_LOOK_EVERY_S = 0.25
_MASTER_SILENT_S = 15.0
_REAPED_S = 1.0


class LocustError(SuiteError):
    """Locust's master or workers did not start, did not come, or ended while they were needed."""


class Processes:
    """One master and its workers.

    Args:
        workers: how many.
        master: `HOST:PORT` to listen on for workers that others start; None starts them here.
        join_timeout_s: how long to wait for them.

    Attributes:
        wanted: what they are needed for, in words, for messages.
        boots: the workers that are here, in the order in which they came, and what their hosts booted as.
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
        """What starts a worker by hand."""
        host, port = protocol.split_address(self._where) if self._where else (_LOOPBACK, 0)
        host = socket.gethostname() if host in _ANY_HOST else host
        return f"python -m pytest_torchserve.loadgen.locust.worker {Address(host, port or self._port).authority}"

    def start(self) -> None:
        """Return when all are there; does nothing where they are.

        Raises:
            LocustError: they are not; nothing is left running.
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
        """All at once: loading Locust takes a second. The workers are told the port that the master got."""
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
        """Wait for the workers; more than were asked for stay idle."""
        deadline_s = time.monotonic() + self._join_timeout_s
        while len(self.boots) < self.workers:
            self.turn(deadline_s)
            if time.monotonic() >= deadline_s:
                came = f"{len(self.boots)} of {self.workers} came within {self._join_timeout_s:g} s"
                self.fail(came, f"on each machine that shall send, type: {self.command}")

    def close(self) -> None:
        """End all that was started, together."""
        children, self._children, self._line = self._children, [], None
        self._port, self.boots = 0, {}
        for child in children:
            child.release()
        for child in children:
            child.end()

    def tell(self, kind: Kind, data: Sequence[dict[str, Any]]) -> None:
        """To each worker its own."""
        assert self._line is not None  # noqa: S101 - they are started
        for worker, own in zip(list(self.boots)[: self.workers], data, strict=True):
            self._line.send(Message(kind, worker, own))

    def turns(self, deadline_s: float) -> Iterator[list[Message]]:
        """What is said, until the caller has heard enough.

        Raises:
            LocustError: it has not by then.
        """
        while time.monotonic() < deadline_s:
            yield self.turn(deadline_s)
        self.fail("no answer in time", f"see the master's last words:\n{self._children[0].tail()}")

    def turn(self, until_s: float) -> list[Message]:
        """What is said next; nothing when nothing is until then, or for a while: somebody may be gone.

        Raises:
            LocustError: one of them is gone, silent, or says that it failed.
        """
        assert self._line is not None  # noqa: S101 - they are started
        messages = self._line.receive(min(until_s - time.monotonic(), _LOOK_EVERY_S))
        for message in messages:
            self._heed(message)
        # A pipe may be seen to end before its process is.
        wait_s = _REAPED_S if self._line.ended else 0.0
        ended = [words for child in self._children if (words := child.why_ended(wait_s))]
        if ended:
            self.fail("\n".join(ended), "see its words; a worker started by hand (--ts-load-master) can be watched")
        if self._line.ended or time.monotonic() - self._line.heard_s > _MASTER_SILENT_S:
            self.fail("the master does not answer", f"see its last words:\n{self._children[0].tail()}")
        return messages

    def _heed(self, message: Message) -> None:
        """What can come at any time."""
        worker, data = message.worker, message.data
        match message.kind:
            case Kind.LISTENING:
                self._port = data["port"]
            case Kind.HELLO if data["version"] != __version__:
                self.fail(f"{worker} has pytest-torchserve {data['version']}", f"install {__version__} there, as here")
            case Kind.HELLO if len(self.boots) < self.workers:
                self.boots[worker] = data["boot_id"]
            case Kind.LOST if worker in self.boots:
                again = f"start it again: {self.command}" if self._where else "see what stopped it"
                self.fail(f"{worker} has gone, or is out of reach", again)
            case Kind.FAILED:
                self.fail(f"{worker} failed:\n{data['traceback']}", "its traceback says what; report it")

    def fail(self, found: str, do: str) -> NoReturn:
        """Raise it."""
        raise LocustError(wanted=self.wanted, found=found, do=do)
