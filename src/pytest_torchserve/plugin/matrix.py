"""The cells that the tests of the suite measure: model × device × batch size, as conftest.py and the options say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve.config import PACE_PER_S
from pytest_torchserve.deployment import DEVICES, UNKNOWN_BATCHING, Batching, Deployment
from pytest_torchserve.loadgen.arrivals import ConstantRate
from pytest_torchserve.measure import Cell
from pytest_torchserve.model import Model
from pytest_torchserve.plugin import options, own_archives
from pytest_torchserve.plugin.fixtures import MODELS_KEY, RUN_FIXTURES
from pytest_torchserve.torchserve import own_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_torchserve.config import Config
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.measure import CellKind

PACE = Batching(batch_size=16, max_batch_delay_ms=3000)
"""The classic setting: every 0.1 s a request, batches of 16, 3 s of delay."""

PACE_LOAD = ConstantRate(PACE_PER_S, 0.0).name
"""The name of the pace load."""

_MARKERS = (
    "cpu: runs on the CPU",
    "gpu: runs on a GPU; skipped with its reason where there is none",
    "capacity: searches for the highest rate that meets --ts-slo-ms; takes minutes",
)
"""Markers, registered only for tests of the suite: elsewhere the names may be other projects' markers."""

_REGISTERED_KEY: pytest.StashKey[bool] = pytest.StashKey()


def models(config: pytest.Config) -> tuple[Model, ...]:
    """Return the models that conftest.py names, or those of the given archives."""
    if MODELS_KEY not in config.stash and options.of(config).archives:
        config.stash[MODELS_KEY] = own_archives.models(config)
    if MODELS_KEY not in config.stash:
        others = own_archives.conftests_of_others(config)
        hook = config.pluginmanager.subset_hook_caller("pytest_torchserve_models", others)
        answers: list[Any] = hook(config=config)
        found = tuple(map(own_models.described, _entries(answers)))
        config.stash[MODELS_KEY] = own_archives.with_noop(found) if config.getoption("ts_suite") else found
    return config.stash[MODELS_KEY]


def _entries(answers: Iterable[Any]) -> list[Model]:
    """Return the entries that the hooks have returned.

    Raises:
        pytest.UsageError: a hook has returned something else.
    """
    found: list[Model] = []
    for answer in answers:
        entries = [answer] if isinstance(answer, Model) else answer
        if isinstance(entries, (str, bytes, dict)) or not isinstance(entries, Iterable):
            entries = [entries]
        for entry in entries:
            if not isinstance(entry, Model):
                raise pytest.UsageError(
                    "wanted: models, from pytest_torchserve_models in conftest.py\n"
                    f"found: {entry!r:.80}\n"
                    "what to do: return a list of pytest_torchserve.Model(…)"
                )
            found.append(entry)
    return found


def refuse_twins(config: pytest.Config) -> None:
    """Refuse two models of one name: both would show the figures of one.

    A name stands for one model in ids, in the store and on the server; upper and lower case are not distinguished.

    Raises:
        pytest.UsageError: two models share a name; the message names them.
    """
    by_name: dict[str, Model] = {}
    for model in models(config):
        other = by_name.get(model.name.casefold())
        by_name[model.name.casefold()] = model
        if other is not None:
            both = repr(other.name) if other.name == model.name else f"{other.name!r} and {model.name!r}"
            raise pytest.UsageError(
                "wanted: models of different names (pytest_torchserve_models in conftest.py)\n"
                f"found: two are called {both}: handlers {other.handler} and {model.handler}\n"
                "what to do: rename one of them, or list it once"
            )


def cells(kind: CellKind, fixture: str, config: pytest.Config, definition: pytest.Item) -> Iterator[Cell]:
    """Yield the cells of a kind that a test is to measure."""
    told = options.of(config)
    if told.attach is not None:
        yield from _attached(kind, fixture, config)
        return
    marker = definition.get_closest_marker("ts_models")
    for model in models(config):
        if not _measured(model, marker, fixture, config):
            continue
        for device in DEVICES:
            if device not in model.devices:
                continue
            deployments = [
                Deployment(model, device, batching) for batching in _batchings(fixture, model, told, definition)
            ]
            own = model.as_configured
            if own and own.device in (None, device) and fixture in ("ts_handle_run", "ts_load_run", "ts_stream_run"):
                deployments.append(Deployment(model, device, own.batching, configured=True))
            for deployment in deployments:
                for workers in _workers(fixture, deployment, told):
                    for schedule in _schedules(fixture, told):
                        yield Cell(kind, deployment, schedule, workers)


