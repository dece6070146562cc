"""Deployments of a session: the server, and each deployment for as long as a test needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve import conditions, environment
from pytest_torchserve._util.memo import Memo
from pytest_torchserve._util.time_accounting import Activity
from pytest_torchserve.errors import ServerError
from pytest_torchserve.torchserve import in_effect, java, limits
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_torchserve.config import Expected
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.errors import ServerDiedError
    from pytest_torchserve.session.shared import Shared


MOST_DEATHS = 3
"""A session gives up when its server has ended so often: no cell would be measured."""

_END_S = 2.0


class Deployments:
    """The session's own TorchServe, and the deployments registered there.

    Args:
        expected: the needs of the collected tests.

    Attributes:
        server: the server; None until a test needs it.
        when_died: called when the server has ended by itself: whoever keeps something of it has to forget that.
    """

    def __init__(
        self,
        shared: Shared,
        expected: Expected,
    ) -> None:
        self.server: Server | None = None
        self._shared = shared
        self._expected = expected
        self._memo = Memo()
        self._log_read = 0  # bytes of the frontend's log
        self.when_died: list[Callable[[], None]] = []
        self._deaths = 0
        self._endpoints: dict[str, Endpoint] = {}
        self._looked_at: set[str] = set()  # the deployments of which is said which settings they do not follow

    def start(self) -> Server:
        """Return the server, started at the first call; golden answers are made meanwhile.

        Raises:
            SuiteError: the start failed; the same error again at every further call: one cause, not a hundred.
        """
        if self.server is not None and not self.server.alive():
            self.why_died()
        return self._memo("server", self._start)

    def why_died(self, *, failed: bool = False) -> ServerDiedError | None:
        """Return why the server has ended by itself, and forget it: the next cell starts another one.

        Args:
            failed: whether something has failed that a dead server would explain: its end is then waited for.
        """
        if self.server is None:
            return None
        died = self.server.why_died(_END_S if failed else 0.0)
        if died is None:
            return None
        self.server.keep()
        self.server.stop()
        self._shared.notices.append(f"TorchServe ended by itself; its logs are kept in {self.server.folder}")
        self._deaths += 1
        if self._deaths < MOST_DEATHS:
            self._memo.forget("server")
        else:
            times = f"it ended by itself {self._deaths} times, and nothing more is measured; the last time"
            gave_up = ServerError(wanted=died.wanted, found=f"{times} {died.found}", do=died.do)
            self._memo.fail("server", gave_up)
        self.server = None
        self._endpoints.clear()
        self._log_read = 0
        for forget in self.when_died:
            forget()
        return died

    def _start(self) -> Server:
        if self._shared.config.recovered is not None:
            raise ServerError(
                wanted="a TorchServe of our own",
                found="--ts-recover: nothing is started",
                do="deselect tests that ask a server; what the journal holds is recovered without them",
            )
        if self._shared.config.attach is not None:
            raise ServerError(
                wanted="a TorchServe of our own",
                found="--ts-url: someone else's is measured, and is left as it is",
                do="select the tests of traffic (tests/test_load.py), or leave --ts-url out",
            )
        self._shared.artifacts.start(self._expected.models.values())
        with self._shared.accounting.span(Activity.SERVER_START):
            server = Server(
                java.find(), self._shared.config.store, self._shared.config.server, python=self._shared.config.python
            )
            try:
                server.start()
            except BaseException:
                server.stop()
                raise
        if self._shared.config.keep:
            server.keep()
        self.server = server
        self._shared.notices.extend(self._advice(server))
        if not self._deaths:  # what follows belongs to the same session
            self._shared.journal.write("session", self._shared.config.described())
        # All archives and inputs are made before the first cell: their making would compete for the processor.
        self._shared.artifacts.prepare_all(self._expected.archived.values(), self._expected.models.values())
        return server

    def _advice(self, server: Server) -> list[str]:
        """Return notices for the user about this server and the conditions at its start."""
        models = sum(model.network is not None for model in self._expected.models.values())
        found = [*server.notes(), environment.worker_advice(len(environment.gpus()[0]), models)]
        changed = conditions.set_since(self._shared.config.conditions)
        if changed:
            found.append(f"changed after the session had begun, recorded as before: {', '.join(changed)}")
        return found

    def endpoint(self, deployment: Deployment, *, workers: int | None = None) -> Endpoint:
        """Return the deployment's endpoint, registered, with exactly this many workers (None: any number)."""
        server = self.start()
        endpoint = self._endpoints.get(deployment.name)
        if endpoint is None:
            endpoint = Endpoint(server, deployment, self._shared.artifacts.archive(deployment), self._shared.accounting)
            endpoint.register()
            self._endpoints[deployment.name] = endpoint
        if workers is not None and len(endpoint.workers()) != workers:
            endpoint.scale(workers)
        if deployment.name not in self._looked_at and endpoint.workers():
            self._looked_at.add(deployment.name)
            found = in_effect.without_effect(endpoint)
            self._shared.notices.extend(line for line in found if line not in self._shared.notices)
        return endpoint

    def explain(self, errors: Iterable[str]) -> list[str]:
        """Return the server's settings that failed requests are about, and add them to the notices.

        Called after each run: what the log has said before belongs to another one.
        """
        if self.server is None:
            return []
        log = self.server.frontend_log(self._log_read)
        self._log_read = self.server.frontend_log_size()
        found = limits.explain(errors, log)
        self._shared.notices.extend(found)
        return found

    def release(self, deployment: Deployment) -> None:
        """Count one test less that needs the deployment; after the last test its workers end."""
        self._expected.deployments[deployment.name] -= 1
        if self._expected.deployments[deployment.name] <= 0:
            self.drop(deployment)

    def drop_unneeded(self, deployment: Deployment) -> None:
        """Unregister a deployment that no test needs."""
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
        if failed or self._shared.config.keep:
            self._shared.notices.append(f"the server's logs and temporary files are kept in {self.server.folder}")
        self.server.stop()
