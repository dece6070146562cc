"""The models with something changed, beside their base: for an NVIDIA GPU (`-m gpu -k variant`)."""

from __future__ import annotations

import pytest

from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES

VARIANTS = pytest.mark.ts_models("resnet56-graph", "resnet56-bf16", "densenet161-graph", "densenet161-bf16")


@VARIANTS
@pytest.mark.parametrize("phase", INIT_PHASES)
def test_variant_init(ts_init_run, phase, ts_store):
    """A variant's new workers answer rightly; each phase of their start, the recording included, is stored."""
    ts_store(ts_init_run, phase)
    assert ts_init_run.processes == ts_init_run.checked


@VARIANTS
@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_variant_handle(ts_handle_run, phase, ts_store):
    """A variant's batches are full and its answers right, within its own tolerance."""
    ts_store(ts_handle_run, phase)
    assert ts_handle_run.achieved_batch_size == ts_handle_run.cell.deployment.batching.batch_size
