"""What a session has deployed: the server, and each deployment for as long as a test needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve import conditions, environment
from pytest_torchserve._util.memo import Memo
from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.errors import ServerError
from pytest_torchserve.torchserve import java
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server

if TYPE_CHECKING:
    from pytest_torchserve.config import Config, Expected
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.session.artifacts import ArtifactBuilder
    from pytest_torchserve.session.journal import Journal


class Deployments:
    """The session's own TorchServe, and what is registered there.

    Args:
        artifacts: makes the archives, and what the models are asked.
        notices: takes what the user should know.

    Attributes:
        server: None until it is needed.
    """

    def __init__(
        self,
        config: Config,
        expected: Expected,
        artifacts: ArtifactBuilder,
        journal: Journal,
        accounting: TimeAccounting,
        notices: list[str],
    ) -> None:
        self.server: Server | None = None
        self._config = config
        self._expected = expected
        self._artifacts = artifacts
        self._journal = journal
        self._accounting = accounting
        self._notices = notices
        self._memo = Memo()
        self._endpoints: dict[str, Endpoint] = {}

    def start(self) -> Server:
        """Return the server, started at the first call; golden answers are made meanwhile.

        Raises:
            SuiteError: what went wrong, and the same again at every further call: one cause, not a hundred.
        """
        return self._memo("server", self._start)

    def _start(self) -> Server:
        if self._config.attach is not None:
            raise ServerError(
                wanted="a TorchServe of our own",
                found="--ts-url: someone else's is measured, and is left as it is",
                do="select the tests of traffic (tests/test_load.py), or leave --ts-url out",
            )
        self._artifacts.start(self._expected.models.values())
        with self._accounting.span(Activity.SERVER_START):
            server = Server(java.find(), self._config.store, self._config.server)
            try:
                server.start()
            except BaseException:
                server.stop()
                raise
        if self._config.keep:
            server.keep()
        self.server = server
        self._notices += self._advice(server)
        self._journal.write("session", self._config.machine_info())
        # Not one cell is measured before all of it is made: that would compete for the processor.
        self._artifacts.prepare_all(self._expected.archived.values(), self._expected.models.values())
        return server

    def _advice(self, server: Server) -> list[str]:
        """Return what the user should know of this server and of the conditions it was started under."""
        models = sum(model.network is not None for model in self._expected.models.values())
        found = [environment.worker_advice(len(environment.gpus()[0]), models)]
        if server.overridden:
            found.insert(0, f"overridden for isolation: {', '.join(server.overridden)}")
        changed = conditions.set_since(self._config.conditions)
        if changed:
            found.append(f"changed after the session had begun, recorded as before: {', '.join(changed)}")
        return found

    def endpoint(self, deployment: Deployment, *, workers: int | None = None) -> Endpoint:
        """Return the deployment, registered, with exactly this many workers (as many as it has, for None)."""
        server = self.start()
        endpoint = self._endpoints.get(deployment.name)
        if endpoint is None:
            endpoint = Endpoint(server, deployment, self._artifacts.archive(deployment), self._accounting)
            endpoint.register()
            self._endpoints[deployment.name] = endpoint
        if workers is not None and len(endpoint.workers()) != workers:
            endpoint.scale(workers)
        return endpoint

    def release(self, deployment: Deployment) -> None:
        """Count one test less that needs the deployment; the last one ends its workers."""
        self._expected.deployments[deployment.name] -= 1
        if self._expected.deployments[deployment.name] <= 0:
            self.drop(deployment)

    def drop(self, deployment: Deployment) -> None:
        """Unregister the deployment, and end its workers with it."""
        endpoint = self._endpoints.pop(deployment.name, None)
        if endpoint is not None and endpoint.server.alive():
            endpoint.close()

    def close(self, *, failed: bool) -> None:
        """Stop the server; a failed session leaves its logs."""
        if self.server is None:
            return
        if failed:
            self.server.keep()
        if failed or self._config.keep:
            self._notices.append(f"the server's logs and temporary files are kept in {self.server.folder}")
        self.server.stop()
