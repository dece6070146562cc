"""Measurement of one deployment under one load: from a `Cell` to its `Run`."""

from pytest_torchserve.measure.capacity import measure_capacity
from pytest_torchserve.measure.cell import Budget, Cell, CellKind
from pytest_torchserve.measure.context import Context
from pytest_torchserve.measure.handle import measure_handle
from pytest_torchserve.measure.init import measure_init
from pytest_torchserve.measure.load import measure_load
from pytest_torchserve.measure.run import Run

__all__ = [
    "Budget",
    "Cell",
    "CellKind",
    "Context",
    "Run",
    "measure_capacity",
    "measure_handle",
    "measure_init",
    "measure_load",
]
