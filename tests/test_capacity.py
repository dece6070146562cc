"""The capacity of a deployment: the highest rate at which its latency still meets --ts-slo-ms."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import Phase


@pytest.mark.ts_models("resnet56")
def test_capacity(ts_capacity_run, ts_store):
    """The rate where latency crosses --ts-slo-ms is found, or one that meets it; every answer at that rate is right."""
    found = ts_capacity_run.capacity
    assert found is not None, ts_capacity_run.stamp
    assert found.rate_per_s or found.crossing_per_s, ts_capacity_run.stamp
    ts_store(ts_capacity_run, Phase.LATENCY)
