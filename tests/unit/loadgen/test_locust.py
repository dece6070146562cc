"""Loads sent by Locust workers to a small server that behaves as each test says."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from collections import Counter
from dataclasses import replace

import psutil
import pytest
import trustme

from fakes import CLOSE, HANG, RESET, SAMPLES, echo, http
from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.arrivals import ConstantRate, Poisson
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.locust import LocustEngine, processes
from pytest_torchserve.loadgen.locust.engine import LocustError
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.loadgen.schedule import ClosedLoop, FullBatches
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.traffic import judged


@pytest.fixture(scope="module")
def two():
    """A Locust engine with two workers, for all tests that leave its workers alive."""
    with LocustEngine(2) as locust_engine:
        yield locust_engine


@pytest.fixture
def locust_engine(two):
    """The engine with two workers."""
    return two


def drive(engine, address, load, enough=lambda responses: False, samples=SAMPLES, timeout_s=10.0):
    """Send a load; return all responses, in the order of their schedule."""
    responses = []

    def more(fresh):
        responses.extend(fresh)
        return not enough(responses)

    engine(address, "/predictions/x", samples, load, more, MonotonicClock(), timeout_s)
    return sorted(responses, key=lambda response: response.scheduled_ns)


def gaps_ns(responses):
    """Return the times between one departure and the next."""
    return [after.scheduled_ns - before.scheduled_ns for before, after in itertools.pairwise(responses)]


def pids(locust_engine):
    """Return the ids of the engine's processes."""
    return [child.process.pid for child in locust_engine._processes._children]


def gone(processes):
    """Return whether none of the processes runs, or waits to be reaped by this process."""
    return wait_until(lambda: not any(psutil.pid_exists(pid) for pid in processes), timeout_s=20)


def kinds(responses):
    """Return the number of responses by kind of failure."""
    return Counter(response.failure for response in responses)


def test_constant_rate(locust_engine, server):
    """Two workers send exactly the load's schedule, each sample in its turn; every request gets its own answer."""
    load = ConstantRate(200, 0.5)
    responses = drive(locust_engine, server(echo).address, load)
    assert gaps_ns(responses) == [after - before for before, after in itertools.pairwise(load.departures_ns())]
    assert [response.sample for response in responses] == SAMPLES * 20
    assert all(json.loads(r.body)["crc32"] == zlib.crc32(r.sample.body) for r in responses)
    assert all(r.scheduled_ns <= r.begun_ns <= r.sent_ns < r.done_ns for r in responses)
    assert all(r.begun_ns < r.first_byte_ns < r.done_ns for r in responses)
    assert locust_engine.one_clock


def test_no_departure_waits_for_an_answer(locust_engine, server):
    """An open loop sends on while no request is answered, with a connection for each request."""
    all_here = threading.Barrier(40)

    def together(request):
        all_here.wait(20)
        return echo(request)

    held = server(together)
    responses = drive(locust_engine, held.address, ConstantRate(200, 0.2))
    assert kinds(responses) == {None: 40}
    assert held.most_in_flight == held.connections == 40
    assert len({r.sent_ns for r in responses}) == len({r.first_byte_ns for r in responses}) == 40
    assert all(r.sent_ns < r.first_byte_ns for r in responses)


def test_poisson_is_seeded(locust_engine, server):
    """The same seed gives the same schedule, which is that of the load."""
    good, load = server(echo), Poisson(150, 0.4, seed=7)
    due_ns = list(load.departures_ns())
    first, second = drive(locust_engine, good.address, load), drive(locust_engine, good.address, load)
    assert gaps_ns(first) == gaps_ns(second) == [after - before for before, after in itertools.pairwise(due_ns)]
    assert len(first) == len(due_ns)


def test_closed_loop(locust_engine, server):
    """Five users on two workers have five requests in flight, never more; each sends again when it is answered."""
    together = threading.Barrier(5)

    def answer(request):
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.5)  # at the end some users have left, and the barrier breaks
        return echo(request)

    busy = server(answer)
    responses = drive(locust_engine, busy.address, ClosedLoop(5, 0.3))
    assert busy.most_in_flight == busy.connections == 5
    assert len(responses) == len(busy.requests) > 5
    assert kinds(responses) == {None: len(responses)}
    counts = Counter(response.sample for response in responses)
    assert set(counts) == set(SAMPLES)


def test_fewer_users_than_workers(locust_engine, server):
    """The load does not wait for a worker without a share of it."""
    assert len(drive(locust_engine, server(echo).address, ConstantRate(10, 0.1))) == 1
    lonely = server(echo)
    assert kinds(drive(locust_engine, lonely.address, ClosedLoop(1, 0.1))) == {None: len(lonely.requests)}


