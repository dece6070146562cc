"""The summary that a session prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.report.terminal import notes, tables, traffic_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.measure import Run


def lines(runs: Sequence[Run], *, width: int | None) -> list[str]:
    """Return the tables, then what has no column: waterfalls, capacity, accuracy, and stamps that are not VALID."""
    # A load with wrong answers keeps its figures, though it is INVALID; an init or handle run does not.
    good = [run for run in runs if not run.wrong or run.traffic is not None]
    kinds = {
        "init": tables.init_table,
        "handle": tables.handle_table,
        "load": traffic_tables.load_table,
    }
    chosen = {kind: [run for run in good if run.cell.kind == kind] for kind in kinds}
    shown = [kinds[kind](of_kind) for kind, of_kind in chosen.items() if of_kind]
    found = tables.render(shown, width=width).splitlines() if shown else []
    for run in good:
        found += traffic_tables.detail_lines(run) + traffic_tables.capacity_lines(run)
    return found + notes.lines(good) + tables.accuracy_lines(good) + traffic_tables.stamp_lines(runs)
