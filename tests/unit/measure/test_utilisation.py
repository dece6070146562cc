"""How busy a load kept the workers."""

from __future__ import annotations

import pytest

from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.utilisation import Batch, batches_by_process, utilisation


def batch(start_ms, end_ms, size, complete_ms=0):
    """Return one batch, complete at once if nothing else is said."""
    return Batch(*(round(ms * 1e6) for ms in (start_ms, end_ms)), size, round(complete_ms * 1e6))


def test_full_batches_and_what_lies_between_them():
    """A full batch of 16 takes 60 ms and 10 ms to the next: 228.6/s are its all. One that waited does not count."""
    batches = [batch(0, 60, 16), batch(70, 130, 16), batch(230, 290, 16), batch(291, 311, 3)]
    assert utilisation([batches], 100, 16, 1) == pytest.approx(100 * 0.07 / 16)
    assert utilisation([batches], 100, 16, 2) == pytest.approx(100 * 0.07 / 32)


def test_each_process_by_itself():
    """The batches of two workers overlap: what lies between them is no gap."""
    processes = [[batch(0, 60, 4), batch(61, 121, 4)], [batch(5, 65, 4), batch(75, 135, 4)]]
    assert utilisation(processes, 50, 4, 2) == pytest.approx(50 * 0.061 / 8)


def test_without_a_full_batch_the_time_in_handle_counts():
    """Two small batches of 20 ms in 100 ms: a fifth for two workers."""
    batches = [batch(0, 20, 2), batch(80, 100, 3)]
    assert utilisation([batches], 10, 16, 1) == pytest.approx(0.4)
    assert utilisation([batches], 10, 16, 2) == pytest.approx(0.2)


def test_a_worker_that_always_waits_is_not_busy():
    """Full batches of 80 ms, each complete 1.5 s after the last one ended: the waiting is no work."""
    batches = [batch(1580 * number, 1580 * number + 80, 16, complete_ms=1580 * number - 1) for number in range(6)]
    assert utilisation([batches], 10, 16, 1) == pytest.approx(10 * 0.08 / 16)


S = 1_000_000_000


def pair(make_response, number, sent_s, pid, end_s, start_s=1.0):
    """Return a response that was sent at this time, and the report of its batch."""
    edges = round(start_s * S), round(end_s * S)
    return make_response(sent_s=sent_s, done_s=9.0), ProbeReport({}, number, 2, pid, "cpu", *edges, {})


def test_the_batches_of_responses(make_response):
    """A batch is complete when its last request has left; each process has its own, in their order."""
    told = ((2, 0.3, 7, 3), (1, 0.1, 7, 2), (1, 0.2, 7, 2), (1, 0.5, 8, 4), (2, 0.6, 8, 0))
    found = [pair(make_response, *row) for row in told]
    answered = make_response(sent_s=0.1, done_s=9.0)
    assert batches_by_process([*found, (answered, None)]) == [
        [Batch(S, 2 * S, 2, S // 5), Batch(S, 3 * S, 2, 3 * S // 10)],
        [Batch(S, 4 * S, 2, S // 2)],
    ]


def test_another_hosts_clock_tells_no_gap(make_response):
    """Where the worker's clock is not the client's, nobody knows which batch was complete when another ended."""
    found = [pair(make_response, number, 0.1, 7, 101.0 + number, 100.0 + number) for number in (1, 2)]
    (batches,) = batches_by_process(found)
    assert min(batch.complete_ns for batch in batches) > batches[-1].end_ns
    assert utilisation([batches], 1, 2, 1) == pytest.approx(0.5)


def test_nothing_known():
    """None without batches, and where nobody knows how large a full one is."""
    assert utilisation([], 10, 16, 1) is None
    assert utilisation([[batch(0, 60, 4)]], 10, None, 1) is None
