"""The cell to measure (`Cell`), and how much time the measurement may take (`Budget`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_torchserve.deployment import UNKNOWN_BATCHING, Deployment

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.schedule import TimedSchedule

FEWEST_SAMPLES = 3
"""Processes, or rounds of processes, that a comparison needs. The interval of two samples would be twelve times as wide
as their distance."""

CellKind = Literal["init", "handle", "load", "capacity"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of measurement of one deployment.

    Attributes:
        schedule: the traffic of a load cell.
        workers: number of workers that share the traffic of a load or capacity cell. The other kinds have their own.
    """

    kind: CellKind
    deployment: Deployment
    schedule: TimedSchedule | None = None
    workers: int = 1

    @property
    def id(self) -> str:
        """The name in test ids: an init does not depend on the batch size, and only traffic depends on the delay."""
        deployment, batching = self.deployment, self.deployment.batching
        name = f"{deployment.model.name}-{deployment.device}"
        if self.kind == "init":
            return name
        if deployment.configured:
            name += "-configured"
            return f"{name}-{self.schedule.name}" if self.schedule else name
        if batching == UNKNOWN_BATCHING:
            name = f"{deployment.model.name}-attached"
        elif self.kind == "handle":
            return f"{name}-b{batching.batch_size}"
        else:
            name += f"-b{batching.batch_size}-d{batching.max_batch_delay_ms}"
            name += f"-w{self.workers}" if self.workers != 1 else ""
        return f"{name}-{self.schedule.name}" if self.schedule else name


@dataclass(frozen=True, slots=True)
class Budget:
    """The time and the number of processes that a measurement may use.

    Attributes:
        processes: worker processes of a deployment whose `handle` is timed. One process is a sample of one.
        cell_seconds: the budget of one handle cell, warm-up not counted.
        init_rounds: workers started one after the other for an init cell.
        capacity_seconds: the budget of the search of one capacity cell.
        slo_s: the latency goal: of a capacity cell, and of a load's goodput.
        seed: seed of a capacity cell's random arrivals, and of the order in which two arms get requests.
        baseline_seconds: the budget of one cell that is compared with a baseline, worker starts included.
        baseline_processes: the most worker processes that a compared cell samples; each is one sample of the ratio.
        precision: a handle cell ends early when every process's median is known to this fraction.
    """

    processes: int = 3
    cell_seconds: float = 20.0
    init_rounds: int = 3
    precision: float = 0.05
    capacity_seconds: float = 600.0
    slo_s: float = 0.25
    seed: int = 1
    baseline_seconds: float = 120.0
    baseline_processes: int = 8
