"""Requests over real sockets to a small server that behaves well or badly, as each test says."""

from __future__ import annotations

import gc
import itertools
import json
import os
import socket
import ssl
import threading
import time
import zlib
from collections import Counter
from types import SimpleNamespace

import pytest
import trustme

from fakes import CLOSE, HANG, SAMPLES, echo, http
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.arrivals import ConstantRate
from pytest_torchserve.loadgen.client import HttpClient
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.connection import Connection
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.loadgen.schedule import ClosedLoop, FullBatches
from pytest_torchserve.model import Sample


def send(server, count, *, batch=1, timeout_s=5.0, samples=SAMPLES, key="secret"):
    """Send `count` batches and return all responses."""
    responses = []

    def more(fresh):
        responses.extend(fresh)
        return len(responses) < count * batch

    with HttpClient(Address("127.0.0.1", server.port, key), "/predictions/x", samples, timeout_s=timeout_s) as client:
        client.run(FullBatches(batch), more, MonotonicClock())
    return responses


def test_a_good_server(server):
    """Each sample in turn gets its own answer, on as many keep-alive connections as there are requests in flight."""
    good = server(echo)
    responses = send(good, 10, batch=4)
    batches = [responses[at : at + 4] for at in range(0, 40, 4)]
    assert [sorted(int(r.sample.name) for r in batch) for batch in batches] == [
        sorted(index % 5 for index in range(at, at + 4)) for at in range(0, 40, 4)
    ]
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(r.sample.body) for r in responses]
    assert good.connections == 4
    assert all(r.sent_ns <= r.first_byte_ns <= r.done_ns and r.error is None for r in responses)


def test_what_is_sent(server):
    """A request is a POST of the raw bytes with the token; with a form content type the image would be lost."""
    good = server(echo)
    send(good, 1)
    line, headers, body, _ = good.requests[0]
    assert line == "POST /predictions/x HTTP/1.1"
    assert headers["authorization"] == "Bearer secret"
    assert headers["content-type"] == "application/octet-stream"
    assert body == SAMPLES[0].body


def test_no_key_no_header(server):
    """A request to a server without token authorisation has no Authorization header."""
    good = server(echo)
    send(good, 1, key="")
    assert "authorization" not in good.requests[0].headers


def test_closed_connections_are_reopened(server):
    """After an answer that closes its connection, the next request goes over a new connection."""
    closing = server(lambda request: http("{}", extra="Connection: close\r\n") + CLOSE)
    responses = send(closing, 3)
    assert [r.error for r in responses] == [None] * 3
    assert closing.connections == 3


HALF = http("x" * 1000)[:-500]

