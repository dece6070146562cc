"""Requests over real sockets, against a small server that does as it is told: well or badly."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import zlib

import pytest

from pytest_torchserve.load import ConstantRate, FullBatches, MonotonicClock
from pytest_torchserve.model import Sample
from pytest_torchserve.sender import Sender
from pytest_torchserve.server import Address


def http(body, status="200 OK", extra=""):
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}".encode()


class Misbehaving:
    """Accepts connections; each request is answered by `answer(headers, body)`: bytes, None to hang, '' to reset."""

    def __init__(self, answer):
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.requests = []
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
        with connection, connection.makefile("rb") as file:
            while head := file.readline():
                headers = {}
                while (line := file.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    headers[name.decode().lower()] = value.strip().decode()
                body = file.read(int(headers.get("content-length", 0)))
                self.requests.append((head.decode().strip(), headers, body))
                answer = self._answer(headers, body)
                if answer is None:
                    threading.Event().wait(60)
                if not answer:
                    return
                connection.sendall(answer)
                if b"Connection: close" in answer:
                    return

    def close(self):
        """Accept nothing more."""
        self._listener.close()


@pytest.fixture
def server():
    """`server(answer)` starts one; all are closed after the test."""
    made = []

    def start(answer):
        made.append(Misbehaving(answer))
        return made[-1]

    yield start
    for one in made:
        one.close()


SAMPLES = [Sample(name=str(n), body=bytes([n]) * (n + 1), answer={}) for n in range(5)]


def echo(headers, body):
    """Length and checksum of the body."""
    return http(json.dumps({"bytes": len(body), "crc32": zlib.crc32(body)}))


def send(server, count, *, batch=1, timeout_s=5.0, samples=SAMPLES, key="secret"):
    """Send `count` batches and return all responses."""
    responses = []

    def more(fresh):
        responses.extend(fresh)
        return len(responses) < count * batch

    with Sender(Address("127.0.0.1", server.port, key), "/predictions/x", samples, timeout_s=timeout_s) as sender:
        sender.run(FullBatches(batch), more, MonotonicClock())
    return responses


def test_a_good_server(server):
    """Every sample in turn, its own answer, kept alive on as many connections as are in flight."""
    good = server(echo)
    responses = send(good, 10, batch=4)
    assert [r.sample for r in responses] == [index % 5 for index in range(40)]
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(SAMPLES[r.sample].body) for r in responses]
    assert good.connections == 4
    assert all(r.sent_ns <= r.first_byte_ns <= r.done_ns and r.error is None for r in responses)


def test_what_is_sent(server):
    """A POST of the raw bytes with the token; a form content type would lose the image."""
    good = server(echo)
    send(good, 1)
    head, headers, body = good.requests[0]
    assert head == "POST /predictions/x HTTP/1.1"
    assert headers["authorization"] == "Bearer secret"
    assert headers["content-type"] == "application/octet-stream"
    assert body == SAMPLES[0].body


def test_no_key_no_header(server):
    """A server without token authorisation is sent none."""
    good = server(echo)
    send(good, 1, key="")
    assert "authorization" not in good.requests[0][1]


def test_closed_connections_are_reopened(server):
    """A server that closes after each answer is asked again on a new connection."""
    closing = server(lambda headers, body: http("{}", extra="Connection: close\r\n"))
    responses = send(closing, 3)
    assert [r.error for r in responses] == [None] * 3
    assert closing.connections == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda headers, body: b"", "connection lost"),
        (lambda headers, body: b"garbage\r\n\r\n", "not HTTP"),
        (lambda headers, body: http("12345")[:-3] + b"", "no answer within"),
        (lambda headers, body: None, "no answer within 0.3 s"),
        (lambda headers, body: http("busy", "503 Service Unavailable"), "HTTP 503"),
        (lambda headers, body: http("who are you", "400 Bad Request"), "HTTP 400"),
    ],
)
def test_a_bad_server_is_data(server, answer, error):
    """Reset, garbage, half a body, silence and refusals are responses with an error; nothing raises or hangs."""
    responses = send(server(answer), 2, timeout_s=0.3)
    assert len(responses) == 2
    assert all(error in r.error for r in responses)


def test_no_server():
    """A refused connection is a response with an error too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nobody = type("Nobody", (), {"port": port})
    (response,) = send(nobody, 1)
    assert "no connection" in response.error
    assert response.status == 0


def test_constant_rate_over_sockets(server):
    """An open loop: every request has its schedule, and none left before it."""
    responses = []
    good = server(echo)
    with Sender(Address("127.0.0.1", good.port, ""), "/", SAMPLES) as sender:
        sender.run(ConstantRate(200, 50), lambda fresh: responses.extend(fresh) or True, MonotonicClock())
    scheduled = sorted(r.scheduled_ns for r in responses)
    assert [b - a for a, b in itertools.pairwise(scheduled)] == [5_000_000] * 49
    assert all(r.sent_ns >= r.scheduled_ns for r in responses)
