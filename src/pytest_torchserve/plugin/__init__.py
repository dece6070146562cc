"""The pytest plugin's entry point: options, our hook, and the question whether a session has any test of ours.

It is loaded into every pytest session of its environment. Until a test of ours is collected it imports nothing
heavy, starts nothing, and leaves options, comparisons and saved files of others alone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve._util.time_accounting import TimeAccounting
from pytest_torchserve.plugin import hookspec, option_table
from pytest_torchserve.plugin.fixtures import COMPARED_KEY, DESELECTED_KEY, RUN_FIXTURES, TIME_ACCOUNTING_KEY, is_ours

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

pytest_plugins = ("pytest_torchserve.plugin.fixtures",)

_MARKERS = (
    "ts_models(name, ...): measure only these models of the catalogue",
    "ts_budget(processes=…, cell_seconds=…, init_rounds=…): at most this much",
    "ts_batch_sizes(n, ...): measure only these of the batch sizes",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    option_table.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add our hook."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    """Read our options where any is given; a bad one is a usage error before anything starts."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[TIME_ACCOUNTING_KEY] = TimeAccounting()
    if option_table.given(config):
        from pytest_torchserve.plugin import options  # noqa: PLC0415 - only for those who use them

        options.of(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests that ask for a run or a device of ours."""
    if not {"ts_device", *RUN_FIXTURES}.isdisjoint(metafunc.fixturenames):
        from pytest_torchserve.plugin import matrix  # noqa: PLC0415 - only where a test of ours is

        matrix.generate(metafunc)


@contextlib.contextmanager
def _seen_as_benchmarks(items: Sequence[pytest.Item]) -> Iterator[None]:
    """Let pytest-benchmark take the tests that measure for benchmarks.

    It goes by the name `benchmark` among a test's fixtures, for --benchmark-only and --benchmark-skip. Ours ask for
    that fixture only when the figures are there; so the name is lent to them. Tests of one function share the list.
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
    """Let everybody else select and order; then bring tests of one deployment together."""
    with _seen_as_benchmarks(items):
        result = yield
    if any(map(is_ours, items)):
        from pytest_torchserve.plugin import ordering  # noqa: PLC0415 - only where a test of ours is

        ordering.arrange(config, items)
    return result


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember what nobody asked for: it cannot be missing from a comparison."""
    for item in items:
        item.config.stash.setdefault(DESELECTED_KEY, set()).add(item.nodeid)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take part in the session where it has a test of ours; start nothing."""
    if any(map(is_ours, session.items)):
        from pytest_torchserve.plugin import collection  # noqa: PLC0415 - only where a test of ours is

        collection.take_part(session)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(config: pytest.Config, compared_benchmark: dict[str, Any]) -> None:
    """Keep what a saved run of ours was made on, until it is known whether this session has a test of ours.

    pytest-benchmark asks before anything is collected. Our fields are taken out of what it looks at: this session has
    none yet, and pytest-benchmark would warn of that as of a difference.
    """
    from pytest_torchserve.report import history  # noqa: PLC0415 - only where saved runs are compared

    theirs = compared_benchmark["machine_info"]
    if not history.is_ours(theirs):
        return
    told = {"datetime": compared_benchmark.get("datetime", "then"), **theirs}
    config.stash.setdefault(COMPARED_KEY, []).append(told)
    for name in history.KEYS & theirs.keys():
        del theirs[name]
