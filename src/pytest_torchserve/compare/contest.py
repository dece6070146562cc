"""A candidate against its baseline: deploy both sides, measure, and take them down again."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve._util.ledger import Account
from pytest_torchserve.compare import baseline
from pytest_torchserve.compare.apart import measure_apart, measure_restarts
from pytest_torchserve.compare.paired import measure_pairs
from pytest_torchserve.compare.sides import ProcessWideError, Told
from pytest_torchserve.errors import WorkerError
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.torchserve import archive, pair_archive
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_torchserve._util.ledger import Ledger
    from pytest_torchserve.compare.baseline import Baseline
    from pytest_torchserve.config import Config
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.inputs.prepared import Prepared
    from pytest_torchserve.measure import Cell, Effort, Run
    from pytest_torchserve.measure.handle import Tell
    from pytest_torchserve.model import Model
    from pytest_torchserve.telemetry.monitor import Watch


class Contest:
    """What a session has besides its own server once a baseline is named.

    Attributes:
        notices: what the user should know of how it was measured.
    """

    def __init__(self, told: Baseline, config: Config, server: Server, ledger: Ledger) -> None:
        self._told = told
        self._config = config
        self._server = server
        self._ledger = ledger
        self._other: Server | None = None
        self._preparations = Preparations(config.weights, config.data)
        self._models: Mapping[str, Model] | None = None
        self._made: set[Path] = set()
        self.notices: list[str] = []

    def run(
        self, cell: Cell, candidate: archive.Archive, prepared: Prepared, effort: Effort, tell: Tell, watch: Watch
    ) -> Run:
        """One cell of kind `init` or `handle`, both sides.

        Raises:
            NoBaselineError: the baseline does not know the model.
        """
        told = Told(cell.deployment, self._told.words, effort, tell, watch)
        if self._told.kind == "python":
            return self._apart(cell, {"baseline": candidate.path, "candidate": candidate.path}, prepared, told)
        with self._ledger.span(Account.GOLDEN):
            sides = {"baseline": self._baseline_archive(cell.deployment), "candidate": candidate.path}
        if cell.kind == "init":
            return self._apart(cell, sides, prepared, told)
        try:
            return self._together(sides, prepared, told)
        except (ProcessWideError, WorkerError) as error:
            # Some things can be done once in a process only; a side that cannot start by itself will say so again.
            found = error.found if isinstance(error, ProcessWideError) else "they cannot start in one process"
            self.notices.append(f"{cell.id}: {found}; so each side had processes of its own")
            return self._apart(cell, sides, prepared, replace(told, differs=found))

    def _baseline_archive(self, deployment: Deployment) -> Path:
        name, device = deployment.model.name, deployment.device
        if self._told.kind == "archives":
            return baseline.saved_archive(self._told.path, name, device)
        if self._models is None:
            self._models = baseline.models(self._told.path)
        if name not in self._models:
            raise baseline.NoBaselineError(
                wanted=f"{name} as of {self._told.words}",
                found=f"that revision serves {', '.join(self._models)}",
                do="name a later revision",
            )
        served = self._preparations.served(self._models[name])
        return archive.build(served, device, self._config.store, of_today=False).path

    def _together(self, sides: Mapping[str, Path], prepared: Prepared, told: Told) -> Run:
        """Both in one worker process."""
        deployment, effort = told.deployment, told.effort
        made = pair_archive.build(deployment.model.name, deployment.device, sides, self._config.store, effort.seed)
        self._made.add(made.path)
        with self._deployed(self._server, deployment, "pair", made) as endpoint:
            return measure_pairs(endpoint, prepared, told)

    def _apart(self, cell: Cell, sides: Mapping[str, Path], prepared: Prepared, told: Told) -> Run:
        """Each side in processes, and perhaps on a server, of its own."""
        for path in sides.values():
            if not pair_archive.is_probed(path):
                raise baseline.NoBaselineError(
                    wanted=f"an archive with the probe, to be timed by itself, in {path}",
                    found="one without",
                    do="compare it in its handle cells, where the probe comes with the pair",
                )
        take = measure_restarts if cell.kind == "init" else measure_apart
        with contextlib.ExitStack() as stack:
            endpoints = {
                side: stack.enter_context(
                    self._deployed(self._server_of(side), told.deployment, side, archive.Archive(self._store(path), ""))
                )
                for side, path in sides.items()
            }
            return take(endpoints, prepared, told)

    def _store(self, path: Path) -> Path:
        """The archive in our own store, where the server may load it from."""
        if path.parent.resolve() == self._config.store.resolve():
            return path
        place = self._config.store / f"baseline-{path.name}"
        self._made.add(place)
        place.unlink(missing_ok=True)
        place.symlink_to(path)
        return place

    def _server_of(self, side: str) -> Server:
        """The session's server; another one for a baseline that is another environment."""
        if self._told.kind != "python" or side == "candidate":
            return self._server
        if self._other is None:
            settings = self._config.baseline_server or self._config.server
            other = Server(self._server.java, self._config.store, settings, python=self._told.path)
            with self._ledger.span(Account.SERVER_START):
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
        endpoint = Endpoint(server, replace(deployment, variant=variant), made, self._ledger)
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
            if failed or self._config.keep:
                self._other.keep()
                self.notices.append(f"the baseline server's logs are kept in {self._other.folder}")
            self._other.stop()
