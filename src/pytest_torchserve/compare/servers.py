"""The servers of both arms: the session's, and one for a baseline that is another environment or has other settings."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.torchserve import in_effect
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_torchserve.compare.comparison_setup import ComparisonSetup
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.torchserve.archive import Archive


class ArmServers:
    """The servers that the arms run on.

    Args:
        server: the session's server.

    Attributes:
        notices: messages to the user about the servers.
    """

    def __init__(self, setup: ComparisonSetup, server: Server, accounting: TimeAccounting) -> None:
        self._setup = setup
        self._server = server
        self._accounting = accounting
        self._other: Server | None = None
        self.notices: list[str] = []

    @contextlib.contextmanager
    def deployed(self, arm: str, deployment: Deployment, made: Archive) -> Iterator[Endpoint]:
        """Register an arm, or a `pair` of arms, for as long as the context is entered."""
        server = self._server_of(arm)
        endpoint = Endpoint(server, replace(deployment, variant=arm), made, self._accounting)
        endpoint.register()
        try:
            yield endpoint
        finally:
            if server.alive():
                self._tell_without_effect(endpoint, "" if server is self._server else "the baseline's server: ")
                endpoint.close()

    def _tell_without_effect(self, endpoint: Endpoint, whose: str) -> None:
        """Add the settings that a server does not follow to the notices, each once."""
        lines = [f"{whose}{line}" for line in in_effect.without_effect(endpoint)]
        self.notices += [line for line in lines if line not in self.notices]

    def _server_of(self, arm: str) -> Server:
        """Return the server of an arm: the session's, or the baseline's own, started at the first call."""
        if not self._setup.baseline.has_own_server or arm != "baseline":
            return self._server
        if self._other is None:
            settings, baseline = self._setup.baseline_server or self._setup.server, self._setup.baseline
            python = baseline.path if baseline.kind == "python" else self._server.python
            other = Server(self._server.java, self._setup.store, settings, python=python)
            with self._accounting.span(Activity.SERVER_START):
                try:
                    other.start()
                except BaseException:
                    other.stop()
                    raise
            self._other = other
            self.notices += other.differences(self._server)
            self.notices += [
                f"the baseline's server: {line}" for line in other.notes() if line not in self._server.notes()
            ]
        return self._other

    def close(self, *, failed: bool) -> None:
        """Stop the baseline's own server.

        Args:
            failed: whether the session failed; then the server's logs are kept.
        """
        if self._other is None:
            return
        if failed or self._setup.keep:
            self._other.keep()
            self.notices.append(f"the baseline server's logs are kept in {self._other.folder}")
        self._other.stop()
