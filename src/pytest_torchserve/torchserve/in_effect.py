"""Settings of the user's that a running server does not follow, though it takes them without a word."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_torchserve import conditions

if TYPE_CHECKING:
    from pytest_torchserve.torchserve.endpoint import Endpoint
    from pytest_torchserve.torchserve.server import Server

_NO_LAUNCHER = "Proceeding without worker core pinning"
"""In the frontend's log where its CPU launcher does not run."""

_NO_IPEX = "intel-extension-for-pytorch is not installed"
"""In the worker's log, by TorchServe's base handler."""


def without_effect(endpoint: Endpoint) -> list[str]:
    """Return in words which settings have no effect on a deployment that has workers.

    Call this function once the workers are ready: what they do shows only then.
    """
    server = endpoint.server
    found = []
    if endpoint.deployment.device == "cpu" and _on(server, "cpu_launcher_enable"):
        found += _launcher(endpoint)
    if _on(server, "ipex_enable") and _NO_IPEX in server.model_log():
        found.append("ipex_enable has no effect: intel-extension-for-pytorch is not installed where the server runs")
    return found


def _launcher(endpoint: Endpoint) -> list[str]:
    """Return in words why no worker is pinned, though TorchServe's CPU launcher is asked for."""
    if _NO_LAUNCHER in endpoint.server.frontend_log():
        why = "`python -m torch.backends.xeon.run_cpu`, with cpu_launcher_args, fails where the server runs"
        return [f"cpu_launcher_enable has no effect: {why}, and no worker is pinned"]
    allowed = os.sched_getaffinity(endpoint.server.pid)
    if len(allowed) == 1 or not any(_affinity(worker.pid) == allowed for worker in endpoint.workers()):
        return []
    why = f"a worker may use all processors that the server may ({conditions.ranges(allowed)})"
    return [f"cpu_launcher_enable pins nothing: {why}; cpu_launcher_args chooses them"]


def _affinity(pid: int) -> set[int]:
    """Return the processors that a process may use; an empty set where the process is gone."""
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return set()


def _on(server: Server, name: str) -> bool:
    return server.settings.get(name, "").strip().lower() == "true"
