"""The setup of a session that has tests of the suite: checks before the start, and the cells to expect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve import environment
from pytest_torchserve._util.progress import Progress
from pytest_torchserve._util.time_accounting import Activity
from pytest_torchserve.compare import verdict
from pytest_torchserve.compare.past import earlier
from pytest_torchserve.compare.plan import Plan
from pytest_torchserve.config import Config, Expected
from pytest_torchserve.errors import InputError, OptionError
from pytest_torchserve.plugin import options, own_archives, terminal
from pytest_torchserve.plugin.fixtures import (
    COMPARED_KEY,
    NARROWED_KEY,
    PLAN_KEY,
    SESSION_KEY,
    TIME_ACCOUNTING_KEY,
    is_ours,
)
from pytest_torchserve.plugin.matrix import refuse_twins
from pytest_torchserve.plugin.ordering import cell_of
from pytest_torchserve.report import history
from pytest_torchserve.session.comparisons import why_alone
from pytest_torchserve.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_torchserve.measure import Cell


def take_part(session: pytest.Session) -> None:
    """Collect the cells to expect, refuse what cannot be measured, and register the end of the session.

    Raises:
        pytest.UsageError: an option, the environment or the saved run to compare with cannot be used.
    """
    config = session.config
    refuse_twins(config)
    if config.option.collectonly:
        return
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(_Refusal(), "torchserve-refusal")
        return
    _refuse_unstored(session)
    wanted = [cell for cell in map(cell_of, session.items) if cell is not None]
    runnable = [cell for cell in dict.fromkeys(wanted) if cell.deployment.device != "gpu" or environment.gpus()[0]]
    recovery = options.recovered(config)
    if options.skips(config) or recovery is not None:
        runnable = []
    others = recovery is None and any(is_ours(item) and cell_of(item) is None for item in session.items)
    compares = any(not why_alone(cell, options.of(config)) for cell in runnable)
    try:
        told = options.complete(config, measures=bool(runnable) or others, compares=compares)
    except (OptionError, InputError) as error:
        raise pytest.UsageError(str(error)) from error
    _refuse_unlike(config)
    if runnable:
        _refuse_absent(config)
    config.stash[NARROWED_KEY] = _narrowed(config)
    expected = Expected(cells=len(runnable))
    for cell in wanted:
        expected.deployments[cell.deployment.name] += 1
    for cell in runnable if told.attach is None else ():
        deployment = cell.deployment
        expected.models[deployment.model.name] = deployment.model
        expected.archived[deployment.model.name, deployment.device] = deployment
    if told.baseline is not None and told.baseline_minutes is not None:
        expected.plan = config.stash[PLAN_KEY] = _plan(told, runnable)
    own_archives.tell_faults(config, expected.models.values())
    config.stash[TIME_ACCOUNTING_KEY].book_start(Activity.COLLECTING)
    config.stash[SESSION_KEY] = Session(
        told,
        expected,
        _progress(config, expected.cells),
        config.stash[TIME_ACCOUNTING_KEY],
        recovery.run if recovery else None,
    )
    lost = recovery.without_test(wanted) if recovery is not None else []
    if lost:
        notice = f"not recovered, for no selected test measures them: {', '.join(lost)}"
        config.stash[SESSION_KEY].notices.append(notice)
    config.pluginmanager.register(terminal, "torchserve-terminal")


def _plan(told: Config, cells: Iterable[Cell]) -> Plan:
    """Return the plan of a session's comparisons: the time for all of them, and what earlier ones say of each."""
    assert told.baseline_minutes is not None  # noqa: S101 - the caller has checked
    compared = [cell for cell in cells if not why_alone(cell, told)]
    planned = [f"{cell.kind} {cell.id}" for cell in compared if cell.kind != "capacity"]
    past = earlier(told.journal.parent, planned) if told.journal else dict.fromkeys(planned)
    error = verdict.error_of(sum(verdict.MOST_GATING[cell.kind] for cell in compared))
    return Plan(60 * told.baseline_minutes, past, told.rules.min_effect, error)


