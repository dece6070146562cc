"""The end of a session that has tests of the suite: verdicts, comparison with saved runs, report and summary.

Registered as a plugin only in such a session; elsewhere none of these hooks exists.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve.errors import SuiteError
from pytest_torchserve.plugin import benchmark, failures, missing, options
from pytest_torchserve.plugin.fixtures import SESSION_KEY, is_ours
from pytest_torchserve.report import history
from pytest_torchserve.report.terminal import summary, traffic_tables, verdict_tables

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_torchserve.session.session import Session

COMPARED_LINES_KEY: pytest.StashKey[list[str]] = pytest.StashKey()
FAILED_KEY: pytest.StashKey[set[str]] = pytest.StashKey()
ENDED_KEY: pytest.StashKey[dict[str, bool]] = pytest.StashKey()
"""The tests that have ended, and whether each has failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Keep a failing test's entry from being stored, and show the end of the server's log where it may help."""
    with_log = failures.shorten(item, call)
    report = yield
    failed = item.config.stash.setdefault(FAILED_KEY, set())
    if report.failed:
        failed.add(item.nodeid)
    if report.when == "teardown":  # a test's last report, which an interrupted test lacks
        item.config.stash.setdefault(ENDED_KEY, {})[item.nodeid] = item.nodeid in failed
    if not report.passed:
        benchmark.forget(item)
    if is_ours(item):
        failures.place_skip(item, report)
    if report.failed and with_log and "ts_session" in getattr(item, "fixturenames", ()):
        session = item.config.stash[SESSION_KEY]
        server = session.deployments.server
        if server is not None:
            report.sections.append((f"TorchServe log (kept in {server.folder})", server.log_tail()))
    return report


@pytest.hookimpl(tryfirst=True, wrapper=True)  # before pytest-benchmark's wrapper, which saves and compares
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Stop everything, compute the verdicts, let pytest-benchmark save, and write the report."""
    config = session.config
    ours = config.stash[SESSION_KEY]
    lines = benchmark.set_aside_invalid(config, ours.runs.values())
    absent = missing.lines(session, config.stash.get(ENDED_KEY, {}))
    config.stash[COMPARED_LINES_KEY] = lines + absent
    ours.close(failed=session.testsfailed > 0)
    ours.comparisons.compute_verdicts(ours.runs.values())
    benchmark.add_verdicts(config, ours.comparisons.results)
    fails = ours.comparisons.fails or any(line.startswith("missing: ") for line in absent)
    fails |= ours.config.checks_only and any(run.errors for run in ours.runs.values())
    if fails and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    result = yield
    if ours.runs and ours.config.report is not None:
        told = _report(ours, config)
        reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:  # the summary has been written already
            reporter.write_line(told)
    return result


def _report(session: Session, config: pytest.Config) -> str:
    """Write the report, and return a line that names the page or the error.

    All results are saved before: an error in the report does not affect them.
    """
    from pytest_torchserve.report import reader  # noqa: PLC0415 - only for those who want a report
    from pytest_torchserve.report.html.page import write as write_page  # noqa: PLC0415 - for its matplotlib

    assert session.config.report is not None  # noqa: S101 - the caller has checked
    recovery = options.recovered(config)
    journal = recovery.path if recovery is not None else session.journal.path
    if journal is None:
        return "no report: --benchmark-disable measures nothing"
    try:
        document = reader.read([journal])
        if recovery is not None:  # a session that did not end has told no verdicts
            document.verdicts = [asdict(one) for one in session.comparisons.results]
        document.history = history.load(benchmark.saved_files(config), document.environment, document.runs)
        page = write_page(document, session.config.report)
    except SuiteError as error:
        return f"no report: {error}"
    except Exception as error:  # noqa: BLE001 - all is measured and saved: a chart must not make it an internal error
        return f"no report: {type(error).__name__}: {error}"
    return f"report: {page}"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_group_stats(config: pytest.Config, benchmarks: list[dict[str, Any]]) -> list[Any] | None:
    """Hide pytest-benchmark's own table, unless --benchmark-compare or --benchmark-verbose is given.

    The suite's tables say more in less room.
    """
    return [] if benchmark.only_ours(config, benchmarks) else None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the fields that make two runs comparable to a saved file that holds an entry of the suite."""
    if benchmark.stored_any(config):
        machine_info.update(options.of(config).machine_info())


@pytest.hookimpl(tryfirst=True)  # pytest-benchmark's summary may end in a PerformanceRegression
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the tables, the verdicts, the notices, and the accounting of the wall-clock time."""
    session = config.stash[SESSION_KEY]
    lines = [*config.stash.setdefault(COMPARED_LINES_KEY, [])]
    if session.deployments.server is not None or session.runs or benchmark.stored_any(config):
        terminalreporter.section("torchserve")
        width = terminalreporter._tw.fullwidth if terminalreporter.isatty else None  # noqa: SLF001 - pytest's own writer
        lines += _checked(session) if session.config.checks_only else _measured(config, session, width)
        lines += [f"notice: {notice}" for notice in dict.fromkeys(session.notices)]
        if session.journal.path is not None:
            lines.append(f"every run, with raw samples: {session.journal.path}")
        lines.append(session.accounting.line())
    for line in lines:
        terminalreporter.write_line(line)


def _checked(session: Session) -> list[str]:
    """Return the lines under --benchmark-disable: no figures, since the runs are too short to measure."""
    runs = session.runs.values()
    bad = [run for run in runs if run.wrong or run.errors]
    told = f"--benchmark-disable: {len(runs) - len(bad)} of {len(runs)} cells answered rightly; nothing is stored"
    return [told, *traffic_tables.stamp_lines(bad)]


def _measured(config: pytest.Config, session: Session, width: int | None) -> list[str]:
    """Return the lines of tables and verdicts, for all runs that were measured or stored."""
    runs = list(session.runs.values())
    shown = set(map(id, runs))
    runs += [run for run in config.stash.get(benchmark.STORED_KEY, []) if id(run) not in shown]
    found = summary.lines(runs, width=width)
    told = session.config
    if told.baseline_named is not None:
        baseline = told.baseline.words if told.baseline is not None else told.baseline_named
        found += verdict_tables.lines(
            session.comparisons.results, session.comparisons.uncompared, told.rules, baseline, width=width
        )
    return found
