"""The selection and the order of a session's tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve.compare.capacity_pairs import rounds_within
from pytest_torchserve.deployment import DEVICES
from pytest_torchserve.measure import Cell
from pytest_torchserve.plugin import options
from pytest_torchserve.plugin.fixtures import PLAN_KEY, is_ours
from pytest_torchserve.plugin.matrix import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

_IN_MINUTES = 120
"""Seconds from which a time is told in minutes."""


def cell_of(item: pytest.Item) -> Cell | None:
    """Return the cell that a test measures."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params.values() if callspec else ()
    return next((value for value in parameters if isinstance(value, Cell)), None)


def announcement(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Say how long searches for capacity will take, and comparisons that share their time: nobody expects minutes."""
    plan = config.stash.get(PLAN_KEY, None)
    planned = plan.lines() if plan else []
    cells = (cell_of(item) for item in items)
    if config.getoption("ts_recover") is not None:
        return []
    count = len({cell.id for cell in cells if cell is not None and cell.kind == "capacity"})
    if not count:
        return planned
    seconds = options.of(config).budget.capacity_seconds
    longest = f"{seconds / 60:.3g} min" if seconds >= _IN_MINUTES else f"{seconds:.3g} s"
    budget = options.of(config).budget
    if config.getoption("ts_baseline") and not options.of(config).checks_only and options.of(config).engine is None:
        count *= 2 * rounds_within(budget)
    told = f"1 search, which takes up to {longest}" if count == 1 else f"{count} searches of up to {longest} each"
    return [*planned, f"capacity: {told} (--ts-capacity-seconds)"]


def arrange(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring tests of one deployment together, so that its workers are loaded once; else keep the order.

    Tests that this session does not want (`_wanted`) are deselected.
    """
    left: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        (left if _wanted(item, config) else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
    items[:] = left
    first: dict[object, int] = {}
    places: dict[pytest.Item, tuple[int, int, int]] = {}
    for index, item in enumerate(items):
        cell = cell_of(item)
        if cell is None:
            places[item] = (index, 0, 0)
            continue
        # An init cell comes first: it ends the deployment's workers, and leaves its last worker to the others. Of an
        # archive whose answers nobody knows, that worker is asked them before any other cell of the model is measured.
        deployment = cell.deployment
        group = (deployment.model.name, deployment.device) if deployment.model.mar else deployment.name
        within = first.setdefault(deployment.name, index)
        places[item] = (first.setdefault(group, index), cell.kind != "init", within)
    items.sort(key=places.__getitem__)


def _wanted(item: pytest.Item, config: pytest.Config) -> bool:
    """Return whether a test that was selected is to run in this session.

    With --ts-recover, only tests of cells that the journal holds. With --ts-url, only tests of the suite that can run
    against an external server; a capacity test, which takes minutes and overloads the server, only where `-m` names
    `capacity`; under --ts-quick, tests that are marked `ts_models(…, quick=False)` only where they are asked for.
    """
    cell = cell_of(item)
    recovery = options.recovered(config)
    if recovery is not None:
        return cell is not None and recovery.has(cell)
    if config.getoption("ts_quick") and _left_out_of_a_look(item, cell, config):
        return False
    own = is_ours(item) and (cell is None or cell.deployment.device in DEVICES)
    if own and options.of(config).attach is not None:
        return False
    if cell is None:
        # Nothing served streams: no reason to speak of it.
        return "ts_stream_run" not in getattr(item, "fixturenames", ())
    return cell.kind != "capacity" or "capacity" in (config.option.markexpr or "")


def _left_out_of_a_look(item: pytest.Item, cell: Cell | None, config: pytest.Config) -> bool:
    """Return whether a test says `quick=False`, and neither its model (`-k`) nor its file was asked for."""
    marker = item.get_closest_marker("ts_models")
    if marker is None or marker.kwargs.get("quick", True):
        return False
    files = {Path(argument.partition("::")[0]).absolute() for argument in config.args}
    return item.path not in files and not (cell is not None and named(cell.deployment.model, config))
