"""Requests over real sockets, against a small server that does as it is told: well or badly."""

from __future__ import annotations

import gc
import itertools
import json
import os
import socket
import ssl
import threading
import zlib
from collections import Counter

import pytest
import trustme

from pytest_torchserve.address import Address
from pytest_torchserve.clock import MonotonicClock
from pytest_torchserve.load import ClosedLoop, ConstantRate, FullBatches
from pytest_torchserve.model import Sample
from pytest_torchserve.response import Failure
from pytest_torchserve.sender import Sender


def http(body, status="200 OK", extra=""):
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}".encode()


CLOSE = b"<close here>"


class Misbehaving:
    """Accepts connections; each request is answered by `answer(headers, body)`: bytes, None to hang, '' to reset."""

    def __init__(self, answer, tls=None):
        self._answer = answer
        self._tls = tls
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
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return
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
                connection.sendall(answer.removesuffix(CLOSE))
                if b"Connection: close" in answer or answer.endswith(CLOSE):
                    return

    def close(self):
        """Accept nothing more."""
        self._listener.close()


@pytest.fixture
def server():
    """`server(answer)` starts one; all are closed after the test."""
    made = []

    def start(answer, tls=None):
        made.append(Misbehaving(answer, tls))
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
    batches = [responses[at : at + 4] for at in range(0, 40, 4)]
    assert [sorted(r.sample for r in batch) for batch in batches] == [
        sorted(index % 5 for index in range(at, at + 4)) for at in range(0, 40, 4)
    ]
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


HALF = http("x" * 1000)[:-500]

BAD = {
    "resets": (lambda headers, body: b"", "connection lost"),
    "closes half-way": (lambda headers, body: HALF + CLOSE, "answer cut short"),
    "hangs half-way": (lambda headers, body: HALF, "timed out"),
    "hangs": (lambda headers, body: None, "timed out"),
    "answers garbage": (lambda headers, body: b"\x00\xffgarbage\r\n\r\n", "not HTTP"),
    "is busy": (lambda headers, body: http("busy", "503 Service Unavailable"), "HTTP 503"),
    "does not know the key": (lambda headers, body: http("who are you", "400 Bad Request"), "HTTP 400"),
}


@pytest.mark.parametrize(
    "load", [FullBatches(3), ClosedLoop(3, 0.2), ConstantRate(100, 0.2)], ids=lambda load: load.name
)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_server_is_data(server, bad, load):
    """Whatever it does: each request is a response of the one kind, none is lost, nothing raises or hangs."""
    answer, kind = BAD[bad]
    broken, responses = server(answer), []

    def more(fresh):
        responses.extend(fresh)
        return not isinstance(load, FullBatches)

    timeout_s = 0.3 if kind == "timed out" else 30.0
    with Sender(Address("127.0.0.1", broken.port), "/", SAMPLES, timeout_s=timeout_s) as sender:
        sender.run(load, more, MonotonicClock())
    assert Counter(r.kind for r in responses) == {kind: len(responses)}
    assert len(responses) >= 3
    assert len(responses) == len(broken.requests)
    assert len(responses) == 20 or not isinstance(load, ConstantRate)
    assert all(r.done_ns >= r.sent_ns >= r.begun_ns >= r.scheduled_ns for r in responses)


def test_it_recovers(server):
    """A server that is bad for a while is asked again on new connections, and then answers."""
    turns = itertools.count()
    moody = server(lambda headers, body: b"" if next(turns) < 5 else echo(headers, body))
    responses = send(moody, 10)
    assert [r.kind for r in responses] == ["connection lost"] * 5 + [None] * 5


def unreachable(host, port, *, tls=False):
    """What becomes of five requests to nobody."""
    responses = []
    with Sender(Address(host, port, tls=tls), "/", SAMPLES, timeout_s=2.0) as sender:
        sender.run(ConstantRate(50, 0.1), lambda fresh: responses.extend(fresh) or True, MonotonicClock())
    assert len(responses) == 5
    assert all(r.status == 0 for r in responses)
    return {r.kind for r in responses}


def test_no_server():
    """A refused connection is a response too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert unreachable("127.0.0.1", port) == {Failure.REFUSED}


def test_no_such_name():
    """A name that does not resolve says so."""
    assert unreachable("no-such-host.invalid", 80) == {Failure.UNRESOLVED}


def test_plain_where_tls_was_wanted():
    """A handshake with a server that answers in plain text fails as such."""

    def answer(listener):
        for _ in range(5):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(http("", "400 Bad Request"))
                connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=[listener], daemon=True).start()
        assert unreachable("127.0.0.1", listener.getsockname()[1], tls=True) == {Failure.TLS}


def test_tls(server, tmp_path, monkeypatch):
    """A certificate that SSL_CERT_FILE vouches for is accepted, and the answers are right; any other is refused."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    secure = server(echo, context)
    assert unreachable("localhost", secure.port, tls=True) == {Failure.TLS}
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    responses = []
    with Sender(Address("localhost", secure.port, "secret", tls=True), "/", SAMPLES) as sender:
        sender.run(FullBatches(4), lambda fresh: responses.extend(fresh) or len(responses) < 20, MonotonicClock())
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(SAMPLES[r.sample].body) for r in responses]
    assert secure.requests[0][1]["authorization"] == "Bearer secret"


