"""Runs as they were, from what the journal holds of them: the inverse of `Run.as_dict`."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from pytest_torchserve.measure.batches import Batches
from pytest_torchserve.measure.blocks import ArmBlock, Block
from pytest_torchserve.measure.capacity_result import Capacity, Step
from pytest_torchserve.measure.capacity_rule import Outcome
from pytest_torchserve.measure.cell import Cell
from pytest_torchserve.measure.latency_breakdown import LatencyBreakdown
from pytest_torchserve.measure.run import Paired, Run, Traffic
from pytest_torchserve.measure.slices import Slice
from pytest_torchserve.phase import Phase
from pytest_torchserve.stats import Quantile
from pytest_torchserve.telemetry.monitor import Telemetry

if TYPE_CHECKING:
    Record = Mapping[str, Any]

_NAMES = {
    one.__name__: one
    for one in (
        *(ArmBlock, Batches, Block, Capacity, Cell, LatencyBreakdown, Outcome, Paired, Phase, Quantile, Slice, Step),
        *(Telemetry, Traffic, Mapping, Sequence),
    )
}
"""The types that annotations name; some are imported by their modules for type checkers only."""


def restore(cell: Cell, record: Record) -> Run:
    """Return the run that a journal's line of a cell is of.

    Raises:
        ValueError, KeyError, TypeError: the line holds something else.
    """
    return typing.cast("Run", _dataclass(Run, {**record, "cell": cell}))


def _dataclass(kind: type[Any], content: Record) -> Any:
    """Return a dataclass of this kind; a field that an earlier release did not have keeps its default."""
    hints = typing.get_type_hints(kind, localns=_NAMES)
    return kind(**{one.name: _value(hints[one.name], content[one.name]) for one in fields(kind) if one.name in content})


def _value(hint: Any, value: Any) -> Any:
    """Return a value of JSON as its annotation says."""
    if value is None or hint is Any or isinstance(value, Cell):
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        kinds = [one for one in arguments if one is not types.NoneType]
        return _value(kinds[0], value) if len(kinds) == 1 else value  # of several all are plain numbers
    if origin is tuple:
        inner = arguments[0]
        each = [inner] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(one, part) for one, part in zip(each, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_key(arguments[0], key): _value(arguments[1], part) for key, part in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass(hint, value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, Enum) else value


def _key(hint: Any, key: str) -> Any:
    """Return a key, which JSON holds as text."""
    return hint(key) if isinstance(hint, type) and issubclass(hint, (int, Enum)) else key
