"""What a session is told: by the options (`Config`) and by the collected tests (`Expected`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_torchserve import environment
from pytest_torchserve.compare.verdict import Rules
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.torchserve import java

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_torchserve.compare.baseline import Baseline
    from pytest_torchserve.deployment import Batching, Deployment, Device
    from pytest_torchserve.inputs import weights
    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.measure import Budget
    from pytest_torchserve.model import Model
    from pytest_torchserve.torchserve.settings import ServerSettings


PACE_PER_S = 10.0
"""The classic rate: one request every 0.1 s."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Locust sends the traffic.

    Attributes:
        workers: how many processes.
        master: the address to listen on for workers elsewhere; None for processes of our own.
    """

    workers: int
    master: str | None = None


@dataclass(frozen=True, slots=True)
class Attach:
    """A TorchServe that someone else runs.

    Attributes:
        address: its inference address, with its key.
        management: its management address, with its key; None where it is out of reach.
        model: the name of the model there.
        samples: a folder of files to send; None for those of the catalogue's model of the same name.
    """

    address: Address
    management: Address | None
    model: str
    samples: Path | None


@dataclass(frozen=True, slots=True)
class Config:
    """What the options say.

    Attributes:
        weights, data: where weights and samples come from (`inputs`).
        batch_sizes: the handle cells' batch sizes.
        loads: the traffic of the load cells.
        batchings: theirs, and the capacity cells'.
        pace_seconds: how long the classic pace runs.
        engine: what sends traffic; None for this process.
        attach: whose server is measured; None for one of our own.
        budget: how much time a measurement may take.
        baseline_named: what init and handle cells are held against, as typed; None for nothing.
        baseline: the same, found; None until something is measured that can be held against it.
        baseline_server: settings of the baseline's server, where it has one of its own.
        rules: what makes a verdict, and which one fails the session.
        server: the user's server settings.
        store: the model store.
        journal: the journal's file; None for none.
        checks_only: whether nothing is timed for keeping (--benchmark-disable).
        keep: whether the server's folder is left behind in any case.
        require_gpu: whether a missing GPU is a failure.
        report: the folder for a report; None for none.
        conditions: under which it is measured (`conditions.now`), taken when all tests are collected, for what is
            collected may set variables.
    """

    weights: weights.Mode
    data: Path | None
    batch_sizes: tuple[int, ...]
    budget: Budget
    schedules: tuple[TimedSchedule, ...]
    batchings: tuple[Batching, ...]
    pace_seconds: float
    server: ServerSettings
    store: Path
    journal: Path | None
    engine: Engine | None = None
    attach: Attach | None = None
    baseline_named: str | None = None
    baseline: Baseline | None = None
    checks_only: bool = False
    baseline_server: ServerSettings | None = None
    rules: Rules = field(default_factory=Rules)
    keep: bool = False
    require_gpu: bool = False
    report: Path | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def machine_info(self) -> dict[str, Any]:
        """What pytest-benchmark's `machine_info` gains; the same before a server is started as after."""
        found: dict[str, Any] = {**environment.software(), **environment.machine(), **self.conditions}
        found["server_settings"] = self.server.record()
        # Two networks in one process share its caches: such times are comparable with each other only.
        found["baseline"] = self.baseline.words if self.baseline else None
        found["min_effect"] = self.rules.min_effect if self.baseline else None
        found["load_engine"] = f"locust × {self.engine.workers}" if self.engine else "builtin"
        try:
            runtime = java.find()
            found["java"] = f"{runtime.version} ({runtime.source})"
        except SuiteError:
            found["java"] = None
        return found


@dataclass(slots=True)
class Expected:
    """What the collected tests will ask for, so that nothing is prepared in vain or kept too long."""

    models: dict[str, Model] = field(default_factory=dict)
    archived: dict[tuple[str, Device], Deployment] = field(default_factory=dict)
    deployments: Counter[str] = field(default_factory=Counter)
    cells: int = 0
