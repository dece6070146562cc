"""When an answer arrived, as the kernel has it."""

from __future__ import annotations

import socket
import struct
import sys
import time

import pytest

from fakes import SAMPLES, http
from pytest_torchserve.loadgen import client, transport
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.schedule import FullBatches

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's receive times are Linux's")


def answered(server):
    """Send one request to a fake server; return its response."""
    found = []
    client.send(
        Address("127.0.0.1", server.port),
        "/x",
        SAMPLES[:1],
        FullBatches(1),
        lambda got: found.extend(got) and False,
        MonotonicClock(),
    )
    return found[0]


@linux
def test_a_client_that_reads_late_knows_when_the_answer_came(server, monkeypatch):
    """A loop that is blocked for 50 ms before it reads adds that to the latency, not to when the answer arrived."""
    plain = transport.SocketTransport._readable

    def blocked(self):
        time.sleep(0.05)
        plain(self)

    monkeypatch.setattr(transport.SocketTransport, "_readable", blocked)
    response = answered(server(lambda request: http("{}")))
    assert response.sent_ns < response.arrived_ns < response.done_ns
    assert response.done_ns - response.arrived_ns >= 50_000_000


def test_without_the_kernels_times_nothing_is_told(server, monkeypatch):
    """A kernel that knows no such option leaves the arrival unknown, and the request alone."""
    monkeypatch.setattr(transport, "stamp_arrivals", lambda made: None)
    response = answered(server(lambda request: http("{}")))
    assert response.status == 200
    assert response.arrived_ns == 0


def test_an_arrival_is_never_in_the_future():
    """The kernel's time is the wall clock's: where that was set back meanwhile, the answer came just now."""
    ahead_s = int(time.time()) + 3600
    told = [(socket.SOL_SOCKET, transport._SO_TIMESTAMPNS, struct.pack("@qq", ahead_s, 0))]
    assert transport.arrival_ns(told) <= time.monotonic_ns()
    assert transport.arrival_ns([]) == 0
    assert transport.arrival_ns([(socket.SOL_SOCKET, transport._SO_TIMESTAMPNS, b"short")]) == 0
