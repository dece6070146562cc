"""What users see at the traffic that they make: open and closed loops, every request accounted for."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import Phase


@pytest.mark.ts_models("resnet56")
def test_load(load_run, store):
    """Every request was answered, and rightly; where the figures mean something else, the run is stamped INVALID."""
    assert load_run.wrong == ()
    assert load_run.traffic.asked == sum(load_run.errors.values()) + len(load_run.pooled(Phase.LATENCY))
    store(load_run, Phase.LATENCY)
