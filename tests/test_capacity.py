"""How much a deployment can take before its users notice."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import Phase


@pytest.mark.ts_models("resnet56")
def test_capacity(ts_capacity_run, ts_store):
    """The highest Poisson rate that met --ts-slo-ms, and the curve that shows it; every answer there was right."""
    assert ts_capacity_run.wrong == ()
    assert ts_capacity_run.capacity.rate_per_s is not None, ts_capacity_run.stamp
    ts_store(ts_capacity_run, Phase.LATENCY)
