"""Latency under load as users see it: open and closed loops, every request accounted for."""

from __future__ import annotations

import pytest

from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.phase import Phase


@pytest.mark.ts_models("resnet56")
def test_load(ts_load_run, ts_store):
    """Every request has an outcome and every answer is right; a run that is not representative is INVALID."""
    load = ts_load_run.cell.schedule
    if ts_load_run.paired is None and not isinstance(load, ClosedLoop):
        assert ts_load_run.traffic.asked == len(list(load.departures_ns()))
    ts_store(ts_load_run, Phase.LATENCY)
