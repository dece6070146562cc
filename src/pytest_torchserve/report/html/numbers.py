"""Every figure of a report as rows, and every raw sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_torchserve import stats
from pytest_torchserve.phase import Phase
from pytest_torchserve.report.reader import median_ms, pooled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_torchserve.report.reader import Document, Record

COLUMNS = ("kind", "cell", "model", "device", "batch_size", "phase", "process", "sample", "arm", "seconds")
"""The columns of a raw sample."""

Row = tuple[str, str, str, float | None]
"""A row: (cell, what, unit, value)."""


def durations(document: Document) -> Iterator[dict[str, Any]]:
    """Yield the figures of the durations: one row for each run and phase."""
    for run in document.runs:
        for phase in run["seconds"]:
            values = pooled(run, phase)
            if not values:
                continue
            shown = {told["p"]: told["value"] for told in (run.get("traffic") or {}).get("latency") or ()}
            p90, p99 = (shown.get(p) if run.get("traffic") else stats.percentile(values, p) for p in (0.9, 0.99))
            yield {
                **{name: run[name] for name in ("kind", "cell", "model", "device", "batch_size", "validity")},
                "phase": phase,
                "n": len(values),
                "median": median_ms(run, phase),
                "p90": _ms(p90),
                "p99": _ms(p99),
                "min": min(values) * 1e3,
                "max": max(values) * 1e3,
                "throughput": run.get("throughput"),
            }


def others(document: Document) -> Iterator[Row]:
    """Yield the figures that are no distribution of durations: waterfalls, batches, capacity, the trend."""
    for run in document.runs:
        yield from _of_answers(run, f"{run['kind']} {run['cell']}")
        yield from _of_traffic(run, f"{run['kind']} {run['cell']}")
        yield from _of_capacity(run.get("capacity") or {}, f"{run['kind']} {run['cell']}")
    for saved in document.history:
        for test, median_s in saved.medians.items():
            if test.endswith(f"-{Phase.HANDLE}]"):
                cell = test.partition("[")[2].removesuffix(f"-{Phase.HANDLE}]")
                yield f"trend {cell}", saved.name, "ms", 1e3 * median_s


def _of_answers(run: Record, cell: str) -> Iterator[Row]:
    if run.get("distinct_bodies"):
        yield cell, "different requests", "", run["distinct_bodies"]
    if run.get("changed_answers"):
        yield cell, "answers that differ from those to the same requests alone", "", run["changed_answers"]


def _of_traffic(run: Record, cell: str) -> Iterator[Row]:
    waterfall = (run.get("traffic") or {}).get("waterfall") or {}
    for stage, mean_s in waterfall.get("mean_s", {}).items():
        yield cell, f"{stage}, mean of a request", "ms", 1e3 * mean_s
    if run["kind"] == "load":
        for size, count in (run.get("batch_sizes") or {}).items():
            yield cell, f"batches of {size}", "", count


def _of_capacity(found: Record, cell: str) -> Iterator[Row]:
    if found:
        yield cell, "capacity (where the goal is crossed)", "requests/s", found.get("crossing_per_s")
        yield cell, "shown to meet the goal", "requests/s", found["rate_per_s"]
        yield cell, "goal", "ms", 1e3 * found["slo_s"]
    for step in found.get("steps", ()):
        for name, key in (("p50", "p50_s"), (f"p{100 * found['goal']:g}", "goal_s")):
            yield cell, f"{name} at {step['rate_per_s']:.4g} requests/s", "ms", _ms(step.get(key))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def samples(document: Document) -> Iterator[list[Any]]:
    """Yield every raw sample; of a comparison, the samples of both arms."""
    for run in document.runs:
        about = [run[name] for name in ("kind", "cell", "model", "device", "batch_size")]
        paired = (run.get("paired") or {}).get("pairs") or {}
        for phase, by_process in run["seconds"].items():
            for process, values in by_process.items():
                for index, seconds in enumerate(values):
                    yield [*about, phase, process, index, "candidate" if paired else "", repr(seconds)]
            for process, pairs in paired.get(phase, {}).items():
                for index, (seconds, _) in enumerate(pairs):
                    yield [*about, phase, process, index, "baseline", repr(seconds)]
