"""The built-in client: runs a schedule over as many keep-alive connections as are needed at once."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from pytest_torchserve.loadgen.arrivals import OpenLoop
from pytest_torchserve.loadgen.connection import Connection, why_unconnected
from pytest_torchserve.loadgen.encoding import encode
from pytest_torchserve.loadgen.process_tuning import allow_connections, loop_factory, undisturbed
from pytest_torchserve.loadgen.response import Failure, Response
from pytest_torchserve.loadgen.transport import Resolved, open_plain, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.schedule import Done, OnResponses, Schedule
    from pytest_torchserve.model import Sample

TIMEOUT_S = 120.0
"""TorchServe's own default response timeout."""
_LOOKS_PER_TIMEOUT = 20
_LOOK_AT_MOST_EVERY_S = 0.02


class _Opening(NamedTuple):
    """A request whose connection is still being opened."""

    data: bytes
    sample: Sample
    scheduled_ns: int
    begun_ns: int
    waiting: Done

    def failed(self, failure: Failure, words: str) -> Response:
        """Return the response of a request that could not be sent."""
        now_ns = time.monotonic_ns()
        return Response(self.sample, self.scheduled_ns, self.begun_ns, now_ns, 0, now_ns, 0, b"", b"", words, failure)


class HttpClient:
    """A context manager that sends samples to one path of one server on a schedule, and owns an event loop.

    A certificate is verified against the system's authorities, or those in the file that the environment
    variable `SSL_CERT_FILE` names.

    Args:
        address: host, port, token, TLS or not.
        path: what to POST to.
        samples: sent in turn, beginning where the last load ended.
        timeout_s: after which a request is given up; checked 20 times in that time.
    """

    def __init__(self, address: Address, path: str, samples: Sequence[Sample], *, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._timeout_ns = round(timeout_s * 1e9)
        self._requests = [(encode(address, path, sample), sample) for sample in samples]
        self._tls = ssl.create_default_context() if address.tls else None
        self._next = 0
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening: dict[asyncio.Task[None], _Opening] = {}
        self._spares: set[asyncio.Task[None]] = set()
        self._resolved: list[Resolved] = []
        self._open_loop = False
        self._runner = asyncio.Runner(loop_factory=loop_factory())
        self._loop = self._runner.get_loop()
        allow_connections()

    def __enter__(self) -> Self:
        """Return the client; no connection is opened before the first request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections and the event loop."""

        async def close() -> None:
            for connection in self._open:
                connection.close()

        self._runner.run(close())
        self._runner.close()

    def run(self, schedule: Schedule, on_responses: OnResponses, clock: Clock) -> None:
        """Run one schedule to its end; `on_responses` gets every response once, those of given-up requests last."""

        async def drive() -> None:
            watch = asyncio.ensure_future(self._watch())
            try:
                await schedule.drive(self._send, on_responses, clock)
            finally:
                watch.cancel()
                given_up = self._give_up()
            if given_up:
                on_responses(given_up)

        self._open_loop = isinstance(schedule, OpenLoop)
        with undisturbed(punctual=self._open_loop):
            self._runner.run(drive())

    def _send(self, scheduled_ns: int, waiting: Done) -> None:
        """Write one request now if a connection is idle, else as soon as a new connection is open."""
        begun_ns = time.monotonic_ns()
        data, sample = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.deadline_ns = begun_ns + self._timeout_ns
                connection.request(data, sample, scheduled_ns, begun_ns, waiting)
                if self._open_loop and not self._idle:
                    self._open_spare()
                return
        request = _Opening(data, sample, scheduled_ns, begun_ns, waiting)
        task = self._loop.create_task(self._connect_and_send(request))
        self._opening[task] = request
        task.add_done_callback(lambda done: self._opening.pop(done, None))

    async def _connect_and_send(self, request: _Opening) -> None:
        """Open a connection and send its first request; a failure to connect becomes the request's response."""
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connect()
        except (OSError, ValueError) as error:  # TimeoutError is an OSError, an invalid host name a ValueError
            failure = why_unconnected(error)
            words = f"{failure}: {str(error) or f'no connection within {self._timeout_s:g} s'}"
            request.waiting(request.failed(failure, words))
            return
        connection.deadline_ns = request.begun_ns + self._timeout_ns
        connection.request(*request)

    async def _connect(self) -> Connection:
        connection, host, port = Connection(self._idle.append), self._address.host, self._address.port
        if self._tls is None:
            self._resolved = self._resolved or await resolve(self._loop, host, port)
            await open_plain(self._loop, self._resolved, connection)
        else:
            await self._loop.create_connection(lambda: connection, host, port, ssl=self._tls)
        self._open.add(connection)
        return connection

    def _open_spare(self) -> None:
        """Open a connection for the next request of an open loop, so that the request need not wait."""

        async def open_() -> None:
            # If this fails, the request that needs the connection reports the failure.
            with contextlib.suppress(OSError, ValueError):
                self._idle.append(await self._connect())

        task = self._loop.create_task(open_())
        self._spares.add(task)
        task.add_done_callback(self._spares.discard)

    async def _watch(self) -> None:
        """Give up requests that have waited for too long: one timer for all requests, as all have the same timeout."""
        every_s = max(_LOOK_AT_MOST_EVERY_S, self._timeout_s / _LOOKS_PER_TIMEOUT)
        while True:
            await asyncio.sleep(every_s)
            now_ns = time.monotonic_ns()
            for connection in self._open:
                if connection.waiting is not None and now_ns >= connection.deadline_ns:
                    connection.fail(Failure.TIMEOUT, f"no answer within {self._timeout_s:g} s")
            self._open = {connection for connection in self._open if connection.transport is not None}

    def _give_up(self) -> list[Response]:
        """End the requests in flight and return their responses."""
        words = "the load was over before it was answered"
        given_up: list[Response] = []
        for spare in self._spares:
            spare.cancel()
        for task, request in self._opening.items():
            if task.cancel():
                given_up.append(request.failed(Failure.UNANSWERED, words))
        for connection in self._open:
            if connection.waiting is not None:
                connection.waiting = given_up.append
                connection.fail(Failure.UNANSWERED, words)
        return given_up


def send(
    address: Address,
    path: str,
    samples: Sequence[Sample],
    schedule: Schedule,
    on_responses: OnResponses,
    clock: Clock,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Run one schedule from this process."""
    with HttpClient(address, path, samples, timeout_s=timeout_s) as client:
        client.run(schedule, on_responses, clock)
