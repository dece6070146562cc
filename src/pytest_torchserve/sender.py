"""Requests over keep-alive connections: asyncio protocols, httptools' parser, uvloop where it is installed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

import httptools

from pytest_torchserve.response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pytest_torchserve.load import Clock, Load
    from pytest_torchserve.model import Sample
    from pytest_torchserve.server import Address

TIMEOUT_S = 300.0
_ERROR_STATUS = 400


class Connection(asyncio.Protocol):
    """One connection, one request at a time.

    Also the callback object of its parser: the `on_…` methods are called by httptools.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reset(0, 0, 0)

    def _reset(self, sample: int, scheduled_ns: int, sent_ns: int) -> None:
        self._sample, self._scheduled_ns, self._sent_ns = sample, scheduled_ns, sent_ns
        self._first_byte_ns = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self.transport = transport  # type: ignore[assignment]

    def request(self, data: bytes, sample: int, scheduled_ns: int, timeout_s: float) -> asyncio.Future[Response]:
        """Write one request; the future never raises."""
        assert self.transport is not None  # noqa: S101 - create_connection returned
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._fail, f"no answer within {timeout_s:g} s")
        self._reset(sample, scheduled_ns, time.monotonic_ns())
        self.transport.write(data)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        if not self._first_byte_ns:
            self._first_byte_ns = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error!r}")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Keep one piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        status = self._parser.get_status_code()
        error = f"HTTP {status}" if status >= _ERROR_STATUS else None
        if not self._parser.should_keep_alive():
            self.close()
        self._settle(status, error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self.transport = None
        self._settle(0, f"connection lost: {exc or 'closed by the server before the answer was whole'}")

    def _fail(self, error: str) -> None:
        self._settle(0, error)
        self.close()

    def _settle(self, status: int, error: str | None) -> None:
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        if self._timer is not None:
            self._timer.cancel()
        if not waiting.done():
            waiting.set_result(
                Response(
                    sample=self._sample,
                    scheduled_ns=self._scheduled_ns,
                    sent_ns=self._sent_ns,
                    first_byte_ns=self._first_byte_ns,
                    done_ns=time.monotonic_ns(),
                    status=status,
                    headers=self._headers,
                    body=b"".join(self._body),
                    error=error,
                )
            )

    def close(self) -> None:
        """Drop the connection; another is opened when one is needed."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


class Sender:
    """Sends samples to one path of one server, as a load says. A context manager: it owns an event loop.

    Args:
        address: host, port and token.
        path: what to POST to.
        samples: sent in turn, from where the last load ended.
        timeout_s: after which a request is given up.
    """

    def __init__(self, address: Address, path: str, samples: Sequence[Sample], *, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._requests = [_encode(address, path, sample) for sample in samples]
        self._next = 0
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._runner = asyncio.Runner(loop_factory=loop_factory())

    def __enter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections and the loop."""

        async def close() -> None:
            for connection in self._open:
                connection.close()

        self._runner.run(close())
        self._runner.close()

    def run(self, load: Load, more: Callable[[Sequence[Response]], bool], clock: Clock) -> None:
        """Drive one load to its end."""
        self._runner.run(load.drive(self._send, more, clock))

    async def _send(self, scheduled_ns: int) -> Response:
        sample = self._next
        self._next = (sample + 1) % len(self._requests)
        try:
            connection = await self._connection()
        except OSError as error:
            now_ns = time.monotonic_ns()
            return Response(sample, scheduled_ns, now_ns, 0, now_ns, 0, {}, b"", f"no connection: {error}")
        response = await connection.request(self._requests[sample], sample, scheduled_ns, self._timeout_s)
        if connection.transport is not None:
            self._idle.append(connection)
        else:
            self._open.discard(connection)
        return response

    async def _connection(self) -> Connection:
        """An idle connection that is still open, else a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
            self._open.discard(connection)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._address.host, self._address.port)
        self._open.add(connection)
        return connection


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which halves the sender's own cost, else asyncio's."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def _encode(address: Address, path: str, sample: Sample) -> bytes:
    """The whole request, ready to write."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {address.host}:{address.port}",
        f"Content-Type: {sample.content_type}",
        f"Content-Length: {len(sample.body)}",
    ]
    if address.key:
        lines.append(f"Authorization: Bearer {address.key}")
    return "\r\n".join([*lines, "", ""]).encode() + sample.body
