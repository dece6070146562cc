"""The two tables at the session's end: init and handle, in milliseconds."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING

from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pytest_torchserve.measure import Run

_SHORT = {
    Phase.LOAD_MODEL: "load model",
    Phase.TO_DEVICE: "to device",
    Phase.SPAWN_AND_IMPORT: "spawn import",
    Phase.FIRST_INFERENCE: "first request",
    Phase.PREPROCESS: "pre",
    Phase.INFERENCE: "infer",
    Phase.POSTPROCESS: "post",
}


def milliseconds(seconds: float) -> str:
    """A duration in milliseconds for the tables."""
    return digits(seconds * 1e3)


def digits(value: float) -> str:
    """Three significant digits, never scientific: `0.034`, `71.3`, `4120`."""
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3  # noqa: PLR2004
    return f"{value:.{places}f}"


def _median(run: Run, phase: Phase) -> str:
    values = run.pooled(phase)
    return milliseconds(statistics.median(values)) if values else "–"


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not needed to collect tests

    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=column == "model")
    return table


def init_table(runs: Sequence[Run]) -> Table:
    """A row for each model × device: medians over workers."""
    names = [_SHORT.get(phase, phase.value) for phase in INIT_PHASES]
    table = _table("init: ms, median over new workers", ["model", "on", *names, "RSS MiB", "n"])
    for run in runs:
        deployment = run.cell.deployment
        resident = f"{(run.worker_rss_bytes or 0) / 2**20:.0f}"
        phases = [_median(run, phase) for phase in INIT_PHASES]
        n = str(len(run.pooled(Phase.TOTAL)))
        table.add_row(deployment.model.name, deployment.device, *phases, resident, n)
    return table


def handle_table(runs: Sequence[Run]) -> Table:
    """A row for each model × device × batch: medians over batches, and the processes' spread of `handle`."""
    names = [_SHORT.get(phase, phase.value) for phase in HANDLE_PHASES]
    table = _table(
        "handle: ms a full batch, median over batches",
        ["model", "on", "batch", *names, "per s", "spread", "n"],
    )
    for run in runs:
        deployment = run.cell.deployment
        spread = run.process_spread.get(Phase.HANDLE)
        table.add_row(
            deployment.model.name,
            deployment.device,
            str(deployment.batching.batch_size),
            *(_median(run, phase) for phase in HANDLE_PHASES),
            digits(run.throughput) if run.throughput else "–",
            "–" if spread is None else f"{spread:.0%}",
            str(len(run.pooled(Phase.HANDLE))),
        )
    return table


def remarks(runs: Sequence[Run]) -> list[str]:
    """What has no column: accuracy, the pace of constant-rate runs, and who did not keep up."""
    lines = []
    best: dict[str, Run] = {}
    for run in runs:
        if run.accuracy is not None:
            deployment = run.cell.deployment
            known = best.setdefault(f"{deployment.model.name}-{deployment.device}", run)
            if known.accuracy is not None and known.accuracy[1] < run.accuracy[1]:
                best[f"{deployment.model.name}-{deployment.device}"] = run
        if run.cell.kind == "pace":
            latency = f"latency {_median(run, Phase.LATENCY)} ms (median)"
            sizes = ", ".join(f"{count} × {size}" for size, count in sorted(run.batch_sizes.items(), reverse=True))
            lines.append(f"pace {run.cell.id}: " + (run.behind or f"{latency}; batches: {sizes}"))
    for name, run in best.items():
        right, asked = run.accuracy or (0, 0)
        lines.append(f"accuracy {name}: {right} of {asked} labelled samples")
    return lines


def render(tables: Sequence[Table], *, width: int) -> str:
    """The tables as plain text of at most this many columns."""
    from rich.console import Console  # noqa: PLC0415 - not needed to collect tests

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=False, color_system=None)
    for table in tables:
        console.print(table)
        console.print()
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
