"""A session's end: verdicts, what history says, the report, and the last words."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve import closing, history, record, verdict_tables
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.fixtures import SESSION_KEY
from pytest_torchserve.matrix import CONFIG_KEY, PACE_LOAD

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from pytest_torchserve.session import Session

INCONCLUSIVE_KEY: pytest.StashKey[list[str]] = pytest.StashKey()
DESELECTED_KEY: pytest.StashKey[set[str]] = pytest.StashKey()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Refuse, before anything is started, to compare what was measured under different conditions."""
    theirs = compared_benchmark["machine_info"]
    if config.getoption("ts_compare_across") or not history.is_ours(theirs):
        return
    differing = history.differences(machine_info, theirs)
    if differing:
        raise pytest.UsageError(
            "wanted: a saved run of this environment to compare with (--benchmark-compare)\n"
            f"found: that of {compared_benchmark.get('datetime', 'then')} is of another: {'; '.join(differing)}\n"
            "what to do: name another saved run, or say --ts-compare-across"
        )


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember what nobody asked for: it cannot be missing."""
    for item in items:
        item.config.stash.setdefault(DESELECTED_KEY, set()).add(item.nodeid)


def asked_for(config: pytest.Config, nodeid: str, cell: Mapping[str, Any]) -> bool:
    """Whether a test was to run: it lies where the session looked, was not deselected, and its cell was wanted.

    Args:
        cell: what the saved entry says of it.
    """
    told = config.stash[CONFIG_KEY]
    unwanted = cell.get("kind") == "handle" and cell.get("batch_size") not in told.batch_sizes
    unwanted |= bool(cell.get("load")) and cell["load"] not in {PACE_LOAD, *(load.name for load in told.loads)}
    if unwanted or nodeid in config.stash.get(DESELECTED_KEY, set()):
        return False
    file, _, rest = nodeid.partition("::")
    place = config.rootpath / file
    for argument in config.args:
        path, _, within = str(argument).partition("::")
        if place.is_relative_to(config.invocation_params.dir / path) and rest.startswith(within):
            return True
    return False


@pytest.hookimpl(tryfirst=True, wrapper=True)  # before pytest-benchmark's wrapper, which saves and compares
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Stop everything, judge, let pytest-benchmark save, and write the report."""
    config = session.config
    ours = config.stash.get(SESSION_KEY, None)
    lines = record.set_aside_invalid(config, ours.runs.values() if ours is not None else ())
    missing = record.absent(config, functools.partial(asked_for, config)) if ours is not None else []
    lines += [f"missing: {words}" for words in missing]
    lines += ["the session fails: cells that were there are missing"] if missing else []
    config.stash[INCONCLUSIVE_KEY] = lines
    fails = bool(missing)
    if ours is not None:
        ours.close(failed=session.testsfailed > 0)
        ours.conclude()
        record.add_verdicts(config, ours.comparisons)
        fails |= ours.fails
    if fails and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    result = yield
    if ours is not None and ours.runs and ours.config.report is not None:
        told = _report(ours, config)
        reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:  # its summary has been written already
            reporter.write_line(told)
    return result


def _report(session: Session, config: pytest.Config) -> str:
    """The report is the last thing, when all is saved: what goes wrong with it is said, and spoils nothing."""
    from pytest_torchserve import report  # noqa: PLC0415 - matplotlib is only for those who want a report

    assert session.config.report is not None  # noqa: S101 - the caller has asked
    try:
        document = report.read([session.journal.path])
        document.history = history.load(record.saved_files(config), document.environment)
        page = report.write(document, session.config.report)
    except SuiteError as error:
        return f"no report: {error}"
    except Exception as error:  # noqa: BLE001 - all is measured and saved: a picture must not make it an internal error
        return f"no report: {type(error).__name__}: {error}"
    return f"report: {page}"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_group_stats(config: pytest.Config, benchmarks: list[dict[str, Any]]) -> list[Any] | None:
    """Our tables say more in less room: pytest-benchmark's own comes with --benchmark-compare or -verbose."""
    return [] if record.only_ours(config, benchmarks) else None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """What makes two runs comparable goes into every saved file."""
    machine_info.update(config.stash[CONFIG_KEY].machine_info())


@pytest.hookimpl(tryfirst=True)  # pytest-benchmark's may end in a PerformanceRegression
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The tables, the verdicts, the notices, and where the wall-clock went."""
    for line in config.stash.get(INCONCLUSIVE_KEY, []):
        terminalreporter.write_line(line)
    session = config.stash.get(SESSION_KEY, None)
    if session is None or (session.server is None and not session.runs):
        return
    width = terminalreporter._tw.fullwidth  # noqa: SLF001 - what pytest itself writes to
    terminalreporter.section("torchserve")
    for line in closing.lines(list(session.runs.values()), width=width):
        terminalreporter.write_line(line)
    told = session.config.baseline
    if told is not None:
        found = verdict_tables.lines(
            session.comparisons, session.uncompared, session.config.rules, told.words, width=width
        )
        for line in found:
            terminalreporter.write_line(line)
    for notice in dict.fromkeys(session.notices):
        terminalreporter.write_line(f"notice: {notice}")
    terminalreporter.write_line(f"every run, with raw samples: {session.journal.path}")
    terminalreporter.write_line(session.ledger.line())
