"""One deployment under one load, and what was measured there: `Cell` → `Run`."""

from pytest_torchserve.measure.handle import measure_handle
from pytest_torchserve.measure.init import measure_init
from pytest_torchserve.measure.pace import measure_pace
from pytest_torchserve.measure.run import Cell, Effort, Kind, Run

__all__ = [
    "Cell",
    "Effort",
    "Kind",
    "Run",
    "measure_handle",
    "measure_init",
    "measure_pace",
]