def has_ipv6():
    """Return whether this machine's loopback has an IPv6 address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


IPV6 = pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on loopback"))


@pytest.mark.parametrize("host", ["127.0.0.1", IPV6])
def test_the_same_as_the_built_in_sender(locust_engine, server, host):
    """Locust and the built-in client send the same schedule and requests, and get the same answers and headers."""
    load, by_both = Poisson(150, 0.3, seed=3), []
    for engine in (locust_engine, client.send):
        good = server(echo, host=host)
        port = str(good.port).encode()
        responses = drive(engine, good.address, load)
        answers = [(r.sample, r.status, r.head, r.body, r.headers, r.error) for r in responses]
        by_both.append(
            (gaps_ns(responses), answers, sorted(request.head.replace(port, b"PORT") for request in good.requests))
        )
    assert by_both[0] == by_both[1]
    named = b"Host: [::1]:PORT\r\n" if host == "::1" else b"Host: 127.0.0.1:PORT\r\n"
    assert all(named in head for head in by_both[0][2])


def test_full_batches_leave_from_here(server):
    """Full batches leave from this process, without any other: they are timed and are no traffic."""
    alone = LocustEngine(2)
    responses = drive(alone, server(echo).address, FullBatches(4), enough=lambda responses: len(responses) >= 8)
    assert len(responses) == 8
    assert pids(alone) == []


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (lambda request: HANG, Failure.TIMEOUT),
        (lambda request: http("busy" * 5, "503 Service Unavailable"), Failure.HTTP),
        (lambda request: http("moved", "302 Found", "Location: https://login.example/\r\n"), Failure.HTTP),
        (lambda request: http("moved", "308 Permanent Redirect", "location: /predictions/x\r\n"), Failure.HTTP),
        (lambda request: http("choose", "300 Multiple Choices"), Failure.HTTP),
        (lambda request: b"HTTP/1.1 304 Not Modified\r\nLast-Modified: a while ago\r\n\r\n", Failure.HTTP),
        (lambda request: http("what is this", "999 Of its own"), Failure.HTTP),
        (lambda request: b"", Failure.RESET),
        (lambda request: RESET, Failure.RESET),
        (lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123" + CLOSE, Failure.TRUNCATED),
        (lambda request: b"HTTP/1.1 200 O" + CLOSE, Failure.TRUNCATED),
        (lambda request: b"garbage\r\n\r\n" + CLOSE, Failure.MALFORMED),
    ],
)
def test_a_bad_server_is_data(locust_engine, server, answer, failure):
    """Each failure has the same kind as with the built-in client, and no request is missing."""
    bad, load = server(answer), ConstantRate(100, 0.08)
    responses = drive(locust_engine, bad.address, load, timeout_s=0.3)
    built_in = []
    client.send(
        bad.address, "/", SAMPLES, load, lambda fresh: built_in.extend(fresh) or True, MonotonicClock(), timeout_s=0.3
    )
    assert kinds(responses) == kinds(built_in) == {failure: 8}
    assert [r.status for r in responses] == [r.status for r in built_in]
    assert {r.body for r in responses if r.status} == {r.body for r in built_in if r.status}
    assert all(r.error for r in responses)
    if failure is Failure.HTTP:
        assert {r.error for r in responses} == {r.error for r in built_in}
        assert len(bad.requests) == 16  # no client followed the redirect


@pytest.mark.parametrize(
    ("status", "place", "words"),
    [
        ("302 Found", "https://login.example/?next=1", "HTTP 302 to https://login.example/?next=1"),
        ("307 Temporary Redirect", "/predictions/x", "HTTP 307 to /predictions/x"),
        ("301 Moved Permanently", "", "HTTP 301"),
        ("303 See Other", "/" + "a" * 5000, f"HTTP 303 to /{'a' * 199}"),
        ("503 Service Unavailable", "/elsewhere", "HTTP 503"),
    ],
)
def test_a_redirect_says_where_to(locust_engine, server, status, place, words):
    """A redirect is a failed request and its error says where it leads, with either engine.

    The failures are counted by status alone.
    """
    moved = server(lambda request: http("{}", status, f"Location: {place}\r\n"))
    for engine in (locust_engine, client.send):
        responses = drive(engine, moved.address, ConstantRate(50, 0.08))
        assert {(r.error, r.kind, r.body) for r in responses} == {(words, words.partition(" to ")[0], b"{}")}
        checker = Checker("cpu", probed=False)
        assert judged(responses, checker) == []
        assert checker.evidence.errors == {words.partition(" to ")[0]: 4}


LOGIN_PAGE = "<!doctype html><title>Log in</title><p>Who are you?"


@pytest.mark.parametrize(
    "answer",
    [
        http(LOGIN_PAGE, extra="Content-Type: text/html\r\n"),
        b"HTTP/1.1 204 No Content\r\nX-Name: Value\r\nX-Other: Value\r\n\r\n",
        http('{"bytes": 1', "206 Partial Content"),
        http("", "202 Accepted", "Location: /queue/1\r\n"),
    ],
    ids=["a page", "nothing", "a part", "later"],
)
def test_a_good_status_does_not_make_an_answer_right(locust_engine, server, answer):
    """A response with a good status but not the golden answer is a wrong answer, with either engine."""
    known = [replace(sample, answer={"bytes": 1.0}) for sample in SAMPLES]
    for engine in (locust_engine, client.send):
        responses = drive(engine, server(lambda request: answer).address, ConstantRate(50, 0.08), samples=known)
        checker = Checker("cpu", probed=False)
        assert judged(responses, checker) == []
        assert (checker.evidence.wrong_answers, checker.evidence.errors) == (4, {})
        assert all("not JSON" in words for words in checker.evidence.wrong)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"host": "no-such-host.invalid"}, Failure.UNRESOLVED),
        ({"port": 1}, Failure.REFUSED),
        ({"tls": True}, Failure.TLS),
    ],
)
def test_no_connection(locust_engine, server, change, failure):
    """Each reason for which a connection cannot be opened has its own kind of failure."""
    good = server(echo, greeting=b"this is no TLS\r\n" if "tls" in change else b"")
    where = {"host": "127.0.0.1", "port": good.port} | change
    responses = drive(locust_engine, Address(**where), ConstantRate(50, 0.08))
    assert kinds(responses) == {failure: 4}
    assert all(r.status == r.first_byte_ns == 0 and r.error.startswith(failure) for r in responses)


def test_tls(server, tmp_path, monkeypatch):
    """With a certificate that SSL_CERT_FILE vouches for, answers are right, the key is sent, and times are in order."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    secure = server(echo, tls=context)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with LocustEngine(1) as locust_engine:
        responses = drive(locust_engine, Address("localhost", secure.port, "secret", tls=True), ConstantRate(50, 0.4))
    assert kinds(responses) == {None: 20}
    assert [json.loads(r.body)["crc32"] for r in responses] == [zlib.crc32(r.sample.body) for r in responses]
    assert all(request.headers["authorization"] == "Bearer secret" for request in secure.requests)
    assert all(r.scheduled_ns <= r.begun_ns <= r.sent_ns < r.first_byte_ns <= r.done_ns for r in responses)


