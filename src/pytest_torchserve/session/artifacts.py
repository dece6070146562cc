"""Artifacts that a model needs before it can be served: weights, samples, golden answers, an archive."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve._util.memo import Memo
from pytest_torchserve._util.time_accounting import Activity
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.inputs import answers_file, catalogue_check
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.model import Weights
from pytest_torchserve.torchserve import archive, own_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.config import Config
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.inputs.model_inputs import ModelArtifacts, ModelInputs
    from pytest_torchserve.model import Model


class ArtifactBuilder:
    """Builder of inputs and archives, each made or found once a session.

    Args:
        config: the sources of weights and samples, and the model store.
        accounting: books the time spent waiting for inputs and archives.
        notice: called with a message where weights are seeded or samples are synthetic.
    """

    def __init__(self, config: Config, accounting: TimeAccounting, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._config = config
        self._accounting = accounting
        self._preparations = Preparations(config.weights, config.data, forget=config.forget)
        self._memo = Memo()

    def start(self, models: Iterable[Model]) -> None:
        """Start to make golden answers, and return at once. A faulty entry fails its own cells, and no others."""
        for model in models:
            with contextlib.suppress(SuiteError):
                catalogue_check.check(model)
                self._preparations.start([model])

    def prepare_all(self, deployments: Iterable[Deployment], models: Iterable[Model]) -> None:
        """Make all archives and inputs; the archives while golden answers are still being made.

        An error of one model, of whatever kind, is remembered for the model's own cells, and stops no other model.
        """
        for deployment in deployments:
            with contextlib.suppress(Exception):
                self.archive(deployment)
        for model in models:
            with contextlib.suppress(Exception):
                self.inputs(model)

    def archive(self, deployment: Deployment) -> archive.Archive:
        """Return the deployment's archive."""
        model, device = deployment.model, deployment.device
        artifacts = self.artifacts(model)
        key, store = ("archive", model.name, device), self._config.store
        with self._accounting.span(Activity.ARCHIVES):
            return self._memo(key, lambda: archive.build(artifacts, device, store, self._config.server.timeouts))

    def artifacts(self, model: Model) -> ModelArtifacts:
        """Return the model with its weights and labels."""

        def make() -> ModelArtifacts:
            error = own_models.fault(model)
            if error is not None:
                raise error
            return self._preparations.artifacts(model)

        with self._accounting.span(Activity.GOLDEN):
            return self._memo(("artifacts", model.name), make)

    def inputs(self, model: Model) -> ModelInputs:
        """Return the model's weights, samples and golden answers."""

        def make() -> ModelInputs:
            self.artifacts(model)  # an archive that cannot be served is told before what it should be sent
            inputs = self._preparations.result(model)
            answers = self._config.answers
            if answers is not None and model.mar is not None:
                file = answers / f"{model.name}.json" if answers.is_dir() else answers
                inputs = replace(inputs, samples=answers_file.read(file, inputs.samples))
            self._look_at(inputs)
            return inputs

        with self._accounting.span(Activity.GOLDEN):
            return self._memo(("inputs", model.name), make)

    def _look_at(self, inputs: ModelInputs) -> None:
        """Add a notice, once for each model, for seeded weights, synthetic samples and few distinct requests."""
        model, kind = inputs.artifacts.model, inputs.artifacts.weights_kind
        if model.one_at_a_time:
            self._notice(f"{model.name}: in all its cells a batch is one request: its handler or worker takes no more")
        if isinstance(model.weights, Path):
            self._notice(f"{model.name}: {model.weights.name} is used unchecked: it states no hash")
        elif kind == "pretrained" and isinstance(model.weights, Weights) and not model.weights.sha256_prefix:
            self._notice(f"{model.name}: {model.weights.file} is used unchecked: its name states no hash")
        if kind == "seeded" and self._config.weights == "auto":
            missing = "the catalogue names none"
            if isinstance(model.weights, Weights):
                missing = f"{model.weights.file} is not on disk; --ts-weights=pretrained downloads it"
            self._notice(f"seeded (random) weights: {missing}")
        if inputs.samples_source == "synthetic" and not model.dataset:
            self._notice(f"{model.name}: requests made up for its handler; --ts-samples names your own")
        elif inputs.samples_source == "synthetic" and not self._config.archives:  # noop's are no matter there
            data = self._config.data
            hint = f"{data} holds no {model.dataset}/" if data else "--ts-data names a folder of real ones"
            self._notice(f"synthetic {model.dataset} images: {hint}")

    def cancel(self) -> None:
        """Stop all preparations that still run."""
        self._preparations.cancel()
