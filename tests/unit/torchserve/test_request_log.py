"""The frontend's log lines about a request, joined by the request's id."""

from __future__ import annotations

from pytest_torchserve.loadgen.frontend_times import FrontendTimes
from pytest_torchserve.torchserve import request_log

LINES = """\
1000000 W-9000-a get first job: one
1500000 W-9001-b get first job: two
7000000 W-9000-a Sending response for jobId one
7050000 W-9000-a ts_inference_latency_microseconds.Microseconds:6500.0|#model_name:m|#hostname:h,timestamp:1
7060000 W-9001-b Sending response for jobId two
7070000 W-9000-a ts_queue_latency_microseconds.Microseconds:1200.5|#model_name:m|#hostname:h,timestamp:1
7080000 W-9001-b ts_inference_latency_microseconds.Microseconds:7.0600E3|#model_name:m|#hostname:h,timestamp:1
7090000 W-9000-a Sending response for jobId three
7100000 W-9000-a ts_inference_latency_microseconds.Microseconds:6000.0|#model_name:m|#hostname:h,timestamp:1
7110000 W-9000-a ts_queue_latency_microseconds.Microseconds:100.0|#model_name:m|#hostname:h,timestamp:1
7120000 W-9001-b ts_queue_latency_microseconds.Microseconds:2000.0|#model_name:m|#hostname:h,timestamp:1
"""


def test_frontend_times_are_joined_by_thread_and_id():
    """The mixed lines of two workers are told apart.

    The second request of a batch shares the time of the batch's first job; its other times are its own.
    """
    assert request_log.parse(LINES) == {
        "one": FrontendTimes(arrived_ns=500_000, taken_ns=1_000_000, left_ns=1_700_500),
        "two": FrontendTimes(arrived_ns=0, taken_ns=1_500_000, left_ns=2_000_000),
        "three": FrontendTimes(arrived_ns=1_090_000, taken_ns=1_000_000, left_ns=1_190_000),
    }


def test_half_a_request_has_no_frontend_times():
    """A request has no times until its lines are complete; the log may end anywhere and hold unexpected lines."""
    whole = LINES.splitlines()
    assert set(request_log.parse("\n".join(whole[:5]))) == set()
    assert set(request_log.parse("\n".join(["log4j2 says hello", *whole[:7], "x", "12"]))) == {"one"}


def test_no_log_no_frontend_times(tmp_path):
    """A log that is out of reach gives no times; reading goes on from a given offset."""
    assert request_log.read(tmp_path / "none.log") == {}
    log = tmp_path / "requests.log"
    log.write_text(LINES)
    start = LINES.index("7090000")
    assert set(request_log.read(log, start)) == {"three"}
