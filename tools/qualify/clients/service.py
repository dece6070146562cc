"""A TorchServe of our own, and the models deployed on it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.catalogue import NOOP, RESNET56
from pytest_torchserve._util.time_accounting import TimeAccounting
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.torchserve import archive, java
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server
from pytest_torchserve.torchserve.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.model import Model

FILL_WAIT_MS = 100


@dataclass(frozen=True, slots=True)
class Deployed:
    """A live registration with one worker, and the inputs for its requests."""

    endpoint: Endpoint
    inputs: ModelInputs

    @property
    def deployment(self) -> Deployment:
        """The deployment that was registered."""
        return self.endpoint.deployment

    def with_one_sample(self) -> Deployed:
        """Return the same with its first sample only, so that every client sends the same bytes."""
        return replace(self, inputs=replace(self.inputs, samples=self.inputs.samples[:1]))


@dataclass(frozen=True, slots=True)
class Service:
    """A started server."""

    server: Server
    preparations: Preparations

    def deploy(self, model: Model, batch_size: int) -> Deployed:
        """Register the model and start its one worker."""
        inputs = self.preparations.result(model)
        made = archive.build(inputs.artifacts, "cpu", self.server.store)
        deployment = Deployment(model, "cpu", Batching(batch_size, FILL_WAIT_MS))
        endpoint = Endpoint(self.server, deployment, made, TimeAccounting())
        endpoint.register()
        endpoint.scale(1)
        return Deployed(endpoint, inputs)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Service]:
    """Run a server with its store in `folder`; at the end, stop the server and all that it started.

    Weights are those on disk, else seeded; samples are those in the folder that `TS_DATA` names, else synthetic.
    """
    data = os.environ.get("TS_DATA")
    preparations = Preparations("auto", Path(data).resolve() if data else None)
    server = Server(java.find(), folder / "store", ServerSettings())
    try:
        preparations.start([NOOP, RESNET56])
        server.start()
        # Wait before anything is timed: the preparation would compete for the processor.
        preparations.result(RESNET56)
        yield Service(server, preparations)
    finally:
        preparations.cancel()
        server.stop()
