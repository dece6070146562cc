"""The archives of both arms: the baseline's is found or made, and both are at hand in the session's store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.compare import baseline
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.torchserve import archive, pair_archive, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_torchserve.compare.comparison_setup import ComparisonSetup
    from pytest_torchserve.deployment import Deployment, Device
    from pytest_torchserve.model import Model


class ArmArchives:
    """Archives for comparisons; those made only for comparisons are removed at the end."""

    def __init__(self, setup: ComparisonSetup) -> None:
        self._setup = setup
        self._preparations = Preparations(setup.weights, setup.data)
        self._models: Mapping[str, Model] | None = None
        self._made: set[Path] = set()

    def of_baseline(self, deployment: Deployment) -> Path:
        """Return the baseline's archive of this deployment.

        Raises:
            NoBaselineError: the baseline does not know the model.
        """
        name, device = deployment.model.name, deployment.device
        if self._setup.baseline.kind == "archives":
            return baseline.saved_archive(self._setup.baseline.path, name, device)
        if self._models is None:
            self._models = baseline.models(self._setup.baseline.path)
        if name not in self._models:
            raise baseline.NoBaselineError(
                wanted=f"{name} as of {self._setup.baseline.words}",
                found=f"that revision serves {', '.join(self._models)}",
                do="name a later revision",
            )
        artifacts = self._preparations.artifacts(self._models[name])
        return archive.build(artifacts, device, self._setup.store, self._setup.server.timeouts, of_today=False).path

    def pair(self, deployment: Deployment, arms: Mapping[str, Path], seed: int) -> archive.Archive:
        """Return one archive that holds both arms."""
        name, timeouts = deployment.model.name, self._setup.server.timeouts
        made = pair_archive.build(name, deployment.device, arms, self._setup.store, seed, timeouts)
        self._made.add(made.path)
        return made

    def alone(self, arm: str, path: Path, device: Device) -> archive.Archive:
        """Return the archive of one arm in the session's own store, where its server may load it from.

        Raises:
            ArchiveError: the archive cannot be read or served.
        """
        settings = (self._setup.baseline_server if arm == "baseline" else None) or self._setup.server
        as_the_sessions = settings.timeouts == self._setup.server.timeouts
        in_store = path.parent.resolve() == self._setup.store.resolve()
        probed = pair_archive.is_probed(path)
        if probed and in_store and as_the_sessions:
            return archive.Archive(path, "")
        if not (probed and as_the_sessions) or settings.timeouts.key:
            place = self._setup.store / f"baseline-{device}-{path.name}"
            self._made.add(place)
            wrap.wrap(path, device, place, settings.timeouts)
            return archive.Archive(place, "")
        place = self._setup.store / f"baseline-{path.name}"
        self._made.add(place)
        place.unlink(missing_ok=True)
        place.symlink_to(path)
        return archive.Archive(place, "")

    def close(self) -> None:
        """Stop preparations that still run, and remove files that only comparisons need."""
        self._preparations.cancel()
        for path in self._made:
            path.unlink(missing_ok=True)  # an archive with the weights of both arms, or a link to the baseline's
