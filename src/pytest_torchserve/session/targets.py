"""Targets of traffic, and the engine that sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve._util.memo import Memo
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import own, requests
from pytest_torchserve.inputs.model_inputs import ModelArtifacts, ModelInputs
from pytest_torchserve.loadgen import client
from pytest_torchserve.torchserve.external import AttachedEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_torchserve.config import Attach
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.loadgen.locust import LocustEngine
    from pytest_torchserve.loadgen.target import Engine, Target
    from pytest_torchserve.measure import Cell
    from pytest_torchserve.session.deployments import Deployments
    from pytest_torchserve.session.shared import Shared


class Targets:
    """Targets of traffic: our own deployments, or the deployment on an external server.

    Args:
        say: writes a line where the user sees it at once.
    """

    def __init__(
        self,
        shared: Shared,
        deployments: Deployments,
        say: Callable[[str], None],
    ) -> None:
        self._shared = shared
        self._deployments = deployments
        self._say = say
        self._memo = Memo()
        self._locust_engine: LocustEngine | None = None
        self._described = False

    def target(self, cell: Cell, inputs: ModelInputs | None) -> tuple[Target, ModelInputs]:
        """Return the target of a cell's traffic, and its inputs.

        Args:
            inputs: the inputs of a model of our own; None for an external server.
        """
        attach = self._shared.config.attach
        if attach is not None:
            return self._attached(attach, cell.deployment)
        assert inputs is not None  # noqa: S101 - the caller's
        endpoint = self._deployments.endpoint(cell.deployment, workers=cell.deployment.workers or cell.workers)
        endpoint.engine = self._engine()
        return endpoint, inputs

    def _attached(self, attach: Attach, deployment: Deployment) -> tuple[Target, ModelInputs]:
        """Return the deployment on the external server, and its inputs."""
        if not self._described:
            self._described = True
            self._shared.journal.write("session", self._shared.config.described())
        if attach.samples is not None:
            unknown = ModelArtifacts(deployment.model, None, None, "unknown")
            inputs = own.hashed(unknown, requests.read(attach.samples), "folder")
        elif deployment.model.dataset or deployment.model.samples:
            self._shared.artifacts.start([deployment.model])
            inputs = self._shared.artifacts.inputs(deployment.model)
        else:
            raise InputError(
                wanted=f"samples for {attach.model}",
                found="no --ts-samples, and no model of that name in the catalogue",
                do="name a folder of files to send with --ts-samples",
            )
        if any(sample.answer is None for sample in inputs.samples):
            self._shared.notices.append("answers without a FILE.answer.json are only checked for their status")
        engine, timeout_s = self._engine(), self._shared.config.server.response_timeout_s
        endpoint = AttachedEndpoint(
            attach.address, attach.management, attach.model, self._shared.accounting, engine, timeout_s
        )
        return endpoint, inputs

    def _engine(self) -> Engine:
        """Return the engine that sends traffic: the built-in client, or Locust, started at the first call."""
        wanted = self._shared.config.engine
        if wanted is None:
            return client.send
        if self._locust_engine is None:
            from pytest_torchserve.loadgen.locust import LocustEngine  # noqa: PLC0415 - optional

            self._locust_engine = LocustEngine(wanted.workers, wanted.master)
            if wanted.master:
                self._say(f"start {wanted.workers} workers elsewhere: {self._locust_engine.command}")
        self._memo("locust", self._locust_engine.start)
        self._locust_engine.start()  # restarts a lost engine; does nothing while it runs
        return self._locust_engine

    def close(self) -> None:
        """Stop the Locust engine, where one was started."""
        if self._locust_engine is not None:
            self._locust_engine.close()
