"""Configuration of a session: from the options (`Config`) and from the collected tests (`Expected`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_torchserve import environment
from pytest_torchserve.compare.comparison import Rules
from pytest_torchserve.torchserve import java

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_torchserve.answers import Tolerance
    from pytest_torchserve.compare.baseline import Baseline
    from pytest_torchserve.compare.plan import Plan
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
class LocustConfig:
    """Locust as the sender of traffic.

    Attributes:
        workers: the number of Locust's worker processes.
        master: the address to listen on for workers on other machines; None for worker processes of our own.
    """

    workers: int
    master: str | None = None


@dataclass(frozen=True, slots=True)
class Attach:
    """An external TorchServe: a running server that the session attaches to.

    Attributes:
        address: the server's inference address, with its key.
        management: the server's management address, with its key; None where that address is out of reach.
        model: the name of the model there.
        samples: a folder of files to send; None for the samples of the catalogue's model of the same name.
    """

    address: Address
    management: Address | None
    model: str
    samples: Path | None


@dataclass(frozen=True, slots=True)
class Config:
    """Values of the session's options.

    Attributes:
        weights, data: the mode for weights, and the folder of weights and samples (`inputs`).
        batch_sizes: the handle cells' batch sizes.
        schedules: the traffic of the load cells.
        batchings: the batchings of the load and capacity cells.
        workers: the numbers of workers of the load and capacity cells.
        pace_seconds: the duration of the traffic at the classic rate (`PACE_PER_S`).
        forget: True when weights and golden answers are made anew.
        archives: archives of the user's own, the only models then, besides noop (--ts-mar).
        python: the interpreter whose TorchServe serves; None for this process's own.
        samples: the requests to send to the user's own archives.
        answers: a file of their expected answers, as `tsperf record-answers` writes it.
        tolerance: how far numbers of their answers may be off; None for the usual tolerance of the device.
        engine: Locust as the sender of traffic; None for the built-in client in this process.
        attach: the external server to measure; None for a server of our own.
        budget: how much time and how many processes a measurement may use.
        baseline_named: the baseline that cells are compared with, as typed; None for no comparison.
        baseline: the baseline, resolved; None until a cell is to be measured that can be compared with a baseline.
        baseline_server: the settings of the baseline's server, where the baseline has a server of its own.
        baseline_minutes: the time of all comparisons together; None where each cell has its own.
        rules: the rules of a verdict, and which verdict fails the session.
        server: the user's server settings.
        store: the model store.
        journal: the journal's file; None for none.
        checks_only: True when no timing is stored (--benchmark-disable).
        keep: True when the server's folder is kept in any case.
        require_gpu: True when a missing GPU is a failure.
        report: the folder for a report; None for none.
        conditions: the conditions of the measurement (`conditions.now`), taken after all tests are collected, because
            the collected files may set variables.
        options: the options that choose cells, as typed: whoever recovers this session from its journal needs them.
        recovered: `machine_info` of the session whose journal this one recovers; None for a session that measures.
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
    forget: bool = False
    archives: tuple[Path, ...] = ()
    workers: tuple[int, ...] = (1,)
    python: Path | None = None
    samples: Path | None = None
    answers: Path | None = None
    tolerance: Tolerance | None = None
    engine: LocustConfig | None = None
    attach: Attach | None = None
    baseline_named: str | None = None
    baseline: Baseline | None = None
    baseline_minutes: float | None = None
    checks_only: bool = False
    baseline_server: ServerSettings | None = None
    rules: Rules = field(default_factory=Rules)
    keep: bool = False
    require_gpu: bool = False
    report: Path | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    recovered: Mapping[str, Any] | None = None

    def described(self) -> dict[str, Any]:
        """Return the first line of the session's journal: `machine_info`, and the options to recover it with."""
        return {**self.machine_info(), "options": list(self.options)}

    def machine_info(self) -> dict[str, Any]:
        """Return the additions to pytest-benchmark's `machine_info`: the same before and after a server starts."""
        if self.recovered is not None:
            return dict(self.recovered)
        found: dict[str, Any] = {**environment.software(self.python), **environment.machine(), **self.conditions}
        found["method_version"] = environment.METHOD_VERSION
        found["server_settings"] = self.server.record()
        # The two networks of a comparison share the caches of one process: compare such times with each other only.
        found["baseline"] = self.baseline.words if self.baseline else None
        found["min_effect"] = self.rules.min_effect if self.baseline else None
        found["load_engine"] = f"locust × {self.engine.workers}" if self.engine else "builtin"
        found["java"] = java.words()
        return found


@dataclass(slots=True)
class Expected:
    """Needs of the collected tests, so that nothing is prepared in vain or kept too long.

    Attributes:
        plan: the time of the session's comparisons; None where each cell has its own (--ts-baseline-seconds).
    """

    models: dict[str, Model] = field(default_factory=dict)
    archived: dict[tuple[str, Device], Deployment] = field(default_factory=dict)
    deployments: Counter[str] = field(default_factory=Counter)
    cells: int = 0
    plan: Plan | None = None
