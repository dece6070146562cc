"""A report's files: `index.html`, `summary.md`, `results.csv`, and each chart as SVG."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from pytest_torchserve.compare.comparison import quantity
from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES
from pytest_torchserve.report.history import MUST_MATCH, words
from pytest_torchserve.report.html import charts, numbers, traffic_charts
from pytest_torchserve.report.reader import median_ms
from pytest_torchserve.report.terminal.tables import digits, present

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

    from pytest_torchserve.report.html.drawing import Chart
    from pytest_torchserve.report.reader import Document


def write(document: Document, folder: Path) -> Path:
    """Write the report into a folder, over an older report; return the page's path."""
    pictures = _pictures(document)
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.svg"):
        old.unlink()
    for chart in pictures:
        (plots / f"{chart.name}.svg").write_text(chart.plain, encoding="utf-8")
    told = {
        "document": document,
        "charts": pictures,
        "rows": list(numbers.durations(document)),
        "environment": _environment(document),
    }
    told["others"] = list(numbers.others(document))
    told |= {"gating": [one for one in document.verdicts if one["gating"]], "handle": HANDLE_PHASES}
    told["init"] = present(INIT_PHASES, (phase for run in document.of_kind("init") for phase in run["seconds"]))
    templates = _templates()
    for name in ("index.html", "summary.md"):
        (folder / name).write_text(templates.get_template(f"{name}.j2").render(told), encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(numbers.COLUMNS)
        writer.writerows(numbers.samples(document))
    return folder / "index.html"


def _pictures(document: Document) -> list[Chart]:
    """Return the charts for which these runs have data."""
    handle, load = document.of_kind("handle"), document.of_kind("load")
    made = (
        charts.verdicts(document.verdicts, document.min_effect),
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
        loader=jinja2.PackageLoader("pytest_torchserve.report.html"),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["ms"] = lambda value: "–" if value is None else digits(value)
    found.filters["times"] = lambda value: "–" if value is None else f"{value:.3f}"
    found.filters["quantity"] = quantity
    found.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f}%"
    found.globals["median_ms"] = median_ms
    return found


def _environment(document: Document) -> dict[str, Any]:
    """Return the environment's fields for the page: the time, and the fields that decide whether runs are alike."""
    shown = {"at": document.environment.get("at", "")}
    told = {name: document.environment.get(name) for name in MUST_MATCH}
    return shown | {name: words(value) for name, value in told.items() if value}