def _measured(model: Model, marker: pytest.Mark | None, fixture: str, config: pytest.Config) -> bool:
    """Return whether a test measures a model: one that its marker names, or that the user has named or given."""
    if fixture == "ts_pace_run" and not model.computes:
        return False
    if fixture == "ts_stream_run" and not model.streams:
        return False
    if own_archives.asked_for(config) and model.computes:
        return marker is None or fixture in ("ts_load_run", "ts_capacity_run")
    if marker is None:
        return not model.extra
    return model.name in marker.args or (fixture in ("ts_load_run", "ts_capacity_run") and named(model, config))


def named(model: Model, config: pytest.Config) -> bool:
    """Return whether `-k` names the model: a load takes long, and is measured on few models unless asked for."""
    words = re.findall(r"[^\s()]+", config.getoption("keyword", "") or "")
    return any(word.lower() in model.name.lower() for word in words if word not in ("and", "or", "not"))


def _batchings(fixture: str, model: Model, told: Config, definition: pytest.Item) -> tuple[Batching, ...]:
    """Return the batchings of a kind of cell."""
    if fixture == "ts_init_run":
        return (Batching(batch_size=1),)
    if fixture in ("ts_handle_run", "ts_stream_run"):
        sizes = definition.get_closest_marker("ts_batch_sizes")
        found = tuple(Batching(n) for n in told.batch_sizes if sizes is None or n in sizes.args)
    else:
        found = (PACE,) if fixture == "ts_pace_run" else told.batchings
    if model.one_at_a_time:
        return tuple(dict.fromkeys(replace(batching, batch_size=1) for batching in found))
    return found


def _workers(fixture: str, deployment: Deployment, told: Config) -> tuple[int, ...]:
    """Return the numbers of workers of a kind of cell; an archive that names its own number is served with that."""
    if fixture not in ("ts_load_run", "ts_capacity_run") or deployment.workers is not None:
        return (1,)
    return told.workers


def _schedules(fixture: str, told: Config) -> tuple[TimedSchedule | None, ...]:
    """Return the schedules of a kind of cell; None stands for a cell without traffic."""
    if fixture == "ts_pace_run":
        return (ConstantRate(PACE_PER_S, told.pace_seconds),)
    return told.schedules if fixture == "ts_load_run" else (None,)


def _attached(kind: CellKind, fixture: str, config: pytest.Config) -> Iterator[Cell]:
    """Yield the cells of an external server: only traffic, and only the one model there."""
    told = options.of(config)
    assert told.attach is not None  # noqa: S101 - the caller has checked
    name = told.attach.model
    unknown = Model(name=name)
    model = next((model for model in models(config) if model.name == name), unknown)
    deployment = Deployment(model, "unknown", UNKNOWN_BATCHING)
    if fixture == "ts_load_run":
        yield from (Cell(kind, deployment, schedule) for schedule in told.schedules)
    elif fixture == "ts_capacity_run":
        yield Cell(kind, deployment)


def generate(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test: model × device × batch size for the run fixtures, and devices for the rest."""
    _register_markers(metafunc.config)
    for fixture, kind in RUN_FIXTURES.items():
        if fixture in metafunc.fixturenames:
            parameters = [
                pytest.param(cell, id=cell.id, marks=_marks(cell))
                for cell in cells(kind, fixture, metafunc.config, metafunc.definition)
            ] or [_nothing_to_measure(metafunc.config)]
            metafunc.parametrize(fixture, parameters, indirect=True)
    if "ts_device" in metafunc.fixturenames:
        parameters = [pytest.param(device, id=device, marks=getattr(pytest.mark, device)) for device in DEVICES]
        metafunc.parametrize("ts_device", parameters, indirect=True)


def _register_markers(config: pytest.Config) -> None:
    """Register the suite's markers, except those that the project has registered itself."""
    if config.stash.setdefault(_REGISTERED_KEY, False):
        return
    config.stash[_REGISTERED_KEY] = True
    known = {line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")}
    for marker in _MARKERS:
        if marker.partition(":")[0] not in known:
            config.addinivalue_line("markers", marker)


def _marks(cell: Cell) -> list[pytest.MarkDecorator]:
    """Return the marker of the cell's device; for a capacity cell, `capacity` instead.

    A capacity search takes minutes, and is part of neither device's usual run.
    """
    if cell.kind == "capacity":
        return [pytest.mark.capacity]
    return [getattr(pytest.mark, cell.deployment.device)] if cell.deployment.device in DEVICES else []


def _nothing_to_measure(config: pytest.Config) -> Any:
    """Return the parameter of a test without a cell: the test is skipped, and says why."""
    sizes = ",".join(map(str, options.of(config).batch_sizes))
    reason = f"none of this test's models and batch sizes is served (--ts-batch-sizes={sizes})"
    if not config.stash[MODELS_KEY]:
        reason = "no models: no conftest.py here has a function pytest_torchserve_models(config) that returns any"
    return pytest.param(None, id="none", marks=[pytest.mark.skip(reason=reason), pytest.mark.cpu, pytest.mark.gpu])
