"""What users see at the traffic that they make: open and closed loops, every request accounted for."""

from __future__ import annotations

import pytest

from pytest_torchserve.load import ClosedLoop
from pytest_torchserve.phase import Phase


@pytest.mark.ts_models("resnet56")
def test_load(load_run, store):
    """Every request has an outcome, every answer is right; where the figures mean something else, it says INVALID."""
    assert load_run.wrong == ()
    load = load_run.cell.load
    if not isinstance(load, ClosedLoop):
        assert load_run.traffic.asked == len(list(load.departures_ns()))
    store(load_run, Phase.LATENCY)
