"""The latency breakdown of a request: each stage lies between two observed edges, and the rest is unattributed."""

from __future__ import annotations

import pytest

from pytest_torchserve.loadgen.frontend_times import FrontendTimes
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.latency_breakdown import Stage, latency_breakdown, stages

MS = 1_000_000


@pytest.fixture
def request_of(make_response):
    """A request that was due at 0, left at 2 ms, was handled from 10 to 15 ms (4.5 in phases), done at 18 ms."""

    def request_of_(**changes):
        phases = {"preprocess": 1.0, "inference": 3.0, "postprocess": 0.5, "handle": 5.0}
        told = {"handle_ns": (10 * MS, 15 * MS), "scheduled_s": 0.0, "sent_s": 0.002, "done_s": 0.018, **changes}
        response = make_response(**told, **phases)
        return response._replace(begun_ns=response.scheduled_ns + MS)

    return request_of_


def in_ms(found):
    """Return the stages in milliseconds."""
    return {stage.value: pytest.approx(value * 1e3) for stage, value in found.items()}


def test_every_edge_is_known(request_of):
    """With the frontend's times the stages add up to the latency; only the handler's own glue is unattributed."""
    response = request_of()
    found = stages(response, ProbeReport.of(response), FrontendTimes(4 * MS, 6 * MS, 9 * MS))
    assert in_ms(found) == {
        "late": 1, "send": 1, "receive": 2, "queue": 2, "fill wait": 3, "dispatch": 1,
        "preprocess": 1, "inference": 3, "postprocess": 0.5, "unattributed": 0.5, "return": 3,
    }  # fmt: skip
    assert sum(found.values()) == pytest.approx(response.latency_s)


@pytest.mark.parametrize(
    ("arrived_ms", "back", "client"),
    [(16.5, 1.5, 1.5), (18, 3, 0), (12, 0, 3), (25, 3, 0)],
    ids=["between", "at once", "before handle ended", "after it was read"],
)
def test_the_clients_own_share_of_the_way_back(request_of, arrived_ms, back, client):
    """The way back ends when the kernel has the last byte; what follows is the client's.

    Times are forced into order.
    """
    response = request_of()._replace(arrived_ns=round(arrived_ms * MS))
    found = stages(response, ProbeReport.of(response), FrontendTimes(4 * MS, 6 * MS, 9 * MS))
    assert in_ms(found) | {"return": back, "client": client} == in_ms(found)
    assert sum(found.values()) == pytest.approx(response.latency_s)


def test_the_clients_share_is_known_without_the_probe(request_of):
    """Kernel and client are one machine: its share is told apart whoever answers."""
    response = request_of()._replace(arrived_ns=17 * MS)
    assert in_ms(stages(response, None, None)) == {"late": 1, "send": 1, "unattributed": 15, "client": 1}


def test_one_that_joined_a_batch_late_did_not_queue(request_of):
    """A request whose batch had begun to fill before it arrived has no queue time: all of its wait is fill wait."""
    response = request_of()
    found = stages(
        response, ProbeReport.of(response), FrontendTimes(arrived_ns=7 * MS, taken_ns=3 * MS, left_ns=9 * MS)
    )
    assert in_ms(found) | {"queue": 0, "fill wait": 2} == in_ms(found)


def test_the_log_may_be_a_little_off(request_of):
    """The log's lines are written some microseconds late: no stage is negative, and the sum is the latency."""
    response = request_of()
    found = stages(response, ProbeReport.of(response), FrontendTimes(arrived_ns=MS, taken_ns=40 * MS, left_ns=11 * MS))
    assert min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(response.latency_s)


def test_a_sender_that_looked_late_at_its_clock(request_of):
    """A request may be handled before its client has noted the time of the write.

    The clocks still count as one, and no stage is negative.
    """
    response = request_of()._replace(sent_ns=11 * MS)
    report = ProbeReport.of(response)
    assert latency_breakdown([(response, report)] * 10, {}).one_clock
    found = stages(response, report, FrontendTimes(4 * MS, 6 * MS, 9 * MS))
    assert min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(response.latency_s)


def test_without_the_log_the_queue_is_not_told_apart(request_of):
    """Without the log the frontend is one stage, still between two observed edges."""
    response = request_of()
    found = stages(response, ProbeReport.of(response), None)
    assert found[Stage.FRONTEND] == pytest.approx(0.008)
    assert found[Stage.UNATTRIBUTED] == pytest.approx(0.0005)


def test_another_clock_leaves_durations(request_of):
    """With a worker on another host only durations are attributed: the phases and the client's own stages."""
    response = request_of(handle_ns=(900 * MS, 905 * MS))
    fall = latency_breakdown([(response, ProbeReport.of(response))] * 40, {})
    assert not fall.one_clock
    assert "durations only" in fall.caveat
    assert fall.mean_s["unattributed"] == pytest.approx(0.0115)
    assert fall.attributed_p50 == pytest.approx(6.5 / 18)


def test_no_probe_leaves_latency(request_of):
    """Without a probe, as in an external archive, there are only the client's stages, and the caveat says so."""
    response = request_of(probed=False)
    fall = latency_breakdown([(response, ProbeReport.of(response))], {})
    assert set(fall.mean_s) == {"late", "send", "unattributed"}
    assert fall.caveat == "the answers carry no Server-Timing: latency only"


def test_the_slow_ones_are_told_apart(request_of):
    """The slowest tenth has a breakdown of its own, once there are enough requests for a p90."""
    fast = [request_of(request_id=str(index)) for index in range(45)]
    slow = [request_of(done_s=0.118, request_id=str(index)) for index in range(5)]
    fall = latency_breakdown([(r, ProbeReport.of(r)) for r in fast + slow], {})
    assert fall.slow_share == 0.1
    assert fall.slow_s["return"] == pytest.approx(0.103)
    assert fall.mean_s["return"] == pytest.approx(0.013)
    assert latency_breakdown([(r, ProbeReport.of(r)) for r in fast[:30]], {}).slow_s == {}
    assert latency_breakdown([], {}) is None


def test_batches_are_counted_once(make_response):
    """Sizes are counted by batch, not by request.

    Each batch has its fill wait, and batches that left before they were full are counted.
    """
    reports = [
        ProbeReport.of(make_response(pid=pid, batch=batch, size=size, request_id=f"{pid}{batch}{index}"))
        for pid, batch, size in [(1, 1, 4), (1, 2, 2), (2, 1, 1)]
        for index in range(size)
    ]
    frontend_times = {report.request_id: FrontendTimes(0, MS, (1 + report.batch_size) * MS) for report in reports}
    found = batches(reports, frontend_times, 4)
    assert found.sizes == {1: 1, 2: 1, 4: 1}
    assert found.mean_size == pytest.approx(7 / 3)
    assert found.cut == 2
    assert sorted(found.fill_wait_s) == pytest.approx([0.001, 0.002, 0.004])
    assert batches(reports, {}, None).cut == 0
    assert batches([], {}, 4).mean_size is None