class _Refusal:
    """A plugin of pytest-xdist's workers: fails each test of the suite before anything is started for the test.

    pytest-xdist would report a worker's usage error as a crash; and only the selected tests may be refused.
    """

    # Not `tryfirst`: a test that is skipped anyway stays skipped.
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail a test of the suite."""
        if is_ours(item):
            pytest.fail(
                "wanted: tests that measure, in one process\n"
                f"found: pytest-xdist's worker {os.environ.get('PYTEST_XDIST_WORKER')}\n"
                "what to do: leave -n out (-n0), or deselect them",
                pytrace=False,
            )


def _refuse_unstored(session: pytest.Session) -> None:
    """Refuse to measure for minutes what pytest-benchmark will not store, unless --benchmark-disable is given."""
    config = session.config
    if not any("ts_store" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    benchmarks: Any = getattr(config, "_benchmarksession", None)
    if benchmarks is None:
        found, remedy = "it is switched off (-p no:benchmark) or not installed", "leave that out"
    elif benchmarks.disabled and not options.checks_only(config):
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        why = f"PYTEST_XDIST_WORKER={worker} is set" if worker else "pytest-xdist is asked to distribute tests (--dist)"
        found = f"it has disabled itself: {why}"
        remedy = "leave that out; or say --benchmark-disable, to check and to store nothing"
    else:
        return
    raise pytest.UsageError(f"wanted: pytest-benchmark, which stores the figures\nfound: {found}\nwhat to do: {remedy}")


def _refuse_unlike(config: pytest.Config) -> None:
    """Refuse, before anything is started, to compare runs that were measured under different conditions."""
    compared = config.stash.get(COMPARED_KEY, [])
    if not compared or config.getoption("ts_compare_across") or options.stores_nothing(config):
        return
    mine = options.of(config).machine_info()
    for theirs in compared:
        differing = history.differences(mine, theirs)
        if differing:
            raise pytest.UsageError(
                "wanted: a saved run of this environment to compare with (--benchmark-compare)\n"
                f"found: that of {theirs['datetime']} is of another: {'; '.join(differing)}\n"
                "what to do: name another saved run, or say --ts-compare-across"
            )


def _refuse_absent(config: pytest.Config) -> None:
    """Refuse to measure for minutes against a saved run that is named and not there.

    pytest-benchmark warns of it and passes. Without a name, the first run of all has nothing to compare with yet.
    """
    named: Any = config.getoption("benchmark_compare", default=None)
    session: Any = getattr(config, "_benchmarksession", None)
    if not isinstance(named, str) or session is None or session.compared_mapping or options.stores_nothing(config):
        return
    there = sorted(Path(path).name for path in session.storage.query())
    remedy = "save one first (--benchmark-autosave), or name its folder (--benchmark-storage)"
    if there:
        remedy = "name one of these by its number, or leave the name out: the latest is then meant"
    raise pytest.UsageError(
        f"wanted: a saved run that --benchmark-compare={named} names\n"
        f"found: {', '.join(there[-5:]) or 'no saved run'} in {session.storage}\n"
        f"what to do: {remedy}"
    )


def _narrowed(config: pytest.Config) -> bool:
    """Return whether --lf or --stepwise selects tests of an earlier session: a test that is gone cannot be among them.

    Without an earlier failure either runs everything.
    """
    cache = getattr(config, "cache", None)
    if cache is None:
        return False
    failed = config.getoption("lf", default=False) and cache.get("cache/lastfailed", None)
    stepwise = cache.get("cache/stepwise", None) if config.getoption("stepwise", default=False) else None
    last = stepwise.get("last_failed") if isinstance(stepwise, dict) else stepwise
    return bool(failed or last)


def _progress(config: pytest.Config, cells: int) -> Progress:
    """Return the progress line, which shows the cell being measured, where pytest writes."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")

    def write(text: str) -> None:
        if reporter is None or config.option.verbose < 0:
            return
        with capture.global_and_fixture_disabled():
            reporter._tw._file.write(text)  # noqa: SLF001 - pytest has no public way to write a partial line
            reporter._tw._file.flush()  # noqa: SLF001

    width = reporter._tw.fullwidth if reporter is not None and reporter.isatty else 0  # noqa: SLF001

    def column() -> int:
        return reporter._tw.width_of_current_line if reporter is not None else 0  # noqa: SLF001

    return Progress(write, width=width, total=cells, column=column)
