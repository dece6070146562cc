"""The keep-alive connection of the built-in client: an asyncio protocol around httptools' parser."""

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
    """The methods of a transport that a connection needs; asyncio's transports have these."""

    def write(self, data: bytes) -> None:
        """Send the data."""

    def is_closing(self) -> bool:
        """Return True when the transport is closed, or about to be."""

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the kernel has not taken yet."""

    def abort(self) -> None:
        """Close the transport at once."""


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    The connection is also the callback object of its parser: httptools calls the `on_…` methods.

    Args:
        idle: called when the connection can take the next request.

    Attributes:
        transport: the transport to write to; None once the connection is gone.
        waiting: called with the response of the request in flight; None while none is in flight.
        deadline_ns: when the request in flight is to be given up.
        arrived_ns: when the kernel had what was received last; 0 where the transport cannot tell.
    """

    __slots__ = (
        *("_begun_ns", "_body", "_first_byte_ns", "_head", "_headless", "_idle", "_more", "_parser", "_sample"),
        *("_scheduled_ns", "_sent_ns", "arrived_ns", "deadline_ns", "transport", "waiting"),
    )

    def __init__(self, idle: Callable[[Connection], None]) -> None:
        self.transport: Transport | None = None
        self.deadline_ns = self.arrived_ns = 0
        self._idle = idle
        self.waiting: Done | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sample = _NOTHING
        self._scheduled_ns = self._begun_ns = self._sent_ns = self._first_byte_ns = 0
        self._head = b""
        self._body = b""
        self._more: list[bytes] = []
        self._headless = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # asyncio's is wider
        """Keep the transport (asyncio's callback)."""
        self.transport = transport

    @property
    def usable(self) -> bool:
        """True when the connection is open."""
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
        assert self.transport is not None  # noqa: S101 - the caller has checked `usable`
        self._sample, self._scheduled_ns, self._begun_ns = sample, scheduled_ns, begun_ns
        self._first_byte_ns = self.arrived_ns = 0
        self._head = self._body = b""
        self._more.clear()
        self._headless = True
        self.waiting = waiting
        # Before the write: this process may lose its processor in it, and the answer may be there when it goes on.
        self._sent_ns = _now_ns()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes (asyncio's callback)."""
        if not self._first_byte_ns:
            self._first_byte_ns = _now_ns()
        if self._headless:
            self._take_head(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(Failure.MALFORMED, f"not HTTP: {error!r}")

    def _take_head(self, data: bytes) -> None:
        """Keep the headers unparsed: parsing can wait until no request is in flight."""
        head = self._head + data if self._head else data
        end = head.find(_END_OF_HEAD)
        while end >= 0 and head[_STATUS_AT : _STATUS_AT + 1] == b"1":  # interim; the final head may follow at once
            head = head[end + len(_END_OF_HEAD) :]
            end = head.find(_END_OF_HEAD)
        self._headless = end < 0
        self._head = head if end < 0 else head[:end]

    def on_body(self, body: bytes) -> None:
        """Keep one piece of the body; pieces are joined once, as joining each would copy a long body many times."""
        if self._body:
            self._more.append(body)
        else:
            self._body = body

    def on_message_complete(self) -> None:
        """Pass on the complete response."""
        status = self._parser.get_status_code()
        if self.waiting is None:
            self.close()  # a response without a request: later responses could not be matched to requests
            return
        if status < _FINAL_STATUS:
            self._body = b""  # an interim response; the final one is still to come
            self._more.clear()
            return
        refused = why_refused(status, self._head)
        response = self._response(status, None if refused is None else Failure.HTTP, refused)
        waiting, self.waiting = self.waiting, None
        # If the response came before the whole request was written, the rest would precede the next request.
        unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
        if unsent or not self._parser.should_keep_alive():
            self.close()
        elif self.transport is not None:
            self._idle(self)  # before `waiting`, which may send the next request
        waiting(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in flight (asyncio's callback)."""
        self.transport = None
        failure = Failure.TRUNCATED if self._first_byte_ns else Failure.RESET
        self._settle(0, failure, f"{failure}: {exc or 'closed by the server before the answer was whole'}")

    def fail(self, failure: Failure, words: str) -> None:
        """Fail the request in flight and close the connection."""
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
            b"".join((self._body, *self._more)) if self._more else self._body,
            words,
            failure,
            self.arrived_ns,
        )

    def close(self) -> None:
        """Close the connection; the client opens a new one when needed."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def why_unconnected(error: Exception) -> Failure:
    """Return the kind of failure that kept a connection from being opened."""
    kinds: tuple[tuple[type[Exception], Failure], ...] = (
        (socket.gaierror, Failure.UNRESOLVED),
        (ConnectionRefusedError, Failure.REFUSED),
        (ssl.SSLError, Failure.TLS),
        (TimeoutError, Failure.TIMEOUT),
    )
    return next((failure for kind, failure in kinds if isinstance(error, kind)), Failure.NO_CONNECTION)
