"""The time from nothing to a ready worker, phase by phase, and the time of its first request."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import INIT_PHASES


@pytest.mark.parametrize("phase", INIT_PHASES)
def test_init(ts_init_run, phase, ts_store):
    """Every new worker answers rightly from the right device; each phase of its start is stored."""
    assert ts_init_run.wrong == ()
    assert ts_init_run.processes == ts_init_run.checked
    ts_store(ts_init_run, phase)
