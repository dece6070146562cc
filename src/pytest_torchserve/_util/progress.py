"""Display of progress: the current cell, its share done, and the number of cells left."""

from __future__ import annotations

import time
from collections.abc import Callable

ProgressCallback = Callable[[str, float], None]
"""`progress(what, share done)`, called while a cell is measured."""

_EVERY_S = 0.5


class Progress:
    """Display of progress: on a terminal a line below pytest's, erased when the cell is done; elsewhere a line a cell.

    Args:
        write: writes text where the user sees it.
        width: columns of the terminal, or 0 where there is none.
        total: the number of cells to measure.
        column: returns the end of pytest's own line, where the cursor must return to.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        width: int,
        total: int,
        column: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._width = width
        self._total = total
        self._column = column
        self._done = 0
        self._cell = ""
        self._clock = clock
        self._shown = float("-inf")

    def start(self, cell: str) -> None:
        """Show that a cell begins."""
        self._cell = cell
        self._shown = float("-inf")
        if self._width:
            self._write("\n")
            self.update("", 0.0)
        else:
            self._write(f"\n[{self._done + 1}/{self._total}] {cell} …\n")

    def update(self, what: str, share: float) -> None:
        """Show the share done of the current cell; at most twice a second, and only on a terminal."""
        now = self._clock()
        if not self._width or now - self._shown < _EVERY_S:
            return
        self._shown = now
        left = self._total - self._done - 1
        text = f"[{self._done + 1}/{self._total}] {self._cell}  {min(1.0, share):4.0%}  {what}  ({left} cells left)"
        self._write("\r" + text[: self._width - 1].ljust(self._width - 1))

    def say(self, text: str) -> None:
        """Write a line that stays, before a cell begins."""
        self._write(f"\n{text}\n")

    def finish(self) -> None:
        """Count the cell as done, and erase its line."""
        self._done += 1
        if self._width:
            # Erase the line, go one line up, and to where pytest stopped writing (columns count from 1).
            self._write(f"\r\x1b[2K\x1b[1A\x1b[{self._column() + 1}G")
