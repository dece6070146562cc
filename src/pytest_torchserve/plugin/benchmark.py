"""Runs as entries of pytest-benchmark: one phase, one test, one stable name.

Only this module writes pytest-benchmark's entries.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve import stats
from pytest_torchserve.phase import ABSENCES
from pytest_torchserve.plugin import failures
from pytest_torchserve.report import history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_torchserve.compare.comparison import Comparison
    from pytest_torchserve.measure import Run
    from pytest_torchserve.phase import Phase

_BENCHMARK: pytest.StashKey[Any] = pytest.StashKey()


STORED_KEY: pytest.StashKey[list[Run]] = pytest.StashKey()
"""The runs of which an entry was stored, each once."""


class VirtualClock:
    """A timer that only its target advances: pytest-benchmark, timing the target, reads the measured samples."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self._left = iter(seconds)
        self._now = 0.0
        self.__name__ = "measured_elsewhere"

    def __call__(self) -> float:
        """Return the virtual time."""
        return self._now

    def advance(self) -> None:
        """Advance the time by the next sample: the target that pytest-benchmark times."""
        self._now += next(self._left, 0.0)


_PERCENTILES = (0.5, 0.9, 0.99)

_NOT_IN_ENTRIES = ("seconds", "failed", "schedule")
"""Parts of a run that stand in the journal only: pytest-benchmark itself holds the samples."""


def extra_info(run: Run, phase: Phase) -> dict[str, Any]:
    """Return an entry's fields besides the statistics: the run, with the figures of this phase."""
    values, by_process = run.pooled(phase), run.seconds[phase]
    found = run.as_dict(samples=False)
    for name in _NOT_IN_ENTRIES:
        del found[name]
    if run.paired is not None:
        found["paired"]["pairs"] = {phase.value: run.paired.pairs.get(phase, {})}
    return found | {
        "phase": phase.value,
        "n": len(values),
        **{f"p{100 * p:g}_s": value for p, value in _percentiles(run, values).items()},
        "processes": len(by_process),
        # The samples are saved process after process: this many of each.
        "process_samples": {str(process): len(of_it) for process, of_it in by_process.items()},
        "process_spread": run.process_spread.get(phase),
        "precision": run.precision.get(phase),
        "wrong": len(run.wrong),
    }


def _percentiles(run: Run, values: Sequence[float]) -> dict[float, float | None]:
    """Return p50, p90 and p99; under traffic only those that its dependent requests support."""
    if run.traffic is not None:
        shown = {quantile.p: quantile.value for quantile in run.traffic.latency}
        return {p: shown.get(p) for p in _PERCENTILES}
    return {p: stats.percentile(values, p) for p in _PERCENTILES}


def params(extra: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str | float]:
    """Return an entry's parameters in words, for `--benchmark-group-by=param:NAME` and pytest-benchmark's CSV.

    Every entry has every name: pytest-benchmark stops at an entry that lacks the one it groups by.

    Args:
        extra: the entry's extra_info.
        others: the test's own parameters; those that are objects are left out.
    """
    kind, names = extra["kind"], ("kind", "model", "device", "batch_size", "max_batch_delay_ms", "load", "phase")
    apart = {"init": ("batch_size", "max_batch_delay_ms"), "handle": ("max_batch_delay_ms",)}.get(kind, ())
    found = {name: value for name, value in others.items() if isinstance(value, (str, int, float))}
    found |= {name: "none" if name in apart or extra[name] is None else extra[name] for name in names}
    return found | {"workers": extra["workers"] if kind in ("load", "capacity") else 1}


def replay(request: pytest.FixtureRequest, run: Run, phase: Phase) -> None:
    """Store a phase's samples as this test's benchmark.

    The virtual clock goes in through the public `timer` option, whose marker must stand before the
    fixture is made; hence the fixture is requested here and not in a test's signature.
    """
    values = run.pooled(phase)
    if phase in ABSENCES and run.seconds and not run.wrong and not values:
        pytest.skip(ABSENCES[phase])
    if run.wrong or not values:
        why = "".join(f"\n{reason}" for reason in (*run.wrong, *run.failed)[:3])
        # The stamp has the full count; the list of wrong answers is cut off at some length.
        counted = "; ".join(run.invalid) or f"{len(run.wrong)} wrong answers"
        # Wrong answers spoil every phase alike: one message for all of them.
        counted += "" if run.wrong else f", {len(values)} samples of {phase}"
        failures.fail(f"{run.cell.kind} {run.cell.id}: not recorded: {counted}{why}")
    stored = request.config.stash.setdefault(STORED_KEY, [])
    if not any(run is other for other in stored):
        stored.append(run)
    clock = VirtualClock(values)
    request.node.add_marker(pytest.mark.benchmark(timer=clock, group=f"{run.cell.kind} {run.cell.id}"))
    benchmark = request.getfixturevalue("benchmark")
    request.node.stash[_BENCHMARK] = benchmark
    callspec = getattr(request.node, "callspec", None)
    extra = extra_info(run, phase)
    benchmark.params = params(extra, callspec.params if callspec else {})
    benchmark.extra_info.update(extra)
    benchmark.pedantic(clock.advance, rounds=len(values))


