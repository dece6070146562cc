"""How busy a load kept the workers."""

from __future__ import annotations

import pytest

from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.utilisation import utilisation


def batch(number, start_ms, end_ms, size, pid=1):
    """Return the report of one batch."""
    return ProbeReport({}, number, size, pid, "cpu", round(start_ms * 1e6), round(end_ms * 1e6), {})


def test_full_batches_and_what_lies_between_them():
    """A full batch of 16 takes 60 ms and 10 ms to the next: 228.6/s are its all. One that waited does not count."""
    reports = [batch(1, 0, 60, 16), batch(2, 70, 130, 16), batch(3, 230, 290, 16), batch(4, 400, 420, 3)]
    assert utilisation(reports, 100, 16, 1) == pytest.approx(100 * 0.07 / 16)
    assert utilisation(reports, 100, 16, 2) == pytest.approx(100 * 0.07 / 32)


def test_each_process_by_itself():
    """The batches of two workers overlap: what lies between them is no gap."""
    reports = [batch(1, 0, 60, 4), batch(1, 5, 65, 4, pid=2), batch(2, 61, 121, 4), batch(2, 75, 135, 4, pid=2)]
    assert utilisation(reports, 50, 4, 2) == pytest.approx(50 * 0.061 / 8)


def test_without_a_full_batch_the_time_in_handle_counts():
    """Two small batches of 20 ms in 100 ms: a fifth for two workers."""
    reports = [batch(1, 0, 20, 2), batch(2, 80, 100, 3)]
    assert utilisation(reports, 10, 16, 1) == pytest.approx(0.4)
    assert utilisation(reports, 10, 16, 2) == pytest.approx(0.2)


def test_nothing_known():
    """None without batches, and for streamed answers, whose end the probe does not know."""
    assert utilisation([], 10, 16, 1) is None
    assert utilisation([ProbeReport({}, 1, 1, 1, "cpu", 5, 0, {})], 10, 1, 1) is None


def test_a_worker_that_always_waits_is_not_busy():
    """Full batches of 80 ms, each 1.5 s after the last: the waiting is no work, whatever lies between two batches."""
    reports = [batch(number, 1580 * number, 1580 * number + 80, 16) for number in range(6)]
    assert utilisation(reports, 10, 16, 1) == pytest.approx(10 * 0.16 / 16)
