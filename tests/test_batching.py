"""The frontend's batching: full batches, partial batches, and which request gets which answer."""

from __future__ import annotations

from pytest_torchserve.loadgen.probe_report import ProbeReport

DELAY_MS = 1000
BATCH = 4


def seconds(responses):
    """Return the time from the first departure to the last response."""
    return (max(r.done_ns for r in responses) - min(r.sent_ns for r in responses)) / 1e9


def test_full_batch_leaves_at_once(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """As many requests as batch_size leave as one batch, long before max_batch_delay."""
    endpoint = ts_deploy(ts_catalogue["noop"], ts_device, batch_size=BATCH, max_batch_delay_ms=DELAY_MS)
    samples = ts_inputs(ts_catalogue["noop"]).samples[:BATCH]
    ts_ask(endpoint, samples)  # warm-up: the first batch of a worker is slow
    responses = ts_ask(endpoint, samples)
    reports = [ProbeReport.of(response) for response in responses]
    assert {(report.batch, report.batch_size) for report in reports} == {(reports[0].batch, BATCH)}
    assert seconds(responses) < 0.5 * DELAY_MS / 1e3


def test_partial_batch_leaves_after_the_delay(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """Fewer requests wait for max_batch_delay, counted from the first job, and at most half as long again."""
    endpoint = ts_deploy(ts_catalogue["noop"], ts_device, batch_size=BATCH, max_batch_delay_ms=DELAY_MS)
    samples = ts_inputs(ts_catalogue["noop"]).samples[: BATCH - 1]
    ts_ask(endpoint, samples)
    responses = ts_ask(endpoint, samples)
    assert {ProbeReport.of(response).batch_size for response in responses} == {BATCH - 1}
    assert 1.0 <= seconds(responses) / (DELAY_MS / 1e3) <= 1.5


def test_answers_go_to_those_who_asked(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """In several batches of different bodies, every request gets the answer to its own body."""
    endpoint = ts_deploy(ts_catalogue["noop"], ts_device, batch_size=BATCH, max_batch_delay_ms=DELAY_MS)
    samples = ts_inputs(ts_catalogue["noop"]).samples[: 5 * BATCH]
    responses = ts_ask(endpoint, samples)
    assert len({(ProbeReport.of(response).batch) for response in responses}) > 1
    assert [s.why_wrong(r.body) for r, s in zip(responses, samples, strict=True)] == [None] * len(samples)