def forget(item: pytest.Item) -> None:
    """Keep a failed test's timings out of the saved file: pytest-benchmark itself would store them."""
    benchmark = item.stash.get(_BENCHMARK, None)
    if benchmark is not None:
        benchmark.has_error = True


def set_aside_invalid(config: pytest.Config, runs: Iterable[Run] = ()) -> list[str]:
    """Remove entries that are INVALID, then or now, from pytest-benchmark's comparison: they are inconclusive.

    The figures of an INVALID entry stay saved and shown, but are not used as a baseline or compared with one.

    Args:
        runs: this session's runs; a run without a single right answer stored no entry, which is not missing either.

    Returns:
        The entries that were not compared, in words.
    """
    session: Any = getattr(config, "_benchmarksession", None)
    if session is None or not session.compared_mapping:
        return []
    mappings = session.compared_mapping
    now = {bench.fullname for bench in session.benchmarks if bench and _invalid(bench)}
    cells = {(run.cell.kind, run.cell.id) for run in runs if run.invalid or run.wrong}
    entries_now = {one.fullname: one.extra_info or {} for one in session.benchmarks if one}
    lines = history.set_aside_unlike(mappings, entries_now, across=config.getoption("ts_compare_across"))
    for path, entries in mappings.items():
        for name, entry in list(entries.items()):
            extra = history.extra_of(entry)
            if not history.is_entry(extra):
                continue
            bad_now = name in now or (extra.get("kind"), extra.get("cell")) in cells
            if bad_now or _invalid(entry):
                which = "this run is" if bad_now else f"{Path(path).name} is"
                lines.append(f"inconclusive, not compared: {name}: {which} INVALID")
                del entries[name]
    return lines


def add_verdicts(config: pytest.Config, comparisons: Sequence[Comparison]) -> None:
    """Add the verdict to every entry before it is saved: verdicts are computed at the end of the session."""
    session: Any = getattr(config, "_benchmarksession", None)
    by_name = {(one.cell, one.metric.value): one for one in comparisons}
    for bench in session.benchmarks if session is not None else ():
        extra = (bench and bench.extra_info) or {}
        cell = f"{extra.get('kind')} {extra.get('cell')}"
        found = by_name.get((cell, str(extra.get("phase"))))
        if found is not None:
            extra["verdict"] = asdict(found)
        if extra.get("kind") in ("load", "capacity"):
            extra["verdicts"] = [asdict(one) for one in comparisons if one.cell == cell]


def without_counterpart(config: pytest.Config) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each entry of the suite in the compared saved runs that has no counterpart in this session.

    Yields:
        the entry's name, its file's name, and its extra_info.
    """
    session: Any = getattr(config, "_benchmarksession", None)
    if session is None or not session.compared_mapping:
        return
    now = {bench.fullname for bench in session.benchmarks if bench}
    for path, entries in session.compared_mapping.items():
        for name, entry in entries.items():
            extra = history.extra_of(entry)
            if name not in now and history.is_entry(extra):
                yield name, Path(path).name, extra


def stored_any(config: pytest.Config) -> bool:
    """Return whether this session stored an entry of the suite."""
    return bool(config.stash.get(STORED_KEY, []))


def saved_files(config: pytest.Config) -> list[Path]:
    """Return the file of every run that was saved in this storage, this session's included."""
    session: Any = getattr(config, "_benchmarksession", None)
    return [Path(path) for path in session.storage.query()] if session is not None else []


def _invalid(entry: Any) -> bool:
    """Return whether a benchmark, of this session or saved, is stamped INVALID."""
    extra = entry.extra_info if hasattr(entry, "extra_info") else history.extra_of(entry)
    return bool((extra or {}).get("validity") == "INVALID")


def only_ours(config: pytest.Config, benchmarks: list[dict[str, Any]]) -> bool:
    """Return whether every benchmark is an entry of the suite and no option requests pytest-benchmark's own output."""
    asked = any(config.getoption(f"benchmark_{name}") for name in ("compare", "verbose", "histogram"))
    asked |= config.getoption("benchmark_group_by") != "group"
    return not asked and all(history.is_entry(history.extra_of(bench)) for bench in benchmarks)
