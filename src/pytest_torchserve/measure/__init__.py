"""One deployment under one load, and what was measured there: `Cell` → `Run`."""

from pytest_torchserve.measure.capacity import measure_capacity
from pytest_torchserve.measure.cell import Budget, Cell, Kind
from pytest_torchserve.measure.handle import measure_handle
from pytest_torchserve.measure.init import measure_init
from pytest_torchserve.measure.run import Run
from pytest_torchserve.measure.traffic import measure_load

__all__ = [
    "Budget",
    "Cell",
    "Kind",
    "Run",
    "measure_capacity",
    "measure_handle",
    "measure_init",
    "measure_load",
]
