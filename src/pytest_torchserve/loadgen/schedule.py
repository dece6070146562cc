"""When requests leave: each load is a frozen description with one coroutine, `drive`.

A load knows nothing of sockets. It is given `send`, which starts one request and calls back with its response,
`on_responses`, which is shown the responses as they come and may end it early, and a clock; all three are fakes in its
tests. Callbacks, not futures: a future wakes its waiter one turn of the event loop later, and that turn costs a
closed loop several per cent of its throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_torchserve.loadgen.clock import Clock  # noqa: TC001 - protocols are looked at when the program runs
from pytest_torchserve.loadgen.response import Response

Done = Callable[[Response], None]

Send = Callable[[int, Done], None]
"""`send(scheduled_ns, done)` starts a request that is due at `scheduled_ns`; `done` gets its response, once."""

OnResponses = Callable[[Sequence[Response]], bool]
"""`more(new responses)` says whether to go on; after a no nothing is waited for."""

_LOOK_EVERY_S = 1.0
_SHOW_EVERY_S = 0.25
"""How often a closed loop's answers are shown: at each one would cost a hundredth of a quick request."""


class _Fresh(list[Response]):
    """Answers that `on_responses` has not been shown yet."""

    def __init__(self, on_responses: OnResponses) -> None:
        super().__init__()
        self._on_responses = on_responses

    def shown(self) -> bool:
        """Show the new responses and return whether to go on. Called with none too, so that a silent server ends."""
        taken = self[:]
        self.clear()
        return self._on_responses(taken)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class Schedule(Protocol):
    """What every load can do."""

    @property
    def name(self) -> str:
        """Short, for test ids."""

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Send until the load is done and every answer is there, or until `on_responses` says no."""


class TimedSchedule(Schedule, Protocol):
    """A load that ends by itself: traffic, where `FullBatches` is a stopwatch."""

    @property
    def duration_s(self) -> float:
        """How long requests leave."""


@dataclass(frozen=True, slots=True)
class FullBatches:
    """Exactly `batch_size` requests at once; the next batch leaves when all are answered.

    One batch in flight: what is timed is a full batch on a server that does nothing else.
    """

    batch_size: int

    @property
    def name(self) -> str:
        """For test ids."""
        return f"full{self.batch_size}"

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Batch after batch, until `on_responses` says no."""
        loop = asyncio.get_running_loop()
        while True:
            now_ns, answers, whole = clock.now_ns(), list[Response](), loop.create_future()

            def landed(
                response: Response, answers: list[Response] = answers, whole: asyncio.Future[None] = whole
            ) -> None:
                answers.append(response)
                if len(answers) == self.batch_size:
                    whole.set_result(None)

            for _ in range(self.batch_size):
                send(now_ns, landed)
            await whole
            if not on_responses(answers):
                return


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """`concurrency` users for `duration_s`; each sends again as soon as it is answered.

    What such users see is throughput. Their latency is that of a server that is never asked faster than it
    answers: a slow answer keeps its user from asking (coordinated omission), which an open loop does not.
    """

    concurrency: int
    duration_s: float

    @property
    def name(self) -> str:
        """For test ids."""
        return f"closed{self.concurrency}"

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Every user until the time is up, and then until all are answered; or until `on_responses` says no."""
        end_ns = clock.now_ns() + round(self.duration_s * 1e9)
        fresh, active, ended = _Fresh(on_responses), 0, asyncio.Event()

        def answered(response: Response) -> None:
            nonlocal active
            active -= 1
            leave()  # first: that we keep the answer is no part of its user's day
            fresh.append(response)

        def leave() -> None:
            nonlocal active
            if (now_ns := clock.now_ns()) < end_ns:
                active += 1
                send(now_ns, answered)
            elif not active:
                ended.set()

        for _ in range(self.concurrency):
            leave()
        while not ended.is_set():
            await _at_most(_SHOW_EVERY_S, ended)
            if not fresh.shown():
                end_ns = 0  # whoever is answered from now on does not send again
                return


async def drive_open(departures_ns: Iterator[int], send: Send, on_responses: OnResponses, clock: Clock) -> None:
    """Send on schedule, then wait for the answers; `on_responses` is asked at each departure and then each second."""
    start_ns = clock.now_ns()
    fresh, flying, answer = _Fresh(on_responses), 0, asyncio.Event()

    def landed(response: Response) -> None:
        nonlocal flying
        flying -= 1
        fresh.append(response)
        answer.set()

    for after_ns in departures_ns:
        await clock.wait_until(start_ns + after_ns)
        flying += 1
        send(start_ns + after_ns, landed)
        if not fresh.shown():
            return
    while flying:
        answer.clear()
        await _at_most(_LOOK_EVERY_S, answer)
        if not fresh.shown():
            return
    if fresh:
        fresh.shown()
