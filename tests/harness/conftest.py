"""What the tests of the harness share."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from pytest_torchserve.model import Sample
from pytest_torchserve.response import Response

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def pytest_collection_modifyitems(items):
    """Everything below this folder is a test of the harness."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.harness)


def _make_response(
    sample=0,
    *,
    answer=None,
    status=200,
    error=None,
    pid=7,
    batch=1,
    size=1,
    device="cpu",
    sent_s=0.0,
    done_s=1.0,
    **phases_ms,
):
    """A response as the probe would have made it; `answer` None is the right one of `make_sample`."""
    phases_ms = phases_ms or {"preprocess": 1.0, "inference": 2.0, "postprocess": 1.0, "handle": 4.0}
    return Response(
        sample=sample,
        scheduled_ns=round(sent_s * 1e9),
        sent_ns=round(sent_s * 1e9),
        first_byte_ns=round(done_s * 1e9),
        done_ns=round(done_s * 1e9),
        status=status,
        headers={
            "server-timing": ", ".join(f"{name};dur={value}" for name, value in phases_ms.items()),
            "ts-probe-batch": f"id={batch};size={size};pid={pid};device={device};start=0;end=1;gpu=0",
            "ts-probe-init": "load_model;dur=5, to_device;dur=1, initialize;dur=7",
        },
        body=json.dumps({"cat": 0.9} if answer is None else answer).encode(),
        error=error,
    )


def _make_sample(name="one", label="cat"):
    """A sample that is a cat with 0.9."""
    return Sample(name=name, body=b"x", answer={"cat": 0.9, "dog": 0.1}, label=label)


@pytest.fixture
def make_response():
    """`make_response(sample=0, answer=None, pid=7, batch=1, size=1, handle=4.0, …)`."""
    return _make_response


@pytest.fixture
def make_sample():
    """`make_sample(name, label)`."""
    return _make_sample


@pytest.fixture
def suite(pytester, monkeypatch):
    """A repository of one's own: this one's catalogue, and tests of the suite, in a folder of their own."""
    monkeypatch.delenv("TS_DATA", raising=False)
    # Kept folders shall not pile up in /tmp; and the workers' sockets need a short path.
    folder = tempfile.mkdtemp(prefix="suite-")
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    pytester.makeconftest(
        """
        from models.catalogue import NOOP, RESNET56
        def pytest_torchserve_models(config):
            return [NOOP, RESNET56]
        """
    )
    yield pytester
    shutil.rmtree(folder, ignore_errors=True)
