"""TorchServe's own handler, timed from outside without a change to it (`-k stock`)."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import HANDLE_PHASES


@pytest.mark.ts_models("densenet161-stock", "resnet56-stock", quick=False)
@pytest.mark.ts_batch_sizes(4, 16)
@pytest.mark.ts_budget(processes=1, cell_seconds=5)
@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_stock(ts_handle_run, phase, ts_store):
    """A stock handler gives right answers, full batches and the same phases as a handler of our own."""
    ts_store(ts_handle_run, phase)
    assert ts_handle_run.achieved_batch_size == ts_handle_run.cell.deployment.batching.batch_size