def test_what_is_in_flight_at_the_end_is_accounted_for(server):
    """An end before the answers: every request that left is shown once, as unanswered."""
    silent, responses = server(lambda headers, body: None), []
    load = ConstantRate(1000, 0.05)

    def more(fresh):
        responses.extend(fresh)
        return len(silent.requests) < 50

    with Sender(Address("127.0.0.1", silent.port), "/", SAMPLES) as sender:
        sender.run(load, more, MonotonicClock())
    assert Counter(r.kind for r in responses) == {Failure.UNANSWERED: 50}


@pytest.mark.parametrize("load", [ClosedLoop(3, 0.1), ConstantRate(30, 0.1)], ids=lambda load: load.name)
def test_a_silent_server_does_not_keep_a_load_from_ending(server, load):
    """Nobody answers, and time-outs are far: `more` is asked all the same, and its no is the end."""
    silent, responses, asked = server(lambda headers, body: None), [], []

    def more(fresh):
        responses.extend(fresh)
        asked.append(len(fresh))
        return len(asked) < 5

    with Sender(Address("127.0.0.1", silent.port), "/", SAMPLES, timeout_s=600) as sender:
        sender.run(load, more, MonotonicClock())
    assert Counter(r.kind for r in responses) == {Failure.UNANSWERED: 3}


def test_an_open_loop_over_sockets(server):
    """Every request has its schedule, none left before it; the edges of each stand in their order."""
    responses = []
    good = server(echo)
    with Sender(Address("127.0.0.1", good.port, ""), "/", SAMPLES) as sender:
        sender.run(ConstantRate(200, 0.25), lambda fresh: responses.extend(fresh) or True, MonotonicClock())
    scheduled = sorted(r.scheduled_ns for r in responses)
    assert [b - a for a, b in itertools.pairwise(scheduled)] == [5_000_000] * 49
    assert all(r.scheduled_ns <= r.begun_ns <= r.sent_ns <= r.first_byte_ns <= r.done_ns for r in responses)


def test_an_answer_that_nobody_asked_for(server):
    """Two answers to one request: the second is nobody's, its connection is dropped, every asker is served."""
    double = server(lambda headers, body: echo(headers, body) * 2)
    responses = send(double, 5, batch=3)
    assert [r.kind for r in responses] == [None] * 15
    assert sorted(json.loads(r.body)["bytes"] for r in responses) == sorted(
        len(SAMPLES[r.sample].body) for r in responses
    )


def test_an_interim_answer(server):
    """`100 Continue` before the answer is not the answer."""
    patient = server(lambda headers, body: b"HTTP/1.1 100 Continue\r\n\r\n" + echo(headers, body))
    responses = send(patient, 4, batch=2)
    assert [r.status for r in responses] == [200] * 8
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(SAMPLES[r.sample].body) for r in responses]


def test_a_body_that_the_kernel_does_not_take_at_once(server):
    """Far more than a socket's buffer: written in pieces, and whole when it arrives."""
    good = server(echo)
    large = Sample(name="large", body=bytes(range(256)) * 100_000, answer={})
    (response,) = send(good, 1, samples=[large], timeout_s=60)
    assert json.loads(response.body) == {"bytes": len(large.body), "crc32": zlib.crc32(large.body)}


def test_the_sender_is_left_alone(server):
    """No collection of garbage while requests are in flight, an open loop before others; then all is as it was."""

    def look():
        return gc.isenabled(), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK

    good, seen = server(echo), []
    with Sender(Address("127.0.0.1", good.port), "/", SAMPLES) as sender:
        for load in (ClosedLoop(1, 0.05), ConstantRate(50, 0.1)):
            looks = set()
            sender.run(load, lambda _, looks=looks: looks.add(look()) or True, MonotonicClock())
            seen.append(looks)
            assert look() == (True, os.SCHED_OTHER)
    assert seen[0] == {(False, os.SCHED_OTHER)}
    assert seen[1] in ({(False, os.SCHED_RR)}, {(False, os.SCHED_OTHER)})  # as far as it is allowed here


def test_headers_are_kept_as_they_came(server):
    """Names in lower case, values whole; a head that arrives in pieces is one head."""
    extra = "X-Long: " + "a" * 3000 + "\r\nServer-Timing: a;dur=1\r\n"
    pieces = server(lambda headers, body: http("{}", extra=extra))
    (response,) = send(pieces, 1)
    assert response.headers["x-long"] == "a" * 3000
    assert response.headers["server-timing"] == "a;dur=1"
    assert response.body == b"{}"
