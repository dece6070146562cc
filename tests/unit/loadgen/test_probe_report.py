"""The probe report, read from the headers of a response."""

from __future__ import annotations

import pytest

from pytest_torchserve.loadgen.probe_report import ProbeReport, parse_server_timing
from pytest_torchserve.loadgen.response import Failure, Response

HEADERS = {
    "server-timing": "preprocess;dur=1.5, inference;dur=20, postprocess;dur=0.25, handle;dur=22",
    "ts-probe-batch": "id=3;size=4;pid=42;device=cuda:1;start=100;end=200;gpu=4096",
}


def response(headers):
    """Return a response with these headers."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]
    return Response(0, 0, 0, 0, 0, 0, 200, "\r\n".join(lines).encode(), b"")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("a;dur=1.5", {"a": 0.0015}),
        ('a;desc="x";dur=2, b;dur=3', {"a": 0.002, "b": 0.003}),
        ("a;dur=oops, b", {}),
        ("", {}),
    ],
)
def test_server_timing(value, seconds):
    """The W3C's syntax is read, and a duration that cannot be read is left out."""
    assert parse_server_timing(value) == pytest.approx(seconds)


def test_trace():
    """The probe report has every field that the probe sends, durations in seconds."""
    report = ProbeReport.of(response({**HEADERS, "ts-probe-init": "load_model;dur=500"}))
    assert report.phases_s == pytest.approx(
        {"preprocess": 0.0015, "inference": 0.02, "postprocess": 0.00025, "handle": 0.022}
    )
    assert (report.batch, report.batch_size, report.pid, report.device) == (3, 4, 42, "cuda:1")
    assert (report.start_ns, report.end_ns, report.gpu_bytes) == (100, 200, 4096)
    assert report.init_s == {"load_model": 0.5}


@pytest.mark.parametrize("batch", ["id=1;siz", "id=1;size=2;pid=3;device=cpu;start=x;end=5;gpu=0", "v2", ""])
def test_what_is_no_report_is_no_trace(batch):
    """Half a header, another probe's header or an empty one gives no probe report; the answer remains."""
    assert ProbeReport.of(response({**HEADERS, "ts-probe-batch": batch})) is None


def test_no_probe_no_trace():
    """A response without the probe's headers has no probe report, and is no error."""
    assert ProbeReport.of(response({})) is None


def test_a_later_probes_field_is_passed_over():
    """An unknown field of a later probe is ignored, and the known fields are read."""
    batch = HEADERS["ts-probe-batch"] + ";arm=candidate;pair=5;differs=gc.enabled;later=1"
    report = ProbeReport.of(response({**HEADERS, "ts-probe-batch": batch}))
    assert (report.arm, report.pair, report.differs, report.gpu_bytes) == ("candidate", 5, "gc.enabled", 4096)


@pytest.mark.parametrize("failure", [Failure.TRUNCATED, Failure.MALFORMED, Failure.TIMEOUT])
def test_an_answer_that_was_cut_has_no_trace(failure):
    """An incomplete answer has no probe report: its head may end in the middle of a number."""
    assert ProbeReport.of(response(HEADERS)._replace(failure=failure)) is None
    assert ProbeReport.of(response(HEADERS)._replace(failure=Failure.HTTP)) is not None
