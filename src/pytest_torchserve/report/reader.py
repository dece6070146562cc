"""The input of a report: the runs of a journal or of pytest-benchmark's files, as one kind of record."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_torchserve.errors import InputError
from pytest_torchserve.report.history import Saved, differing, extra_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Record = dict[str, Any]
"""A run, as `Run.as_dict` returns it."""


@dataclass(slots=True)
class Document:
    """The content of a report.

    Attributes:
        sources: the names of the files that the document was read from.
        environment: the environment of the runs, by field.
        others: fields in which a file's environment differs from the first file's, in words.
        runs: one record for each kind and cell; of several records, the last.
        verdicts: one verdict for each cell and phase.
        uncompared: by cell, why a cell that was to be compared was not.
        min_effect: the share below which changes were ignored.
        history: earlier saved runs of the same environment, oldest first.
    """

    sources: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    runs: list[Record] = field(default_factory=list)
    verdicts: list[Record] = field(default_factory=list)
    uncompared: dict[str, str] = field(default_factory=dict)
    min_effect: float = 0.02
    history: list[Saved] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Record]:
        """Return the runs of one kind."""
        return [run for run in self.runs if run["kind"] == kind]

    @property
    def baseline(self) -> str:
        """The baseline of the verdicts; '' where there are no verdicts."""
        return next((run["paired"]["baseline"] for run in self.runs if run.get("paired")), "")


def read(paths: Iterable[Path]) -> Document:
    """Read journals (`.jsonl`) and saved runs of pytest-benchmark (`.json`); later files override earlier ones.

    Raises:
        InputError: a file is neither, or no file holds a run of the suite.
    """
    document = Document()
    runs: dict[tuple[str, str], Record] = {}
    verdicts: dict[tuple[str, str], Record] = {}
    for path in paths:
        document.sources.append(path.name)
        try:
            environment, found, judged = (_journal if path.suffix == ".jsonl" else _benchmarks)(path, document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                wanted=f"a journal or a saved run in {path}",
                found=f"{type(error).__name__}: {error}",
                do="name files of .benchmarks/: its *.json or its journal/*.jsonl",
            ) from error
        document.others += _differing(document.environment, environment, path)
        document.environment = document.environment or environment
        runs |= {(run["kind"], run["cell"]): run for run in found}
        verdicts |= {(one["cell"], one["metric"]): one for one in map(_as_today, judged)}
    document.runs, document.verdicts = list(runs.values()), list(verdicts.values())
    if not document.runs:
        raise InputError(
            wanted="runs of this suite to report on",
            found=f"none in {', '.join(document.sources) or 'no file'}",
            do="name a file that was saved by a session with tests of the suite",
        )
    return document


def _as_today(verdict: Record) -> Record:
    """Return a verdict in today's form; an earlier release knew phases only, in seconds."""
    if "metric" in verdict:
        return verdict
    figures = {name: verdict[f"{name}_s"] for name in ("baseline", "candidate")}
    return {**verdict, **figures, "metric": verdict["phase"], "unit": "s", "more_is_better": False}


def _differing(first: Mapping[str, Any], other: Mapping[str, Any], path: Path) -> list[str]:
    """Return the differences from the first file: a page of runs from two machines must say so."""
    if not first:
        return []
    return [f"{path.name}: {name} was {theirs}, not {mine}" for name, mine, theirs in differing(first, other)]


def _journal(path: Path, document: Document) -> tuple[Record, list[Record], list[Record]]:
    """Read the last session of a journal. A line that a crash or a full disk has cut is left out, and noted."""
    written = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    lines, cut = [], []
    for number, line in enumerate(written, 1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            cut.append(number)
    if cut and not lines:
        raise ValueError("no line of it is whole JSON")
    if cut:
        places = ", ".join(map(str, cut[:5])) + (", …" if len(cut) > 5 else "")  # noqa: PLR2004 - enough to look there
        document.others.append(f"{path.name}: left out, since they are cut: line {places} of {len(written)}")
    starts = [index for index, line in enumerate(lines) if line["line"] == "session"]
    lines = lines[starts[-1] :] if starts else lines
    by_kind: dict[str, list[Record]] = {"session": [], "run": [], "verdict": [], "uncompared": [], "rules": []}
    for line in lines:
        by_kind[line.pop("line")].append(line)
    document.uncompared |= {line["cell"]: line["why"] for line in by_kind["uncompared"]}
    document.min_effect = by_kind["rules"][-1]["min_effect"] if by_kind["rules"] else document.min_effect
    return (by_kind["session"] or [{}])[0], by_kind["run"], by_kind["verdict"]


def _benchmarks(path: Path, document: Document) -> tuple[Record, list[Record], list[Record]]:
    """Read a file of pytest-benchmark's, and join its entries, which are phases, into runs again."""
    content = json.loads(path.read_text(encoding="utf-8"))
    runs: dict[tuple[str, str], Record] = {}
    verdicts = []
    for entry in content["benchmarks"]:
        extra = extra_of(entry)
        if "phase" not in extra or "cell" not in extra:
            continue  # another project's benchmark
        run = runs.setdefault((extra["kind"], extra["cell"]), {**extra, "seconds": {}})
        run["seconds"][extra["phase"]] = _by_process(entry["stats"], extra)
        if extra.get("paired"):
            run["paired"]["pairs"] |= extra["paired"]["pairs"]
        verdicts += [extra["verdict"]] if extra.get("verdict") else []
        verdicts += extra.get("verdicts") or []
    document.min_effect = content["machine_info"].get("min_effect") or document.min_effect
    return {"at": content.get("datetime", ""), **content["machine_info"]}, list(runs.values()), verdicts


def _by_process(stats: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the raw samples by process; only the median where the samples were not saved."""
    data: Sequence[float] = stats.get("data") or [stats["median"]]
    counts: Mapping[str, int] = extra.get("process_samples") or {}
    if sum(counts.values()) != len(data):
        return {"all": list(data)}
    found, at = {}, 0
    for process, count in counts.items():
        found[process] = list(data[at : at + count])
        at += count
    return found


def pooled(run: Record, phase: str) -> list[float]:
    """Return all samples of a phase."""
    return [value for values in run["seconds"].get(phase, {}).values() for value in values]


def median_ms(run: Record, phase: str) -> float | None:
    """Return the median of a phase in milliseconds; None where the phase has no samples."""
    values = pooled(run, phase)
    return statistics.median(values) * 1e3 if values else None
