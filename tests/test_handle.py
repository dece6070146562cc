"""The time of a full batch, phase by phase."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import HANDLE_PHASES, Phase


@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(ts_handle_run, phase, ts_store):
    """Every batch is full and every answer of every timed batch is right; each phase's time is stored."""
    ts_store(ts_handle_run, phase)
    assert ts_handle_run.achieved_batch_size == ts_handle_run.cell.deployment.batching.batch_size


def test_first_chunk(ts_stream_run, ts_store):
    """A streamed answer is right as a whole; the time to its first chunk is stored."""
    ts_store(ts_stream_run, Phase.FIRST_CHUNK)
