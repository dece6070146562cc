"""The markers that sort the tests into those of `make test` and those of `make test-rest`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
HARNESS = HERE / "harness"

# Files whose tests start servers in sessions of their own: no fixture tells.
SERVER_FILES = ("test_real_*.py", "test_lifecycle.py")

# The smoke session: a start, full batches and the batching itself of the model that computes nothing, and traffic
# to one that does. Between them they start a server, archive, register, scale, send, check and store.
SMOKE = ("test_init[noop-", "test_handle[noop-", "test_batching.py::", "test_load[resnet56-cpu-b16-d100-closed4]")


def pytest_collection_modifyitems(items):
    """Mark by file and fixture, so that a new test is sorted without its author's doing."""
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        harness = item.path.is_relative_to(HARNESS)
        if harness:
            item.add_marker(pytest.mark.harness)
        if not harness or "ts_session" in item.fixturenames or any(map(item.path.match, SERVER_FILES)):
            item.add_marker(pytest.mark.server)
        if not harness and item.get_closest_marker("cpu") and any(part in item.nodeid for part in SMOKE):
            item.add_marker(pytest.mark.smoke)
