"""The classic run: one request every 0.1 s, batch_size 16, max_batch_delay 3 s."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import Phase


def test_pace(pace_run, store):
    """The server keeps up and every answer is right; latency counts from when a request should have left."""
    assert pace_run.wrong == ()
    if pace_run.behind:
        pytest.xfail(pace_run.behind)
    store(pace_run, Phase.LATENCY)
