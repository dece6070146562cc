"""Which cells the tests of the suite measure: model × device × batch size, as conftest.py and the options say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve.config import PACE_PER_S
from pytest_torchserve.deployment import DEVICES, UNKNOWN_BATCHING, Batching, Deployment
from pytest_torchserve.fixtures import MODELS_KEY
from pytest_torchserve.load import ConstantRate
from pytest_torchserve.measure import Cell, Kind
from pytest_torchserve.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_torchserve.config import Config
    from pytest_torchserve.load import TimedLoad

CONFIG_KEY: pytest.StashKey[Config] = pytest.StashKey()

PACE = Batching(batch_size=16, max_batch_delay_ms=3000)
"""The classic setting: every 0.1 s a request, batches of 16, 3 s of delay."""

PACE_LOAD = ConstantRate(PACE_PER_S, 0.0).name
"""What its load is called."""

_FIXTURES: dict[str, Kind] = {
    "init_run": "init",
    "handle_run": "handle",
    "pace_run": "load",
    "load_run": "load",
    "capacity_run": "capacity",
}


def models(config: pytest.Config) -> tuple[Model, ...]:
    """What conftest.py says is served."""
    if MODELS_KEY not in config.stash:
        answers: list[Sequence[Model]] = config.hook.pytest_torchserve_models(config=config)
        config.stash[MODELS_KEY] = tuple(model for answer in answers for model in answer)
    return config.stash[MODELS_KEY]


def cells(kind: Kind, fixture: str, config: pytest.Config, definition: pytest.Item) -> Iterator[Cell]:
    """The cells of a kind that a test is to measure."""
    told = config.stash[CONFIG_KEY]
    if told.attach is not None:
        yield from _attached(kind, fixture, config)
        return
    marker = definition.get_closest_marker("ts_models")
    for model in models(config):
        named = marker is not None and model.name in marker.args
        if (not named) if marker else model.extra:
            continue
        if fixture == "pace_run" and model.network is None:
            continue  # a floor has no pace of its own
        for device in DEVICES:
            for batching in _batchings(fixture, told, definition):
                for load in _loads(fixture, told):
                    yield Cell(kind, Deployment(model, device, batching), load)


def _batchings(fixture: str, told: Config, definition: pytest.Item) -> tuple[Batching, ...]:
    """The batch settings of a kind of cell."""
    if fixture == "init_run":
        return (Batching(batch_size=1),)
    if fixture == "handle_run":
        sizes = definition.get_closest_marker("ts_batch_sizes")
        return tuple(Batching(n) for n in told.batch_sizes if sizes is None or n in sizes.args)
    return (PACE,) if fixture == "pace_run" else told.batchings


def _loads(fixture: str, told: Config) -> tuple[TimedLoad | None, ...]:
    """The traffic of a kind of cell; a cell of another kind has none."""
    if fixture == "pace_run":
        return (ConstantRate(PACE_PER_S, told.pace_seconds),)
    return told.loads if fixture == "load_run" else (None,)


def _attached(kind: Kind, fixture: str, config: pytest.Config) -> Iterator[Cell]:
    """Someone else's server: only traffic, and only the one model there."""
    told = config.stash[CONFIG_KEY]
    assert told.attach is not None  # noqa: S101 - the caller has asked
    name = told.attach.model
    unknown = Model(name=name, handler="", reference=Path(), dataset="")
    model = next((model for model in models(config) if model.name == name), unknown)
    deployment = Deployment(model, "unknown", UNKNOWN_BATCHING)
    if fixture == "load_run":
        yield from (Cell(kind, deployment, load) for load in told.loads)
    elif fixture == "capacity_run":
        yield Cell(kind, deployment)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Model × device × batch size for the run fixtures, and devices for the rest."""
    for fixture, kind in _FIXTURES.items():
        if fixture in metafunc.fixturenames:
            parameters = [
                pytest.param(cell, id=cell.id, marks=_marks(cell))
                for cell in cells(kind, fixture, metafunc.config, metafunc.definition)
            ] or [_nothing_to_measure(metafunc.config)]
            metafunc.parametrize(fixture, parameters, indirect=True)
    if "ts_device" in metafunc.fixturenames:
        parameters = [pytest.param(device, id=device, marks=getattr(pytest.mark, device)) for device in DEVICES]
        metafunc.parametrize("ts_device", parameters, indirect=True)


def _marks(cell: Cell) -> list[pytest.MarkDecorator]:
    """Its device; but a search for capacity takes minutes, and is part of neither device's usual run."""
    if cell.kind == "capacity":
        return [pytest.mark.capacity]
    return [getattr(pytest.mark, cell.deployment.device)] if cell.deployment.device in DEVICES else []


def _nothing_to_measure(config: pytest.Config) -> Any:
    """A test without a cell is skipped, and says why."""
    sizes = ",".join(map(str, config.stash[CONFIG_KEY].batch_sizes))
    reason = f"none of this test's models and batch sizes is served (--ts-batch-sizes={sizes})"
    return pytest.param(None, id="none", marks=[pytest.mark.skip(reason=reason), pytest.mark.cpu, pytest.mark.gpu])
