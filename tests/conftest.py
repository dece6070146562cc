"""The markers that sort the tests into those of `make test` and those of `make test-rest`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
UNIT, SERVER = HERE / "unit", HERE / "server"

# The smoke session: a start, full batches and the batching itself of noop, which computes nothing, and traffic to
# resnet56. Together these tests start a server, archive, register, scale, send, check and store.
SMOKE = ("test_init[noop-", "test_handle[noop-", "test_batching.py::", "test_load[resnet56-cpu-b16-d100-closed4]")


def pytest_collection_modifyitems(config, items):
    """Mark the tests by file and fixture, so that a new test needs no marker of its own."""
    if config.rootpath != HERE.parent:
        return  # the suite is collected for someone's archives, in another folder
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        harness = item.path.is_relative_to(UNIT) or item.path.is_relative_to(SERVER)
        if harness:
            item.add_marker(pytest.mark.harness)
        if not item.path.is_relative_to(UNIT) or "ts_session" in item.fixturenames:
            item.add_marker(pytest.mark.server)
        if not harness and item.get_closest_marker("cpu") and any(part in item.nodeid for part in SMOKE):
            item.add_marker(pytest.mark.smoke)
