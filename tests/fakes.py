"""The fakes that the tests share: a clock, a monitor, a progress line and a server."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import zlib
from typing import NamedTuple

from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.model import Sample

SAMPLES = [Sample(name=str(n), body=bytes([n]) * (n + 1), answer={}) for n in range(5)]


def silent(what, share):
    """Show no progress."""


class FakeClock:
    """A clock that only the test moves, in whole nanoseconds; a call returns seconds."""

    def __init__(self, now_s=0.0):
        self.ns = round(now_s * 1e9)

    @property
    def now_s(self):
        """The fake time in seconds."""
        return self.ns / 1e9

    @now_s.setter
    def now_s(self, now_s):
        self.ns = round(now_s * 1e9)

    def now_ns(self):
        """Return the fake time in nanoseconds."""
        return self.ns

    def __call__(self):
        """Return the fake time in seconds."""
        return self.now_s


class FakeMonitor:
    """A monitor of the machine that always returns the same telemetry, by default None."""

    def __init__(self, telemetry=None):
        self._telemetry = telemetry

    def snapshot(self):
        """Take no snapshot."""
        return 0

    def between(self, start_ns):
        """Return the given telemetry, whenever the window began."""
        return self._telemetry


CLOSE = b"<close here>"
"""The end of an answer after which the server ends the connection; CLOSE itself is not sent."""

RESET = object()
"""The answer that ends the connection with a reset."""

HANG = object()
"""The answer that never comes, on a connection that stays open."""


class Request(NamedTuple):
    """A request as it came.

    Attributes:
        line: the first line, without the line's end.
        headers: the values by name, in lower case.
        body: the whole body.
        head: everything before the empty line, byte for byte.
    """

    line: str
    headers: dict[str, str]
    body: bytes
    head: bytes


def http(body, status="200 OK", extra="X-Name: Value\r\n"):
    """Return a whole answer as it goes over the wire."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}".encode()


def echo(request):
    """Answer with the body's length and checksum."""
    return http(json.dumps({"bytes": len(request.body), "crc32": zlib.crc32(request.body)}))


class FakeServer:
    """A server on loopback that keeps its connections and responds as the test says, rightly or wrongly.

    Each request is answered by `answer(request)`: bytes, which may end in CLOSE; no bytes, to end the connection; RESET
    or HANG. The `greeting`, which no HTTP server sends, goes to each new client.
    """

    def __init__(self, answer, greeting=b"", tls=None, host="127.0.0.1"):
        self._answer = answer
        self._greeting = greeting
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=512)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.port = self._listener.getsockname()[1]
        self.address = Address(host, self.port, "secret")
        self.requests = []
        self.in_flight = self.most_in_flight = self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return
        # A client that is killed leaves a reset behind.
        with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as file:
            connection.sendall(self._greeting)
            while (request := _read(file)) is not None:
                if not self._respond(connection, request):
                    return

    def _respond(self, connection, request):
        """Answer one request; return whether the connection stays open."""
        with self._lock:
            self.requests.append(request)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        answer = self._answer(request)
        if answer is HANG:
            self._closed.wait(60)
        with self._lock:
            self.in_flight -= 1
        if answer is RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer is RESET or answer is HANG:
            return False
        connection.sendall(answer.removesuffix(CLOSE))
        return bool(answer) and not answer.endswith(CLOSE)

    def close(self):
        """Accept no more connections, and end the requests that hang."""
        self._listener.close()
        self._closed.set()


def _read(file):
    """Return the next request of a connection; None at its end."""
    first = file.readline()
    if not first:
        return None
    lines = [first]
    while (line := file.readline()) not in (b"\r\n", b""):
        lines.append(line)
    named = (line.decode().strip().partition(":") for line in lines[1:])
    headers = {name.lower(): value.strip() for name, _, value in named}
    body = file.read(int(headers.get("content-length", 0)))
    return Request(first.decode().strip(), headers, body, b"".join(lines))