BAD = {
    "resets": (lambda request: b"", "connection lost"),
    "closes half-way": (lambda request: HALF + CLOSE, "answer cut short"),
    "hangs half-way": (lambda request: HALF, "timed out"),
    "hangs": (lambda request: HANG, "timed out"),
    "answers garbage": (lambda request: b"\x00\xffgarbage\r\n\r\n", "not HTTP"),
    "is busy": (lambda request: http("busy", "503 Service Unavailable"), "HTTP 503"),
    "does not know the key": (lambda request: http("who are you", "400 Bad Request"), "HTTP 400"),
    "wants a login": (lambda request: http("", "302 Found", "Location: https://login.example/\r\n"), "HTTP 302"),
    "leads back to itself": (lambda request: http("{}", "307 Again", "Location: /\r\n"), "HTTP 307"),
    "knows of no change": (lambda request: b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", "HTTP 304"),
    "has a status of its own": (lambda request: http("{}", "999 Who knows"), "HTTP 999"),
}


@pytest.mark.parametrize(
    "load", [FullBatches(3), ClosedLoop(3, 0.2), ConstantRate(100, 0.2)], ids=lambda load: load.name
)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_server_is_data(server, bad, load):
    """Whatever the server does, each request has one response of the expected kind; nothing raises or hangs."""
    answer, kind = BAD[bad]
    broken, responses = server(answer), []

    def more(fresh):
        responses.extend(fresh)
        return not isinstance(load, FullBatches)

    timeout_s = 0.3 if kind == "timed out" else 30.0
    with HttpClient(Address("127.0.0.1", broken.port), "/", SAMPLES, timeout_s=timeout_s) as client:
        client.run(load, more, MonotonicClock())
    assert Counter(r.kind for r in responses) == {kind: len(responses)}
    assert len(responses) >= 3
    assert len(responses) == len(broken.requests)
    assert len(responses) == 20 or not isinstance(load, ConstantRate)
    assert all(r.done_ns >= r.sent_ns >= r.begun_ns >= r.scheduled_ns for r in responses)


def test_it_recovers(server):
    """After failures of the server the client opens new connections, and gets answers once the server gives them."""
    turns = itertools.count()
    moody = server(lambda request: b"" if next(turns) < 5 else echo(request))
    responses = send(moody, 10)
    assert [r.kind for r in responses] == ["connection lost"] * 5 + [None] * 5


def unreachable(host, port, *, tls=False):
    """Return the kinds of failure of five requests to an address without a usable server."""
    responses = []
    with HttpClient(Address(host, port, tls=tls), "/", SAMPLES, timeout_s=2.0) as client:
        client.run(ConstantRate(50, 0.1), lambda fresh: responses.extend(fresh) or True, MonotonicClock())
    assert len(responses) == 5
    assert all(r.status == 0 for r in responses)
    return {r.kind for r in responses}


def test_no_server():
    """A refused connection is recorded as a response."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert unreachable("127.0.0.1", port) == {Failure.REFUSED}


def test_no_such_name():
    """A host name that does not resolve is recorded as a failure of that kind."""
    assert unreachable("no-such-host.invalid", 80) == {Failure.UNRESOLVED}


def test_plain_where_tls_was_wanted():
    """A TLS handshake with a server that answers in plain text is recorded as a failure of that kind."""

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
    secure = server(echo, tls=context)
    assert unreachable("localhost", secure.port, tls=True) == {Failure.TLS}
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    responses = []
    with HttpClient(Address("localhost", secure.port, "secret", tls=True), "/", SAMPLES) as client:
        client.run(FullBatches(4), lambda fresh: responses.extend(fresh) or len(responses) < 20, MonotonicClock())
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(r.sample.body) for r in responses]
    assert secure.requests[0].headers["authorization"] == "Bearer secret"


def test_what_is_in_flight_at_the_end_is_accounted_for(server):
    """When a load ends before its answers, every request that left has one response, which is unanswered."""
    silent, responses = server(lambda request: HANG), []
    load = ConstantRate(1000, 0.05)

    def more(fresh):
        responses.extend(fresh)
        return len(silent.requests) < 50

    with HttpClient(Address("127.0.0.1", silent.port), "/", SAMPLES) as client:
        client.run(load, more, MonotonicClock())
    assert Counter(r.kind for r in responses) == {Failure.UNANSWERED: 50}


@pytest.mark.parametrize("load", [ClosedLoop(3, 0.1), ConstantRate(30, 0.1)], ids=lambda load: load.name)
def test_a_silent_server_does_not_keep_a_load_from_ending(server, load):
    """`on_responses` is called without answers, long before a time-out, and the load ends when it returns False."""
    silent, responses, asked = server(lambda request: HANG), [], []

    def more(fresh):
        responses.extend(fresh)
        asked.append(len(fresh))
        return len(asked) < 5

    with HttpClient(Address("127.0.0.1", silent.port), "/", SAMPLES, timeout_s=600) as client:
        client.run(load, more, MonotonicClock())
    assert Counter(r.kind for r in responses) == {Failure.UNANSWERED: 3}


def test_an_open_loop_over_sockets(server):
    """Every request is scheduled, none leaves before its time, and the timestamps of each request are in order."""
    responses = []
    good = server(echo)
    with HttpClient(Address("127.0.0.1", good.port, ""), "/", SAMPLES) as client:
        client.run(ConstantRate(200, 0.25), lambda fresh: responses.extend(fresh) or True, MonotonicClock())
    scheduled = sorted(r.scheduled_ns for r in responses)
    assert [b - a for a, b in itertools.pairwise(scheduled)] == [5_000_000] * 49
    assert all(r.scheduled_ns <= r.begun_ns <= r.sent_ns <= r.first_byte_ns <= r.done_ns for r in responses)


def test_an_answer_that_nobody_asked_for(server):
    """A second answer to one request is dropped with its connection, and every request gets its own answer."""
    double = server(lambda request: echo(request) * 2)
    responses = send(double, 5, batch=3)
    assert [r.kind for r in responses] == [None] * 15
    assert sorted(json.loads(r.body)["bytes"] for r in responses) == sorted(len(r.sample.body) for r in responses)


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2]
)
def test_an_interim_answer(server, interim):
    """An interim answer, such as `100 Continue`, is skipped; the head that is kept is that of the final answer."""
    patient = server(lambda request: interim + echo(request))
    responses = send(patient, 4, batch=2)
    assert [r.status for r in responses] == [200] * 8
    assert [r.headers for r in responses] == [
        {"content-length": str(len(r.body)), "x-name": "Value"} for r in responses
    ]
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(r.sample.body) for r in responses]


def test_a_body_that_the_kernel_does_not_take_at_once(server):
    """A body far larger than a socket's buffer is written in pieces, and arrives whole."""
    good = server(echo)
    large = Sample(name="large", body=bytes(range(256)) * 100_000, answer={})
    (response,) = send(good, 1, samples=[large], timeout_s=60)
    assert json.loads(response.body) == {"bytes": len(large.body), "crc32": zlib.crc32(large.body)}


class Piece(bytes):
    """A piece of a body that can be joined with others, but not added to one: that would copy all pieces before it."""

    def __add__(self, other):
        raise AssertionError("copied with each piece")

    __radd__ = __add__


def test_a_long_body_is_not_copied_again_and_again():
    """The pieces of a body are joined once; each answer has its own pieces."""
    bodies = []
    connection = Connection(lambda _: None)
    nothing = SimpleNamespace(write=lambda data: None, is_closing=lambda: False, abort=lambda: None)
    for letters in (b"abc", b"d", b"", b"ef"):
        connection.connection_made(nothing)
        connection.request(b"", SAMPLES[0], 0, 0, lambda response: bodies.append(response.body))
        for letter in letters:
            connection.on_body(Piece([letter]))
        connection.fail(Failure.TRUNCATED, "for now")
    assert bodies == [b"abc", b"d", b"", b"ef"]


def best_policy():
    """Return the scheduling policy of a punctual client on this machine: real-time where that is allowed."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        return policy
    os.sched_setscheduler(0, policy, parameters)
    return os.SCHED_RR


def test_the_sender_is_left_alone(server):
    """During a load no garbage is collected, and an open loop has a real-time policy where that is allowed.

    After the load everything is as before.
    """

    def look():
        return gc.isenabled(), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK

    good, seen, best = server(echo), [], best_policy()
    with HttpClient(Address("127.0.0.1", good.port), "/", SAMPLES) as client:
        for load in (ClosedLoop(1, 0.05), ConstantRate(50, 0.1)):
            looks = set()
            client.run(load, lambda _, looks=looks: looks.add(look()) or True, MonotonicClock())
            seen.append(looks)
            assert look() == (True, os.SCHED_OTHER)
    assert seen[0] == {(False, os.SCHED_OTHER)}
    assert seen[1] == {(False, best)}


def test_headers_are_kept_as_they_came(server):
    """Header names are in lower case, and header values are whole."""
    extra = "X-Long: " + "a" * 3000 + "\r\nServer-Timing: a;dur=1\r\n"
    (response,) = send(server(lambda request: http("{}", extra=extra)), 1)
    assert response.headers["x-long"] == "a" * 3000
    assert response.headers["server-timing"] == "a;dur=1"
    assert response.body == b"{}"


@pytest.mark.parametrize("size", [1, 7, 40])
def test_an_answer_in_pieces_is_one_answer(size):
    """Head and body are whole wherever the network cuts an answer, twice on one connection."""
    transport = SimpleNamespace(write=lambda data: None, is_closing=lambda: False, get_write_buffer_size=lambda: 0)
    connection, responses, answer = Connection(lambda _: None), [], http("hello")
    connection.connection_made(transport)
    for sample in SAMPLES[:2]:
        connection.request(b"?", sample, 0, 0, responses.append)
        for at in range(0, len(answer), size):
            connection.data_received(answer[at : at + size])
    assert [(r.sample, r.status, r.body) for r in responses] == [(sample, 200, b"hello") for sample in SAMPLES[:2]]
    assert {r.head for r in responses} == {answer.partition(b"\r\n\r\n")[0]}


def test_a_request_is_sent_when_its_write_begins():
    """A client that loses its processor while it writes does not shorten the latency: the answer may be there then."""
    written_ns, responses = [], []

    def write(data):
        written_ns.append(time.monotonic_ns())

    connection = Connection(lambda _: None)
    connection.connection_made(SimpleNamespace(write=write, is_closing=lambda: False, get_write_buffer_size=lambda: 0))
    connection.request(b"?", SAMPLES[0], 0, 0, responses.append)
    connection.data_received(http("hello"))
    assert 0 < responses[0].sent_ns <= written_ns[0] < responses[0].done_ns
