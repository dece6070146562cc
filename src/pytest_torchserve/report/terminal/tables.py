"""The tables of init and handle at the session's end, in milliseconds."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING

from pytest_torchserve.phase import ABSENCES, HANDLE_PHASES, INIT_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from pytest_torchserve.measure import Run

SHORT: dict[str, str] = {
    Phase.LOAD_MODEL: "load model",
    Phase.TO_DEVICE: "to device",
    Phase.WARM_UP: "warm up",
    Phase.SPAWN_AND_IMPORT: "spawn import",
    Phase.FIRST_INFERENCE: "first request",
    Phase.PREPROCESS: "pre",
    Phase.INFERENCE: "infer",
    Phase.POSTPROCESS: "post",
    Phase.FIRST_CHUNK: "first chunk",
}
"""The names of phases where a column must be narrow."""

_KEYS = ("model", "on", "batch", "workers", "phase", "metric", "load")
"""The columns that identify a row."""

_UNLIMITED = 10_000


def milliseconds(seconds: float) -> str:
    """Return a duration in milliseconds for the tables."""
    return digits(seconds * 1e3)


def digits(value: float) -> str:
    """Return a number with about three significant digits, never in scientific notation: `0.034`, `71.3`, `4120`."""
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3  # noqa: PLR2004
    return f"{value:.{places}f}"


def present(phases: Sequence[Phase], found: Iterable[str]) -> list[Phase]:
    """Return these phases, without those that a handler need not have and none of the found ones is."""
    seen = set(found)
    return [phase for phase in phases if phase not in ABSENCES or phase in seen]


def _median(run: Run, phase: Phase) -> str:
    values = run.pooled(phase)
    return milliseconds(statistics.median(values)) if values else "–"


def new_table(title: str, columns: Sequence[str]) -> Table:
    """Return an empty table in the suite's style."""
    from rich.table import Table  # noqa: PLC0415 - not needed to collect tests

    table = Table(
        title=title or None, title_justify="left", title_style="", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    return table


def init_table(runs: Sequence[Run]) -> Table:
    """Return a table with a row for each model × device: medians over workers."""
    shown = present(INIT_PHASES, (phase for run in runs for phase in run.seconds))
    names = [SHORT.get(phase, phase.value) for phase in shown]
    table = new_table("init: ms, median over new workers", ["model", "on", *names, "RSS MiB", "n"])
    for run in runs:
        deployment = run.cell.deployment
        resident = f"{(run.worker_rss_bytes or 0) / 2**20:.0f}"
        phases = [_median(run, phase) for phase in shown]
        n = str(len(run.pooled(Phase.TOTAL)))
        table.add_row(deployment.model.name, deployment.device, *phases, resident, n)
    return table


def handle_table(runs: Sequence[Run]) -> Table:
    """Return a table with a row for each model × device × batch size.

    Its figures are medians over batches, and the spread of `handle` over processes.
    """
    shown = present((*HANDLE_PHASES, Phase.FIRST_CHUNK), (phase for run in runs for phase in run.seconds))
    names = [SHORT.get(phase, phase.value) for phase in shown]
    table = new_table(
        "handle: ms a full batch, median over batches",
        ["model", "on", "batch", *names, "per s", "spread", "n"],
    )
    for run in runs:
        deployment = run.cell.deployment
        spread = run.process_spread.get(Phase.HANDLE)
        table.add_row(
            deployment.label,
            deployment.device,
            str(deployment.batching.batch_size),
            *(_median(run, phase) for phase in shown),
            digits(run.throughput) if run.throughput else "–",
            "–" if spread is None else f"{spread:.0%}",
            str(len(run.pooled(Phase.LATENCY))),
        )
    return table


def accuracy_lines(runs: Iterable[Run]) -> list[str]:
    """Return how many labelled samples were right, once for each model and device that all samples were sent to."""
    lines = {}
    for run in runs:
        if run.accuracy is not None:
            right, asked = run.accuracy
            name = f"{run.cell.deployment.model.name}-{run.cell.deployment.device}"
            lines[name] = f"accuracy {name}: {right} of {asked} labelled samples"
    return list(lines.values())


def render(tables: Sequence[Table], *, width: int | None) -> str:
    """Return the tables as plain text, with every figure whole.

    Args:
        width: the columns of a terminal; None where nothing limits a line. A table that is too wide is continued
            below itself, its first columns repeated.
    """
    from rich.console import Console  # noqa: PLC0415 - not needed to collect tests

    file = io.StringIO()
    console = Console(file=file, width=width or _UNLIMITED, force_terminal=False, color_system=None)
    for table in tables:
        title, table.title = table.title, None
        if title:  # a line of its own: rich would break it to the width of its table
            console.print(title)
        for part in _parts(table, console):
            console.print(part, soft_wrap=False)
        table.title = title
        console.print()
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _parts(table: Table, console: Console) -> list[Table]:
    """Return the table, or several tables with fewer columns each, so that all fit."""
    if sum(_widths(table, console)) - 1 <= console.width:
        return [table]
    for column in table.columns:
        column.header = str(column.header).replace(" ", "\n")
    widths = _widths(table, console)
    keys = next((n for n, column in enumerate(table.columns) if column.header not in _KEYS), 0)
    room = console.width + 1 - sum(widths[:keys])
    groups: list[list[int]] = [[]]
    for index in range(keys, len(widths)):
        if groups[-1] and sum(widths[i] for i in groups[-1]) + widths[index] > room:
            groups.append([])
        groups[-1].append(index)
    return [_chosen(table, [*range(keys), *group]) for group in groups]


def _widths(table: Table, console: Console) -> list[int]:
    """Return the width of each column, the blank behind it included."""
    from rich.measure import Measurement  # noqa: PLC0415 - not needed to collect tests

    return [
        max(Measurement.get(console, console.options, cell).maximum for cell in [column.header, *column.cells]) + 1
        for column in table.columns
    ]


def _chosen(table: Table, columns: Sequence[int]) -> Table:
    """Return a table of these columns, without a title."""
    part = new_table("", [str(table.columns[index].header) for index in columns])
    cells = [list(table.columns[index].cells) for index in columns]
    for row in zip(*cells, strict=True):
        part.add_row(*row)
    return part
