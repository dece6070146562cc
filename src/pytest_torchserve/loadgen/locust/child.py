"""A Locust process as a child of pytest's process: start, messages, end."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from typing import IO

from pytest_torchserve.loadgen.locust import protocol

_READ_BYTES = 1 << 20
_TAIL_BYTES = 4000
_END_S = 5.0
_WRITE_S = 60.0


class Child:
    """A child process, which ends when its standard input does, and so with pytest's process, however that ends.

    Args:
        name: the name in messages.
        module: the module of this package to run.
        arguments: the module's arguments.
        piped: True for a standard output that is a pipe to pytest's process; else it goes where standard error goes.
    """

    def __init__(self, name: str, module: str, *arguments: str, piped: bool = False) -> None:
        self.name = name
        # Opened for appending, so that reading does not move the position where the child writes.
        self._words: IO[bytes] = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            # -P: a file in the current folder must not be imported as Locust, whatever its name.
            [sys.executable, "-P", "-m", f"pytest_torchserve.loadgen.locust.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if piped else self._words,
            stderr=self._words,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for pytest's process, which ends the child
        )

    def say(self, words: str) -> None:
        """Write to the child's standard input; `why_ended` reports a child that is gone."""
        assert self.process.stdin is not None  # noqa: S101 - tells the type checker what PIPE means
        with contextlib.suppress(OSError):
            self.process.stdin.write(words.encode())

    def why_ended(self, wait_s: float = 0.0) -> str | None:
        """Return in words how the child ended, with the end of its output; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(wait_s)
            return f"{self.name} ended with exit code {code}; its last words:\n{self.tail()}"
        return None

    def tail(self) -> str:
        """Return the end of the child's standard error."""
        size = os.fstat(self._words.fileno()).st_size
        start = max(0, size - _TAIL_BYTES)
        return os.pread(self._words.fileno(), _TAIL_BYTES, start).decode(errors="replace").strip() or "(none)"

    def release(self) -> None:
        """Close the child's standard input."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def end(self) -> None:
        """Close the child's standard input and wait for its end; kill it if the wait takes too long."""
        self.release()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._words.close()


class Line:
    """Messages to and from the master, with a limit to every wait, as the master may hang.

    Attributes:
        heard_s: when the last message came, monotonic.
        ended: True when no message will come any more.
    """

    def __init__(self, master: Child) -> None:
        assert master.process.stdin is not None  # noqa: S101 - as above
        assert master.process.stdout is not None  # noqa: S101
        self._write = master.process.stdin.fileno()
        self._read = master.process.stdout.fileno()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        self._frames = protocol.Frames()
        self.heard_s = time.monotonic()
        self.ended = False

    def send(self, message: protocol.Message) -> None:
        """Write one message; set `ended` if the master is gone or does not read."""
        left = memoryview(protocol.frame(message))
        deadline_s = time.monotonic() + _WRITE_S
        while left and not self.ended:
            if not _ready(self._write, select.POLLOUT, deadline_s - time.monotonic()):
                self.ended = True
                return
            try:
                left = left[os.write(self._write, left) :]
            except BlockingIOError:
                continue
            except OSError:
                self.ended = True

    def receive(self, timeout_s: float) -> list[protocol.Message]:
        """Return the new messages as soon as bytes arrive; none at the timeout or at the end of the pipe."""
        if not _ready(self._read, select.POLLIN, timeout_s):
            return []
        data = os.read(self._read, _READ_BYTES)
        self.ended = self.ended or not data
        self.heard_s = time.monotonic()
        return self._frames.feed(data)


def _ready(descriptor: int, event: int, timeout_s: float) -> bool:
    """Return whether the descriptor is ready, by poll(2): select(2) knows descriptors below 1024 only."""
    asked = select.poll()
    asked.register(descriptor, event)
    return bool(asked.poll(max(0.0, timeout_s) * 1e3))
