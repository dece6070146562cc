"""The capacity of a deployment: the highest rate at which its latency still meets --ts-slo-ms."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import Phase


@pytest.mark.ts_models("resnet56")
def test_capacity(ts_capacity_run, ts_store):
    """The highest Poisson rate that meets --ts-slo-ms is found, with its curve; every answer at that rate is right."""
    assert ts_capacity_run.capacity.rate_per_s is not None, ts_capacity_run.stamp
    ts_store(ts_capacity_run, Phase.LATENCY)