@pytest.mark.parametrize("load", [ConstantRate(100, 60), ClosedLoop(4, 60)])
def test_more_says_no(locust_engine, server, load):
    """The load ends at once when `on_responses` returns False; each request in flight is unanswered, and shown once."""
    begun = itertools.count()
    partly = server(lambda request: echo(request) if next(begun) < 20 else HANG)
    responses = drive(locust_engine, partly.address, load, enough=lambda responses: len(partly.requests) >= 22)
    assert kinds(responses)[None] == 20
    assert kinds(responses)[Failure.UNANSWERED] == len(responses) - 20 >= 2
    # A request that was still to be written when the load ended has never reached the server.
    written = sum(response.sent_ns < response.done_ns for response in responses)
    assert wait_until(lambda: len(partly.requests) == written, timeout_s=5)


def test_locust_knows_of_every_request(server):
    """Locust's request event is fired as for any Locust user, with the suite's own error for a failed request."""
    answer = http("{}")
    answers = itertools.cycle([answer, http("busy" * 5, "503 Service Unavailable")])
    script = """if True:
        import sys
        from locust.env import Environment
        from pytest_torchserve import Sample
        from pytest_torchserve.loadgen.address import Address
        from pytest_torchserve.loadgen.locust.exchange import Destination
        environment = Environment()
        environment.create_local_runner()
        def told(request_type, name, response_length, exception, **_):
            print(request_type, name, response_length, exception)
        environment.events.request.add_listener(told)
        address = Address("127.0.0.1", int(sys.argv[1]))
        target = Destination(address, "/predictions/x", [Sample("0", b"?", None)], 5, environment.events.request)
        for index in range(4):
            target.ask(index, 0, lambda response: None)
        print(environment.stats.total.num_requests, environment.stats.total.num_failures)
        """
    port = server(lambda request: next(answers)).port
    told = subprocess.run([sys.executable, "-c", script, str(port)], capture_output=True, text=True, check=True).stdout
    length = len(answer.partition(b"\r\n\r\n")[2])
    both = [f"POST /predictions/x {length} None", "POST /predictions/x 20 HTTP 503"]
    assert told.splitlines() == [*both, *both, "4 2"]


