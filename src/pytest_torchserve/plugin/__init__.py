"""The pytest plugin's entry point: options, the suite's hook, and the check whether a session has tests of the suite.

The plugin is loaded into every pytest session of its environment. Until a test of the suite is collected, the plugin
imports nothing heavy, starts nothing, and leaves options, comparisons and saved files of others alone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve._util.time_accounting import TimeAccounting
from pytest_torchserve.plugin import fixtures, hookspec, option_table
from pytest_torchserve.plugin.fixtures import COMPARED_KEY, DESELECTED_KEY, RUN_FIXTURES, TIME_ACCOUNTING_KEY, is_ours

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

_MARKERS = (
    "ts_models(name, ..., quick=True): measure only these models of the catalogue; under --ts-quick only if `quick`",
    "ts_budget(processes=…, cell_seconds=…, init_rounds=…): at most this much",
    "ts_batch_sizes(n, ...): measure only these of the batch sizes",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    option_table.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the suite's hook, and its fixtures."""
    pluginmanager.add_hookspecs(hookspec)
    # Registered, not named in `pytest_plugins`: the module is imported here already, and pytest would warn of that.
    pluginmanager.register(fixtures, "torchserve-fixtures")


def pytest_configure(config: pytest.Config) -> None:
    """Read the suite's options where any is given; a bad value is a usage error before anything starts."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[TIME_ACCOUNTING_KEY] = TimeAccounting()
    if option_table.given(config):
        from pytest_torchserve.plugin import options  # noqa: PLC0415 - only where they are used

        if options.of(config).archives or config.getoption("ts_suite"):
            from pytest_torchserve.plugin import own_archives  # noqa: PLC0415 - likewise

            own_archives.take_over(config)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect a file of the suite that lies in the installed package; every other file is pytest's."""
    if not (parent.config.getoption("ts_mar") or parent.config.getoption("ts_suite")):
        return None
    from pytest_torchserve.plugin import own_archives  # noqa: PLC0415 - only where it is used

    return own_archives.make_module(module_path, parent)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests that request a run fixture or `ts_device`."""
    if not {"ts_device", *RUN_FIXTURES}.isdisjoint(metafunc.fixturenames):
        from pytest_torchserve.plugin import matrix  # noqa: PLC0415 - only for tests of the suite

        matrix.generate(metafunc)


@contextlib.contextmanager
def _seen_as_benchmarks(items: Sequence[pytest.Item]) -> Iterator[None]:
    """Let pytest-benchmark treat the tests that measure as benchmarks.

    For --benchmark-only and --benchmark-skip, pytest-benchmark looks for the name `benchmark` among a test's fixtures.
    The suite's tests request that fixture only when the figures are there; so the name is added to the list meanwhile.
    Tests of one function share the list.
    """
    asking = {"ts_store", *RUN_FIXTURES}
    measuring = (item for item in items if not asking.isdisjoint(getattr(item, "fixturenames", ())))
    lists: dict[int, list[str]] = {id(item.fixturenames): item.fixturenames for item in measuring}  # type: ignore[attr-defined]
    lent = [names for names in lists.values() if "benchmark" not in names]
    for names in lent:
        names.append("benchmark")
    try:
        yield
    finally:
        for names in lent:
            names.remove("benchmark")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Let other plugins select and order; then bring tests of one deployment together."""
    with _seen_as_benchmarks(items):
        result = yield
    if any(map(is_ours, items)):
        from pytest_torchserve.plugin import ordering  # noqa: PLC0415 - only for tests of the suite

        ordering.arrange(config, items)
    return result


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Say what will take minutes, before it begins."""
    if not any(map(is_ours, items)):
        return []
    from pytest_torchserve.plugin import ordering  # noqa: PLC0415 - only for tests of the suite

    return ordering.announcement(config, items)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember the deselected tests: they cannot be missing from a comparison."""
    for item in items:
        item.config.stash.setdefault(DESELECTED_KEY, set()).add(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Take part in a session that has a test of the suite; start nothing.

    Before the terminal reporter says what was collected: it asks for the plan of the comparisons then.
    """
    if any(map(is_ours, session.items)):
        from pytest_torchserve.plugin import collection  # noqa: PLC0415 - only for tests of the suite

        collection.take_part(session)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(config: pytest.Config, compared_benchmark: dict[str, Any]) -> None:
    """Keep the environment of a saved run of the suite, until it is known whether this session has a test of the suite.

    pytest-benchmark calls this hook before anything is collected. The suite's fields are removed from the saved
    `machine_info`: this session has none yet, and pytest-benchmark would warn of that as of a difference.
    """
    from pytest_torchserve.report import history  # noqa: PLC0415 - only where saved runs are compared

    theirs = compared_benchmark["machine_info"]
    if not history.is_ours(theirs):
        return
    told = {"datetime": compared_benchmark.get("datetime", "then"), **theirs}
    config.stash.setdefault(COMPARED_KEY, []).append(told)
    for name in history.OUR_KEYS & theirs.keys():
        del theirs[name]
