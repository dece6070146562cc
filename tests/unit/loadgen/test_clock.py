"""`MonotonicClock`, the real clock."""

from __future__ import annotations

import asyncio
import itertools

from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.process_tuning import loop_factory


def test_it_never_wakes_early():
    """A hundred waits of 0.3 ms each end at or after their time, and in order."""
    clock, woken = MonotonicClock(), []

    async def wait():
        start_ns = clock.now_ns()
        for index in range(1, 101):
            await clock.wait_until(start_ns + index * 300_000)
            woken.append(clock.now_ns() - start_ns - index * 300_000)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(wait())
    assert min(woken) >= 0
    assert len(woken) == 100


def test_one_that_is_late_lets_others_work():
    """A wait for a past time lets other tasks run: answers must be read while requests leave."""
    clock, turns = MonotonicClock(), itertools.count()

    async def others():
        while True:
            next(turns)
            await asyncio.sleep(0)

    async def late():
        other = asyncio.ensure_future(others())
        for _ in range(50):
            await clock.wait_until(0)
        other.cancel()

    asyncio.run(late())
    assert next(turns) >= 49
