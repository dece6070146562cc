"""The time from nothing to a ready worker, phase by phase, and the time of its first request."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import INIT_PHASES


@pytest.mark.parametrize("phase", INIT_PHASES)
def test_init(ts_init_run, phase, ts_store):
    """Every new worker answers rightly from the right device; each phase of its start is stored."""
    ts_store(ts_init_run, phase)
    assert ts_init_run.processes == ts_init_run.checked
