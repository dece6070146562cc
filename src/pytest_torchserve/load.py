"""When requests leave: each load is a frozen description with one coroutine, `drive`.

A load knows nothing of sockets. It is given `send`, which starts one request and returns the future of its
response, `more`, which is asked after each step whether to go on, and a clock; all three are fakes in its tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_torchserve.response import Response

Send = Callable[[int], Coroutine[Any, Any, Response]]
"""`send(scheduled_ns)` starts a request that is due at `scheduled_ns`, and returns what becomes of it."""

More = Callable[[Sequence[Response]], bool]
"""`more(new responses)` says whether to go on."""


class Clock(Protocol):
    """Monotonic time."""

    def now_ns(self) -> int:
        """Nanoseconds since some beginning."""

    async def wait_until(self, due_ns: int) -> None:
        """Return at `due_ns`, or at once when that has passed."""


class MonotonicClock:
    """The real one: `CLOCK_MONOTONIC` and the event loop's timer."""

    def now_ns(self) -> int:
        """Nanoseconds since boot, on Linux."""
        return time.monotonic_ns()

    async def wait_until(self, due_ns: int) -> None:
        """Sleep in the event loop; again where its timer, of whole milliseconds in uvloop, woke too early."""
        while (left_ns := due_ns - time.monotonic_ns()) > 0:  # noqa: ASYNC110 - waits for time itself
            await asyncio.sleep(left_ns / 1e9)


class Load(Protocol):
    """What every load can do."""

    async def drive(self, send: Send, more: More, clock: Clock) -> None:
        """Send until `more` says no or the load is done; returns when every request has its response."""


@dataclass(frozen=True, slots=True)
class FullBatches:
    """Exactly `batch_size` requests at once; the next batch leaves when all are answered.

    One batch in flight: what is timed is a full batch on a server that does nothing else.
    """

    batch_size: int

    async def drive(self, send: Send, more: More, clock: Clock) -> None:
        """Batch after batch, until `more` says no."""
        while True:
            now_ns = clock.now_ns()
            answers = await asyncio.gather(*(send(now_ns) for _ in range(self.batch_size)))
            if not more(answers):
                return


@dataclass(frozen=True, slots=True)
class ConstantRate:
    """`requests` requests, one every 1 / `rate_per_s` seconds whatever the server does: an open loop."""

    rate_per_s: float
    requests: int

    def due_ns(self, index: int, start_ns: int) -> int:
        """When the request of this index (from 0) is due."""
        return start_ns + round(index * 1e9 / self.rate_per_s)

    async def drive(self, send: Send, more: More, clock: Clock) -> None:
        """Send on schedule; `more` is asked at each departure, with what has been answered since."""
        start_ns = clock.now_ns()
        fresh: list[Response] = []
        flying: set[asyncio.Future[Response]] = set()

        def landed(future: asyncio.Future[Response]) -> None:
            flying.discard(future)
            if not future.cancelled():
                fresh.append(future.result())

        going = True
        for index in range(self.requests):
            due_ns = self.due_ns(index, start_ns)
            await clock.wait_until(due_ns)
            task = asyncio.ensure_future(send(due_ns))
            task.add_done_callback(landed)
            flying.add(task)
            going = more(_take(fresh))
            if not going:
                break
        while going and flying:
            await asyncio.wait(flying, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            going = more(_take(fresh))
        for unanswered in flying.copy():
            unanswered.cancel()


def _take(fresh: list[Response]) -> list[Response]:
    """The responses that have come since last asked."""
    taken = fresh[:]
    fresh.clear()
    return taken
