"""One keep-alive connection: asyncio's protocol around httptools' parser."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Protocol

import httptools

from pytest_torchserve.loadgen.response import Failure, Response, why_refused
from pytest_torchserve.model import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_torchserve.loadgen.schedule import Done

_FINAL_STATUS = 200
_STATUS_AT = len(b"HTTP/1.1 ")
_END_OF_HEAD = b"\r\n\r\n"
_NOTHING = Sample("", b"", None)
_now_ns = time.monotonic_ns


class Transport(Protocol):
    """What a connection needs of one; asyncio's have it."""

    def write(self, data: bytes) -> None:
        """Send it."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""

    def get_write_buffer_size(self) -> int:
        """How many bytes the kernel has not taken yet."""

    def abort(self) -> None:
        """Close it at once."""


class Connection(asyncio.Protocol):
    """One request at a time. Also the callback object of its parser: the `on_…` methods are called by httptools.

    Args:
        idle: told when the connection can take the next request.

    Attributes:
        transport: asyncio's; None once the connection is gone.
        waiting: who is called with the response that is waited for; None while none is.
        deadline_ns: when its request is to be given up.
    """

    __slots__ = (
        *("_begun_ns", "_body", "_first_byte_ns", "_head", "_headless", "_idle", "_parser", "_sample"),
        *("_scheduled_ns", "_sent_ns", "deadline_ns", "transport", "waiting"),
    )

    def __init__(self, idle: Callable[[Connection], None]) -> None:
        self.transport: Transport | None = None
        self.deadline_ns = 0
        self._idle = idle
        self.waiting: Done | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sample = _NOTHING
        self._scheduled_ns = self._begun_ns = self._sent_ns = self._first_byte_ns = 0
        self._head = b""
        self._body = b""
        self._headless = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # asyncio's is wider
        """Asyncio's callback."""
        self.transport = transport

    @property
    def usable(self) -> bool:
        """Whether it is open."""
        return self.transport is not None and not self.transport.is_closing()

    def request(
        self,
        data: bytes,
        sample: Sample,
        scheduled_ns: int,
        begun_ns: int,
        waiting: Done,
    ) -> None:
        """Write one request; `waiting` is called with its response."""
        assert self.transport is not None  # noqa: S101 - the caller has asked whether it is usable
        self._sample, self._scheduled_ns, self._begun_ns = sample, scheduled_ns, begun_ns
        self._first_byte_ns = 0
        self._head = self._body = b""
        self._headless = True
        self.waiting = waiting
        self.transport.write(data)
        self._sent_ns = _now_ns()

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        if not self._first_byte_ns:
            self._first_byte_ns = _now_ns()
        if self._headless:
            self._take_head(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(Failure.MALFORMED, f"not HTTP: {error!r}")

    def _take_head(self, data: bytes) -> None:
        """Keep the headers as they are: taking them apart can wait until nobody waits."""
        head = self._head + data if self._head else data
        end = head.find(_END_OF_HEAD)
        while end >= 0 and head[_STATUS_AT : _STATUS_AT + 1] == b"1":  # interim; the real one may follow at once
            head = head[end + len(_END_OF_HEAD) :]
            end = head.find(_END_OF_HEAD)
        self._headless = end < 0
        self._head = head if end < 0 else head[:end]

    def on_body(self, body: bytes) -> None:
        """Keep one piece of the body."""
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        """The answer is whole."""
        status = self._parser.get_status_code()
        if self.waiting is None:
            self.close()  # an answer that nobody asked for: whose would the next one be?
            return
        if status < _FINAL_STATUS:
            self._body = b""  # an interim one; the answer is still to come
            return
        refused = why_refused(status, self._head)
        response = self._response(status, None if refused is None else Failure.HTTP, refused)
        waiting, self.waiting = self.waiting, None
        # An answer before the request was out: what is left of it would go before the next one.
        unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
        if unsent or not self._parser.should_keep_alive():
            self.close()
        elif self.transport is not None:
            self._idle(self)  # before the call: it may well send the next request
        waiting(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self.transport = None
        failure = Failure.TRUNCATED if self._first_byte_ns else Failure.RESET
        self._settle(0, failure, f"{failure}: {exc or 'closed by the server before the answer was whole'}")

    def fail(self, failure: Failure, words: str) -> None:
        """Give up the request, and the connection with it."""
        self._settle(0, failure, words)
        self.close()

    def _settle(self, status: int, failure: Failure | None, words: str | None) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting(self._response(status, failure, words))

    def _response(self, status: int, failure: Failure | None, words: str | None) -> Response:
        return Response(
            self._sample,
            self._scheduled_ns,
            self._begun_ns,
            self._sent_ns,
            self._first_byte_ns,
            _now_ns(),
            status,
            self._head,
            self._body,
            words,
            failure,
        )

    def close(self) -> None:
        """Drop the connection; another is opened when one is needed."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def why_unconnected(error: Exception) -> Failure:
    """The kind of failure that kept a connection from being opened."""
    kinds: tuple[tuple[type[Exception], Failure], ...] = (
        (socket.gaierror, Failure.UNRESOLVED),
        (ConnectionRefusedError, Failure.REFUSED),
        (ssl.SSLError, Failure.TLS),
        (TimeoutError, Failure.TIMEOUT),
    )
    return next((failure for kind, failure in kinds if isinstance(error, kind)), Failure.NO_CONNECTION)