ELSEWHERE = """if True:
    import sys, time
    from pytest_torchserve.loadgen.locust import protocol, worker
    here_ns = time.monotonic_ns
    time.monotonic_ns = lambda: here_ns() - 10**15
    protocol.boot_id = lambda: "elsewhere"
    worker.main(sys.argv[1:])
    """


def free_port():
    """Return a port that no process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_workers_elsewhere(server):
    """Workers started by hand, with the command that the engine names, send the load and end with the engine.

    One worker runs as on a host with another clock.
    """
    place = f"127.0.0.1:{free_port()}"
    locust_engine = LocustEngine(2, master=place, join_timeout_s=30)
    by_hand = [
        subprocess.Popen([sys.executable, *shlex.split(locust_engine.command)[1:]], stdin=subprocess.DEVNULL),
        subprocess.Popen([sys.executable, "-c", ELSEWHERE, place], stdin=subprocess.DEVNULL),
    ]
    with locust_engine:
        assert not locust_engine.one_clock
        good, clock = server(echo), MonotonicClock()
        before_ns = clock.now_ns()
        responses = drive(locust_engine, good.address, ClosedLoop(2, 0.2))
        assert kinds(responses) == {None: len(good.requests)}
        assert all(before_ns < r.scheduled_ns < r.sent_ns < r.done_ns < clock.now_ns() for r in responses)
    assert [process.wait(20) for process in by_hand] == [0, 0]


def test_too_few_workers():
    """The error for missing workers says how many came and what to type to start more."""
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(LocustError) as caught:
        LocustEngine(2, master=place, join_timeout_s=0.1).start()
    assert "0 of 2" in caught.value.found
    assert f"python -m pytest_torchserve.loadgen.locust.worker {place}" in caught.value.do


@pytest.mark.parametrize("place", ["127.0.0.1:5557", "[::1]:5557", "master.example:5557"])
def test_the_command_names_the_place_as_it_was_given(place):
    """The command can be typed as it is printed: an IPv6 address keeps its brackets."""
    assert LocustEngine(2, master=place).command.endswith(f" {place}")


def test_port_taken():
    """The error for a port in use quotes the master."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LocustError) as caught:
        LocustEngine(1, master=f"127.0.0.1:{listener.getsockname()[1]}").start()
    assert "in use" in caught.value.found


def test_without_locust(monkeypatch):
    """Locust is optional: the error without it says how to install it."""
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    with pytest.raises(LocustError) as caught:
        LocustEngine(1).start()
    assert "pytest-torchserve[locust]" in caught.value.do


def test_a_process_that_dies(server):
    """A worker or a master that dies during a load is an error with its exit code, without a hang.

    No process is left, and the engine starts anew.
    """
    locust_engine, good = LocustEngine(1), server(echo)
    for place, name in ((1, "worker 0"), (0, "the master")):
        locust_engine.start()
        started = pids(locust_engine)

        def kill(responses, pid=started[place]):
            if responses:
                os.kill(pid, signal.SIGKILL)

        with pytest.raises(LocustError) as caught:
            drive(locust_engine, good.address, ConstantRate(50, 60), enough=kill)
        assert f"{name} ended with exit code -9" in caught.value.found
        assert "constant50" in caught.value.wanted
        assert gone(started)


def test_nothing_outlives_a_killed_owner():
    """Master and workers end by themselves after a SIGKILL of their owner, which has no time to close them."""
    script = """if True:
        import sys
        from pytest_torchserve.loadgen.locust import LocustEngine
        started = LocustEngine(1)
        started.start()
        print(*[child.process.pid for child in started._processes._children], *("gevent" in sys.modules,), flush=True)
        sys.stdin.read()
        """
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    *started, patched = owner.stdout.readline().split()
    assert patched == "False"
    assert all(psutil.pid_exists(int(pid)) for pid in started)
    owner.kill()
    owner.communicate()
    assert gone(map(int, started))


def test_close():
    """After the end of the engine's context its master and worker are gone."""
    with LocustEngine(1) as locust_engine:
        started = pids(locust_engine)
        assert len(started) == 2
        assert all(map(psutil.pid_exists, started))
    assert gone(started)
