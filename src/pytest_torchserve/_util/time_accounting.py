"""Accounting of the session's wall-clock time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Activity(StrEnum):
    """Activities that the main thread waits for. Time booked to no activity is overhead."""

    COLLECTING = "collecting"
    SERVER_START = "server start"
    ARCHIVES = "archives"
    WORKER_LOADS = "worker loads"
    IN_FLIGHT = "requests in flight"
    GOLDEN = "golden answers"
    RECORDS = "records"


class TimeAccounting:
    """Accounting by activity: nested spans book to the innermost span, so that all seconds add up to the whole."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._open: list[Activity] = []
        self._since = self._started
        self.seconds: dict[Activity, float] = dict.fromkeys(Activity, 0.0)

    @contextmanager
    def span(self, account: Activity) -> Iterator[None]:
        """Book the time inside the span to `account`."""
        self._book()
        self._open.append(account)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def book_start(self, account: Activity) -> None:
        """Book the time since this accounting began to `account`; call this method before any span."""
        self.seconds[account] += self.total_s
        self._since = self._clock()

    def _book(self) -> None:
        now = self._clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @property
    def total_s(self) -> float:
        """Seconds since this accounting began."""
        return self._clock() - self._started

    @property
    def overhead_s(self) -> float:
        """Seconds booked to no activity."""
        return self.total_s - sum(self.seconds.values())

    def line(self) -> str:
        """Return a summary line for the session's end."""
        parts = [f"{account} {seconds:.1f} s" for account, seconds in self.seconds.items()]
        share = self.overhead_s / self.total_s if self.total_s else 0.0
        return f"wall-clock {self.total_s:.1f} s: {', '.join(parts)}, overhead {self.overhead_s:.1f} s ({share:.0%})"
