"""Sessions that measure nothing, and take their runs from the journal of one that did not come to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_torchserve.errors import InputError
from pytest_torchserve.measure.restore import restore
from pytest_torchserve.report import reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_torchserve.measure import Cell, Run

OPTIONS = "options"
"""The field of a journal's first line that holds the options of its session."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a journal holds.

    Attributes:
        path: the journal.
        environment: its session's `machine_info`.
        options: the options that its session was given.
        runs: by kind and cell, the run as JSON.
    """

    path: Path
    environment: Mapping[str, Any]
    options: tuple[str, ...]
    runs: Mapping[tuple[str, str], Mapping[str, Any]]

    @classmethod
    def of(cls, path: Path) -> Recovery:
        """Read the last session of a journal; lines that a crash has cut are left out.

        Raises:
            InputError: the file is no journal, or holds no run.
        """
        if path.suffix != ".jsonl":
            raise InputError(
                wanted="a journal to recover runs from, a file *.jsonl",
                found=str(path),
                do="name one of .benchmarks/journal/: the newest is the last session's",
            )
        document = reader.read([path])
        environment = {name: value for name, value in document.environment.items() if name not in ("at", OPTIONS)}
        runs = {(run["kind"], run["cell"]): run for run in document.runs}
        return cls(path, environment, tuple(document.environment.get(OPTIONS) or ()), runs)

    def has(self, cell: Cell) -> bool:
        """Return whether the cell was measured."""
        return (cell.kind, cell.id) in self.runs

    def without_test(self, cells: Iterable[Cell]) -> list[str]:
        """Return the runs that no test asks for, in words."""
        asked = {(cell.kind, cell.id) for cell in cells}
        return [f"{kind} {name}" for kind, name in self.runs if (kind, name) not in asked]

    def run(self, cell: Cell) -> Run:
        """Return the cell's run.

        Raises:
            InputError: the journal's line holds something else.
        """
        try:
            return restore(cell, self.runs[cell.kind, cell.id])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                wanted=f"a run of {cell.kind} {cell.id} in {self.path}",
                found=f"{type(error).__name__}: {error}",
                do="measure that cell again: the journal was written by another release, or edited",
            ) from error
