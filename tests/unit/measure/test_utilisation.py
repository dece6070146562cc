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


def test_the_batches_of_responses(make_response):
    """A batch is complete when its last request has left; each process has its own, in their order."""
    found = [
        (make_response(sent_s=sent_s, done_s=9.0), ProbeReport({}, number, 2, pid, "cpu", 5, end_ns, {}))
        for sent_s, number, pid, end_ns in (
            (0.3, 2, 7, 9),
            (0.1, 1, 7, 6),
            (0.2, 1, 7, 6),
            (0.5, 1, 8, 7),
            (0.6, 2, 8, 0),
        )
    ]
    answered = make_response(sent_s=0.1, done_s=9.0)
    assert batches_by_process([*found, (answered, None)]) == [
        [Batch(5, 6, 2, 200_000_000), Batch(5, 9, 2, 300_000_000)],
        [Batch(5, 7, 2, 500_000_000)],
    ]
    assert utilisation([], 10, 16, 1) is None
