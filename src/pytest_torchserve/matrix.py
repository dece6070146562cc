"""Which cells the tests of the suite measure: model × device × batch size, as conftest.py and the options say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve.deployment import DEVICES, Batching, Deployment
from pytest_torchserve.fixtures import MODELS_KEY
from pytest_torchserve.measure import Cell, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_torchserve.config import Config
    from pytest_torchserve.model import Model

CONFIG_KEY: pytest.StashKey[Config] = pytest.StashKey()

PACE = Batching(batch_size=16, max_batch_delay_ms=3000)
"""The classic setting: every 0.1 s a request, batches of 16, 3 s of delay."""

_FIXTURE_OF: dict[Kind, str] = {"init": "init_run", "handle": "handle_run", "pace": "pace_run"}


def models(config: pytest.Config) -> tuple[Model, ...]:
    """What conftest.py says is served."""
    if MODELS_KEY not in config.stash:
        answers: list[Sequence[Model]] = config.hook.pytest_torchserve_models(config=config)
        config.stash[MODELS_KEY] = tuple(model for answer in answers for model in answer)
    return config.stash[MODELS_KEY]


def cells(kind: Kind, config: pytest.Config, definition: pytest.Item) -> Iterator[Cell]:
    """The cells of a kind that a test is to measure."""
    marker = definition.get_closest_marker("ts_models")
    sizes = definition.get_closest_marker("ts_batch_sizes")
    chosen = config.stash[CONFIG_KEY].batch_sizes
    for model in models(config):
        named = marker is not None and model.name in marker.args
        if (not named) if marker else model.extra:
            continue
        if kind == "pace" and model.network is None:
            continue  # a floor has no pace of its own
        batchings = {
            "init": (Batching(batch_size=1),),
            "pace": (PACE,),
            "handle": tuple(Batching(n) for n in chosen if sizes is None or n in sizes.args),
        }[kind]
        for device in DEVICES:
            for batching in batchings:
                yield Cell(kind, Deployment(model, device, batching))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Model × device × batch size for the run fixtures, and devices for the rest."""
    for kind, fixture in _FIXTURE_OF.items():
        if fixture in metafunc.fixturenames:
            parameters = [
                pytest.param(cell, id=cell.id, marks=getattr(pytest.mark, cell.deployment.device))
                for cell in cells(kind, metafunc.config, metafunc.definition)
            ] or [_nothing_to_measure(metafunc.config)]
            metafunc.parametrize(fixture, parameters, indirect=True)
    if "ts_device" in metafunc.fixturenames:
        parameters = [pytest.param(device, id=device, marks=getattr(pytest.mark, device)) for device in DEVICES]
        metafunc.parametrize("ts_device", parameters, indirect=True)


def _nothing_to_measure(config: pytest.Config) -> Any:
    """A test without a cell is skipped, and says why."""
    sizes = ",".join(map(str, config.stash[CONFIG_KEY].batch_sizes))
    reason = f"none of this test's models and batch sizes is served (--ts-batch-sizes={sizes})"
    return pytest.param(None, id="none", marks=[pytest.mark.skip(reason=reason), pytest.mark.cpu, pytest.mark.gpu])
