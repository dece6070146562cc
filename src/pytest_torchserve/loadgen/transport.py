"""A plain socket as the asyncio transport that `Connection` needs, and no more.

uvloop's own transport costs some 15 µs a request more than the socket itself, a fifth of the client's total cost. The
additional features (flow control, watermarks, half-closed connections) are not needed for one request at a time. TLS
connections keep asyncio's transport.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from pytest_torchserve.loadgen.connection import Connection

_READ_BYTES = 1 << 16

_SO_TIMESTAMPNS = 35
"""Linux's socket option for receive times (asm-generic/socket.h), which Python's `socket` does not name."""

_TIMESPEC = struct.Struct("@qq")
_TRIES = 3
_APART_NS = 50_000
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)

Resolved = tuple[int, int, int, Any]
"""Family, kind, protocol and address, as `socket.socket` and `connect` want them."""


class SocketTransport:
    """A transport between a `Connection` and a connected, non-blocking socket."""

    __slots__ = ("_connection", "_fd", "_loop", "_pending", "_socket")

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: socket.socket, connection: Connection) -> None:
        self._loop = loop
        self._socket: socket.socket | None = connected
        self._fd = connected.fileno()
        self._connection = connection
        self._pending = b""
        loop.add_reader(self._fd, self._readable)
        connection.connection_made(self)

    def is_closing(self) -> bool:
        """Return True when the socket is closed."""
        return self._socket is None

    def write(self, data: bytes) -> None:
        """Send at once what the kernel takes, the rest later; on an error, report the connection as lost soon after."""
        if self._socket is None:
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._loop.call_soon(self._lost, error)
            return
        if sent < len(data):
            self._pending = data[sent:]
            self._loop.add_writer(self._fd, self._writable)

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the kernel has not taken yet."""
        return len(self._pending)

    def abort(self) -> None:
        """Close the socket without calling `connection_lost`."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._socket.close()
        self._socket = None

    def _writable(self) -> None:
        data, self._pending = self._pending, b""
        self._loop.remove_writer(self._fd)
        self.write(data)

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            data, told, _, _ = self._socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._connection.arrived_ns = arrival_ns(told)
            self._connection.data_received(data)
        else:
            self._lost(None)

    def _lost(self, error: OSError | None) -> None:
        if self._socket is not None:
            self.abort()
            self._connection.connection_lost(error)


def stamp_arrivals(made: socket.socket) -> None:
    """Ask the kernel to say, with each read, when its data had come; it costs half a microsecond a read."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def arrival_ns(told: Sequence[tuple[int, int, bytes]]) -> int:
    """Return when the data that was just read had come, in nanoseconds of the monotonic clock; 0 where nobody says.

    The kernel tells it by the wall clock, which may be set at any time: the difference of both clocks is taken now, and
    a time in the future is none.
    """
    for level, kind, data in told:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
            seconds, ns = _TIMESPEC.unpack(data)
            # The process may lose its processor between the two clocks: then both are read again.
            for _ in range(_TRIES):
                now_ns, wall_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
                if after_ns - now_ns < _APART_NS:
                    break
            return min(now_ns, int(seconds) * 1_000_000_000 + int(ns) - wall_ns + now_ns)
    return 0


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Resolved]:
    """Return the host's addresses.

    A client looks them up only once, as the look-up runs in a thread and takes longer than connecting.

    Raises:
        socket.gaierror: the name does not exist.
    """
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]


async def open_plain(loop: asyncio.AbstractEventLoop, resolved: Sequence[Resolved], connection: Connection) -> None:
    """Connect to the first address that accepts.

    Raises:
        OSError: no address accepts; the error is that of the last address.
    """
    reason: OSError = ConnectionRefusedError("the name has no address")
    for family, kind, protocol, address in resolved:
        with contextlib.ExitStack() as undo:
            made = undo.enter_context(socket.socket(family, kind, protocol))
            made.settimeout(0)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stamp_arrivals(made)
            try:
                await loop.sock_connect(made, address)
            except OSError as error:
                reason = error
                continue
            SocketTransport(loop, made, connection)
            undo.pop_all()
            return
    raise reason
