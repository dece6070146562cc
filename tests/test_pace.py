"""The classic run: one request every 0.1 s, batch_size 16, max_batch_delay 3 s."""

from __future__ import annotations

from pytest_torchserve.phase import Phase


def test_pace(ts_pace_run, ts_store):
    """Every answer is right; latency counts from the scheduled departure. A run that cannot keep up is INVALID."""
    ts_store(ts_pace_run, Phase.LATENCY)
