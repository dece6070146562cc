"""What a model needs before it can be served: weights, samples, golden answers, an archive."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_torchserve._util.memo import Memo
from pytest_torchserve._util.time_accounting import Activity
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.torchserve import archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.config import Config
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.inputs.model_inputs import ModelArtifacts, ModelInputs
    from pytest_torchserve.model import Model


class ArtifactBuilder:
    """Each made or found once a session.

    Args:
        config: where weights and samples come from, and the model store.
        accounting: where the time spent waiting for them is booked.
        notice: told in words what is not the real thing.
    """

    def __init__(self, config: Config, accounting: TimeAccounting, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._config = config
        self._accounting = accounting
        self._preparations = Preparations(config.weights, config.data)
        self._memo = Memo()

    def start(self, models: Iterable[Model]) -> None:
        """Begin to make golden answers; returns at once."""
        self._preparations.start(models)

    def prepare_all(self, deployments: Iterable[Deployment], models: Iterable[Model]) -> None:
        """Make all of it, archives while golden answers still are.

        What is wrong with one model is remembered for its own cells, and does not stop the others.
        """
        for deployment in deployments:
            with contextlib.suppress(SuiteError):
                self.archive(deployment)
        for model in models:
            with contextlib.suppress(SuiteError):
                self.inputs(model)

    def archive(self, deployment: Deployment) -> archive.Archive:
        """The deployment's archive."""
        model, device = deployment.model, deployment.device
        artifacts = self.artifacts(model)
        key, store = ("archive", model.name, device), self._config.store
        with self._accounting.span(Activity.ARCHIVES):
            return self._memo(key, lambda: archive.build(artifacts, device, store))

    def artifacts(self, model: Model) -> ModelArtifacts:
        """The model with its weights."""
        with self._accounting.span(Activity.GOLDEN):
            return self._memo(("artifacts", model.name), lambda: self._preparations.artifacts(model))

    def inputs(self, model: Model) -> ModelInputs:
        """The model's weights, samples and golden answers."""

        def make() -> ModelInputs:
            inputs = self._preparations.result(model)
            self._look_at(inputs)
            return inputs

        with self._accounting.span(Activity.GOLDEN):
            return self._memo(("inputs", model.name), make)

    def _look_at(self, inputs: ModelInputs) -> None:
        """Say visibly, once each, what is not the real thing."""
        model, kind = inputs.artifacts.model, inputs.artifacts.weights_kind
        if kind == "seeded" and self._config.weights == "auto":
            missing = "the catalogue names none"
            if model.weights is not None:
                missing = f"{model.weights.file} is not on disk; --ts-weights=pretrained downloads it"
            self._notice(f"seeded (random) weights: {missing}")
        if inputs.samples_source == "synthetic":
            data = self._config.data
            hint = f"{data} holds no {model.dataset}/" if data else "--ts-data names a folder of real ones"
            self._notice(f"synthetic {model.dataset} images: {hint}")

    def cancel(self) -> None:
        """Stop whatever is still being made."""
        self._preparations.cancel()
