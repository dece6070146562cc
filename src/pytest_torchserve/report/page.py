"""A report's files: `index.html`, `summary.md`, `results.csv`, and each picture as SVG."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from pytest_torchserve import summary
from pytest_torchserve.history import FIELDS
from pytest_torchserve.report import charts, traffic_charts
from pytest_torchserve.report.saved import median_ms, pooled
from pytest_torchserve.tables import digits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jinja2 import Environment

    from pytest_torchserve.report.drawing import Chart
    from pytest_torchserve.report.saved import Document

_INIT = ("load_model", "to_device", "spawn_and_import", "total", "first_inference")
_HANDLE = ("preprocess", "inference", "postprocess", "handle", "latency")


def write(document: Document, folder: Path, min_effect: float = 0.02) -> Path:
    """Write the report into a folder, over an older one; returns the page."""
    pictures = _pictures(document, min_effect)
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.svg"):
        old.unlink()
    for chart in pictures:
        (plots / f"{chart.name}.svg").write_text(chart.plain, encoding="utf-8")
    told = {
        "document": document,
        "charts": pictures,
        "rows": list(_rows(document)),
        "environment": _environment(document),
    }
    told |= {"gating": [one for one in document.verdicts if one["gating"]], "init": _INIT, "handle": _HANDLE}
    templates = _templates()
    for name in ("index.html", "summary.md"):
        (folder / name).write_text(templates.get_template(f"{name}.j2").render(told), encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["kind", "cell", "model", "device", "batch_size", "phase", "process", "sample", "side", "seconds"]
        )
        writer.writerows(_samples(document))
    return folder / "index.html"


def _pictures(document: Document, min_effect: float) -> list[Chart]:
    """Those that these runs have something for."""
    handle, load = document.of_kind("handle"), document.of_kind("load")
    made = (
        charts.verdicts(document.verdicts, min_effect),
        charts.init_bars(document.of_kind("init")),
        charts.handle_bars(handle),
        charts.spread(handle),
        traffic_charts.waterfall(load),
        traffic_charts.fills(load),
        traffic_charts.capacity(document.of_kind("capacity")),
        traffic_charts.trend(document.history),
    )
    return [chart for chart in made if chart is not None]


def _templates() -> Environment:
    import jinja2  # noqa: PLC0415 - only for a report

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_torchserve.report"),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["ms"] = lambda value: "–" if value is None else digits(value)
    found.filters["times"] = lambda value: "–" if value is None else f"{value:.3f}"
    found.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f}%"
    found.globals["median_ms"] = median_ms
    return found


def _environment(document: Document) -> dict[str, Any]:
    """What is told of the machine: what decides whether runs are alike, and when it was."""
    shown = {"at": document.environment.get("at", "")}
    return shown | {name: document.environment.get(name) for name in FIELDS if document.environment.get(name)}


def _rows(document: Document) -> Iterator[dict[str, Any]]:
    """Every figure: one row for each run and phase."""
    for run in document.runs:
        for phase in run["seconds"]:
            values = pooled(run, phase)
            if not values:
                continue
            percentiles = {f"p{100 * p:g}": _ms(summary.percentile(values, p)) for p in (0.5, 0.9, 0.99)}
            yield {
                **{name: run[name] for name in ("kind", "cell", "model", "device", "batch_size", "validity")},
                "phase": phase,
                "n": len(values),
                "median": median_ms(run, phase),
                "p90": percentiles["p90"],
                "p99": percentiles["p99"],
                "min": min(values) * 1e3,
                "max": max(values) * 1e3,
                "throughput": run.get("throughput"),
            }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _samples(document: Document) -> Iterator[list[Any]]:
    """Every raw sample; of a comparison both sides'."""
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
