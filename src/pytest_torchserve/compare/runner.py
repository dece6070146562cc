"""A candidate against its baseline: deploy both arms, measure, and take them down again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_torchserve._util.time_accounting import Activity
from pytest_torchserve.compare import baseline
from pytest_torchserve.compare.arms import ComparisonParams, ProcessWideError
from pytest_torchserve.compare.same_process import measure_same_process
from pytest_torchserve.compare.separate_processes import measure_restarts, measure_separate_processes
from pytest_torchserve.errors import WorkerError
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.torchserve import archive, pair_archive
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.compare.baseline import Baseline
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.inputs import weights
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.measure import Budget, Cell, Run
    from pytest_torchserve.model import Model
    from pytest_torchserve.telemetry.monitor import Monitor
    from pytest_torchserve.torchserve.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class ComparisonSetup:
    """What a comparison is made with.

    Attributes:
        baseline: what candidates are held against.
        weights, data: where the weights of a baseline that is a revision come from (`inputs`).
        store: the session's model store.
        server: settings of the session's server.
        baseline_server: settings of the baseline's server where it has one of its own; None for the same ones.
        keep: whether that server's folder is left behind in any case.
    """

    baseline: Baseline
    weights: weights.Mode
    data: Path | None
    store: Path
    server: ServerSettings
    baseline_server: ServerSettings | None = None
    keep: bool = False


class ComparisonRunner:
    """What a session has besides its own server once a baseline is named.

    Attributes:
        notices: what the user should know of how it was measured.
    """

    def __init__(self, setup: ComparisonSetup, server: Server, accounting: TimeAccounting) -> None:
        self._setup = setup
        self._baseline = setup.baseline
        self._server = server
        self._accounting = accounting
        self._other: Server | None = None
        self._preparations = Preparations(setup.weights, setup.data)
        self._models: Mapping[str, Model] | None = None
        self._made: set[Path] = set()
        self.notices: list[str] = []

    def run(
        self,
        cell: Cell,
        candidate: archive.Archive,
        inputs: ModelInputs,
        budget: Budget,
        progress: ProgressCallback,
        monitor: Monitor,
    ) -> Run:
        """One cell of kind `init` or `handle`, both arms.

        Raises:
            NoBaselineError: the baseline does not know the model.
        """
        params = ComparisonParams(cell.deployment, self._baseline.words, budget, progress, monitor)
        if self._baseline.kind == "python":
            return self._in_separate_processes(
                cell, {"baseline": candidate.path, "candidate": candidate.path}, inputs, params
            )
        with self._accounting.span(Activity.GOLDEN):
            arms = {"baseline": self._baseline_archive(cell.deployment), "candidate": candidate.path}
        if cell.kind == "init":
            return self._in_separate_processes(cell, arms, inputs, params)
        try:
            return self._in_same_process(arms, inputs, params)
        except (ProcessWideError, WorkerError) as error:
            # Some things can be done once in a process only; an arm that cannot start by itself will say so again.
            found = error.found if isinstance(error, ProcessWideError) else "they cannot start in one process"
            self.notices.append(f"{cell.id}: {found}; so each arm had processes of its own")
            return self._in_separate_processes(cell, arms, inputs, replace(params, differs=found))

    def _baseline_archive(self, deployment: Deployment) -> Path:
        name, device = deployment.model.name, deployment.device
        if self._baseline.kind == "archives":
            return baseline.saved_archive(self._baseline.path, name, device)
        if self._models is None:
            self._models = baseline.models(self._baseline.path)
        if name not in self._models:
            raise baseline.NoBaselineError(
                wanted=f"{name} as of {self._baseline.words}",
                found=f"that revision serves {', '.join(self._models)}",
                do="name a later revision",
            )
        artifacts = self._preparations.artifacts(self._models[name])
        return archive.build(artifacts, device, self._setup.store, of_today=False).path

    def _in_same_process(self, arms: Mapping[str, Path], inputs: ModelInputs, params: ComparisonParams) -> Run:
        """Both in one worker process."""
        deployment, budget = params.deployment, params.budget
        made = pair_archive.build(deployment.model.name, deployment.device, arms, self._setup.store, budget.seed)
        self._made.add(made.path)
        with self._deployed(self._server, deployment, "pair", made) as endpoint:
            return measure_same_process(endpoint, inputs, params)

    def _in_separate_processes(
        self, cell: Cell, arms: Mapping[str, Path], inputs: ModelInputs, params: ComparisonParams
    ) -> Run:
        """Each arm in processes, and perhaps on a server, of its own."""
        for path in arms.values():
            if not pair_archive.is_probed(path):
                raise baseline.NoBaselineError(
                    wanted=f"an archive with the probe, to be timed by itself, in {path}",
                    found="one without",
                    do="compare it in its handle cells, where the probe comes with the pair",
                )
        take = measure_restarts if cell.kind == "init" else measure_separate_processes
        with contextlib.ExitStack() as stack:
            endpoints = {
                arm: stack.enter_context(
                    self._deployed(self._server_of(arm), params.deployment, arm, archive.Archive(self._store(path), ""))
                )
                for arm, path in arms.items()
            }
            return take(endpoints, inputs, params)

    def _store(self, path: Path) -> Path:
        """The archive in our own store, where the server may load it from."""
        if path.parent.resolve() == self._setup.store.resolve():
            return path
        place = self._setup.store / f"baseline-{path.name}"
        self._made.add(place)
        place.unlink(missing_ok=True)
        place.symlink_to(path)
        return place

    def _server_of(self, arm: str) -> Server:
        """The session's server; another one for a baseline that is another environment."""
        if self._baseline.kind != "python" or arm == "candidate":
            return self._server
        if self._other is None:
            settings = self._setup.baseline_server or self._setup.server
            other = Server(self._server.java, self._setup.store, settings, python=self._baseline.path)
            with self._accounting.span(Activity.SERVER_START):
                try:
                    other.start()
                except BaseException:
                    other.stop()
                    raise
            self._other = other
        return self._other

    @contextlib.contextmanager
    def _deployed(
        self, server: Server, deployment: Deployment, variant: str, made: archive.Archive
    ) -> Iterator[Endpoint]:
        endpoint = Endpoint(server, replace(deployment, variant=variant), made, self._accounting)
        endpoint.register()
        try:
            yield endpoint
        finally:
            if server.alive():
                endpoint.close()

    def close(self, *, failed: bool) -> None:
        """Stop what was started."""
        self._preparations.cancel()
        for path in self._made:
            path.unlink(missing_ok=True)  # weights twice over, or a link to where the baseline was
        if self._other is not None:
            if failed or self._setup.keep:
                self._other.keep()
                self.notices.append(f"the baseline server's logs are kept in {self._other.folder}")
            self._other.stop()
