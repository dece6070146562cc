"""`--ts-mar` and `--ts-suite`: the installed suite measures the user's own archives, or those of a conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve import suite
from pytest_torchserve.errors import OptionError
from pytest_torchserve.plugin import options
from pytest_torchserve.torchserve import own_models

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_torchserve.model import Model

_COLUMNS = ["median", "iqr", "min", "max", "rounds"]


def take_over(config: pytest.Config) -> None:
    """Collect the suite alone where no path is given, and report as the suite's own repository does.

    Call this before pytest-benchmark reads its options.
    """
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(path) for path in suite.files()]
    else:
        config.args = [_typed(config, argument) for argument in config.args]
    option = config.option
    if option.reportchars == "fE":  # pytest's default: reasons of skipped phases would not be shown
        option.reportchars = "fEsx"
    option.benchmark_save_data = True
    if "--benchmark-columns" not in " ".join(config.invocation_params.args):
        option.benchmark_columns = _COLUMNS


def _typed(config: pytest.Config, argument: str) -> str:
    """Return an argument; a node id of the suite, as printed, leads to the installed file."""
    file, within, rest = argument.partition("::")
    place = suite.place(file)
    return argument if place is None or (config.invocation_params.dir / file).exists() else f"{place}{within}{rest}"


def asked_for(config: pytest.Config) -> bool:
    """Return whether the suite of the installed package is collected."""
    return bool(config.getoption("ts_mar") or config.getoption("ts_suite"))


def conftests_of_others(config: pytest.Config) -> list[object]:
    """Return each conftest.py that was loaded only because the suite's files lie below it: its models are not served.

    It is that of a checkout, or of a project whose environment the suite is installed in, while the user is elsewhere.
    """
    if not asked_for(config):
        return []
    here = config.invocation_params.dir
    elsewhere = {str(folder / "conftest.py") for folder in suite.FOLDER.parents if not here.is_relative_to(folder)}
    plugins = config.pluginmanager.get_plugins()
    return [plugin for plugin in plugins if getattr(plugin, "__file__", None) in elsewhere]


def with_noop(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Return the models of a conftest.py, and noop, which the suite's tests of batching and workers need."""
    return models if any(model.name == suite.NOOP.name for model in models) else (suite.NOOP, *models)


def models(config: pytest.Config) -> tuple[Model, ...]:
    """Return the models of the given archives, and noop.

    Raises:
        pytest.UsageError: two models have one name.
    """
    told = options.of(config)
    try:
        found = own_models.models(told.archives, told.samples, told.tolerance)
    except OptionError as error:
        raise pytest.UsageError(str(error)) from error
    own = next((model for model in found if model.name.casefold() == suite.NOOP.name), None)
    if own is not None:
        raise pytest.UsageError(
            f"wanted: archives (--ts-mar) of another name than {suite.NOOP.name}\nfound: {own.mar}\n"
            "what to do: rename the file: the suite measures a model of that name beside yours"
        )
    return (suite.NOOP, *found)


def make_module(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Return the collector of a file of the suite, under the node id that it has everywhere; None for another file."""
    nodeid = suite.nodeid(module_path)
    return pytest.Module.from_parent(parent, path=module_path, nodeid=nodeid) if nodeid else None


def tell_faults(config: pytest.Config, models: Iterable[Model]) -> None:
    """Write at once which models cannot be served, and why; their tests will fail, and the others are measured."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    for model in models:
        error = own_models.fault(model)
        if error is not None and reporter is not None:
            reporter.write_line(f"{model.name} cannot be measured:\n{error}")
