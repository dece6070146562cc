"""How long a worker takes from nothing to ready, and what its first request pays."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import INIT_PHASES


@pytest.mark.parametrize("phase", INIT_PHASES)
def test_init(init_run, phase, store):
    """Every new worker answers rightly from the right device; each phase of its start is stored."""
    assert init_run.wrong == ()
    assert init_run.processes == init_run.checked
    store(init_run, phase)
