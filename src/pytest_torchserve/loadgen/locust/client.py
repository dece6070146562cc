"""Locust's FastHttp client, changed to send what `encoding.encode` returns and to note when bytes go and come.

Locust fires its events and geventhttpclient speaks HTTP as in any Locust user. The differences: no redirects, no
retries, no cookies, no headers added, certificates verified, and as many connections as are needed at once.
"""

from __future__ import annotations

import socket
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent.socket
import gevent.ssl
from gevent.monkey import get_original
from geventhttpclient.client import HTTPClient, HTTPClientPool
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.header import Headers
from locust.contrib.fasthttp import FastHttpSession, LocustUserAgent

if TYPE_CHECKING:
    from geventhttpclient.url import URL
    from geventhttpclient.useragent import CompatRequest, CompatResponse
    from locust.event import EventHook

    from pytest_torchserve.loadgen.address import Address

_AT_ONCE = 1 << 20
"""The limit of connections: more than the system allows, as an open loop must never wait for a free connection."""

_BLOCK_BYTES = 16 * 1024
_poll = get_original("select", "poll")
_POLLIN = 1


@dataclass(slots=True)
class Stamps:
    """The times of one request at the socket, at the points where the built-in client's connection takes them too.

    The write is noted right before its system call, the others right after it. Between `Response.begun_ns` and
    `sent_ns` lies Locust's own work for the request, a quarter of a millisecond or so. For a new connection, the name
    look-up and the handshakes are added.

    Attributes:
        connected: the request had a connection, a new one or a kept one.
        sent_ns: when the write of the request began; 0 where the kernel did not take all of its bytes.
        first_byte_ns: when the first bytes of the response were read; 0 where none were.
        ended: the server closed the connection, or reset it.
    """

    connected: bool = False
    sent_ns: int = 0
    first_byte_ns: int = 0
    ended: bool = False


STAMPS: ContextVar[Stamps] = ContextVar("stamps")
"""The stamps of the request that this greenlet sends; each greenlet has its own context."""


class _Stamping:
    """A socket mixin that notes when bytes go and come. geventhttpclient writes a request by one `sendall`."""

    def sendall(self, data: bytes, flags: int = 0) -> None:
        begun_ns = time.monotonic_ns()
        super().sendall(data, flags)  # type: ignore[misc]
        STAMPS.get().sent_ns = begun_ns

    def recv(self, *args: int) -> bytes:
        stamps = STAMPS.get()
        try:
            data: bytes = super().recv(*args)  # type: ignore[misc]
        except ConnectionError:
            stamps.ended = True
            raise
        if not data:
            stamps.ended = True
        elif not stamps.first_byte_ns:
            stamps.first_byte_ns = time.monotonic_ns()
        return data


class _Plain(_Stamping, gevent.socket.socket):
    pass


class _Tls(_Stamping, gevent.ssl.SSLSocket):
    pass


class Connections(ConnectionPool):
    """Keep-alive connections to one server, the last used first; a new connection if none is idle."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        host, port = address.host, address.port
        super().__init__(host, port, host, port, size=_AT_ONCE, connection_timeout=timeout_s, network_timeout=timeout_s)
        self._tls = gevent.ssl.create_default_context() if address.tls else None
        if self._tls is not None:
            self._tls.sslsocket_class = _Tls

    def get_socket(self) -> Any:
        """Return an open connection."""
        connection = super().get_socket()
        STAMPS.get().connected = True
        return connection

    def after_connect(self, sock: Any) -> None:
        """Send the end of a long body at once, as asyncio's connections do."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _create_tcp_socket(self, family: int, socktype: int, protocol: int) -> Any:
        return _Plain(family, socktype, protocol)

    def _connect_socket(self, sock: Any, address: Any) -> Any:
        connection = super()._connect_socket(sock, address)
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_hostname=self._request_host)

    def _is_socket_alive(self, sock: Any) -> bool:
        """Return True when nothing can be read: an idle connection becomes readable only when it is closed.

        The original method uses select(2), which knows descriptors below 1024 only.
        """
        if sock.fileno() < 0:
            return False
        asked = _poll()
        asked.register(sock.fileno(), _POLLIN)
        return not asked.poll(0)


class _Clients(HTTPClientPool):
    """A pool with a single client, as a load has one address."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__()
        # `Connections` handles TLS; the client must not create contexts that are never used.
        self._client = HTTPClient(address.host, address.port, block_size=_BLOCK_BYTES)
        self._client.default_headers = Headers()
        self._client._connection_pool = Connections(address, timeout_s)  # noqa: SLF001 - there is no parameter

    def get_client(self, url: str | URL) -> HTTPClient:  # noqa: ARG002 - the pool's signature
        return self._client

    def close(self) -> None:
        self._client.close()


class _Agent(LocustUserAgent):
    """A user agent that accepts every status: otherwise, from 400 on, the body is read before it can be timed.

    A redirect is accepted, too, and not followed: its target is no prediction and must not get the token.
    """

    valid_response_codes = frozenset(range(100, 1000))
    redirect_response_codes = frozenset[int]()

    def _urlopen(self, request: CompatRequest) -> CompatResponse:
        request.headers.discard("Accept-Encoding")  # added by Locust; the body must come unencoded
        opened: CompatResponse = super()._urlopen(request)
        return opened


class LocustSession(FastHttpSession):
    """A Locust client for one address, whose connections are shared by all users of this process."""

    def __init__(self, address: Address, request_event: EventHook, timeout_s: float) -> None:
        super().__init__(address.url, request_event, user=None, insecure=False)
        self.client = _Agent(client_pool=_Clients(address, timeout_s), max_redirects=0, max_retries=0)
        self.client.default_headers = Headers()

    def close(self) -> None:
        """Close the idle connections; connections in use close with their requests."""
        self.client.close()
