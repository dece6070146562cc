"""One line that shows the cell, what is done and what is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_S = 0.5


class Progress:
    """On a terminal a line that rewrites itself; elsewhere one plain line for each cell.

    Args:
        write: puts text where the user sees it.
        width: columns of the terminal, or 0 where there is none.
        total: how many cells there are to measure.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        width: int,
        total: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._width = width
        self._total = total
        self._done = 0
        self._cell = ""
        self._clock = clock
        self._shown = float("-inf")

    def start(self, cell: str) -> None:
        """A cell begins."""
        self._cell = cell
        self._shown = float("-inf")
        if self._width:
            self.update("", 0.0)
        else:
            self._write(f"\n[{self._done + 1}/{self._total}] {cell} …\n")

    def update(self, what: str, share: float) -> None:
        """A cell has come so far; shown at most twice a second, and only on a terminal."""
        now = self._clock()
        if not self._width or now - self._shown < _EVERY_S:
            return
        self._shown = now
        left = self._total - self._done - 1
        text = f"[{self._done + 1}/{self._total}] {self._cell}  {min(1.0, share):4.0%}  {what}  ({left} cells left)"
        self._write("\r" + text[: self._width - 1].ljust(self._width - 1))

    def finish(self) -> None:
        """A cell is done."""
        self._done += 1
        if self._width:
            self._write("\r" + " " * (self._width - 1) + "\r")
