"""Schedules, which define when requests leave: frozen descriptions with one coroutine, `drive`.

A schedule has no access to sockets. Its inputs are `send`, which starts one request and calls back with the response,
`on_responses`, which gets the responses as they come and may end the schedule early, and a clock. In tests all three
are fakes. Callbacks, not futures: a future wakes its waiter one turn of the event loop later, and that turn costs a
closed loop several per cent of its throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pytest_torchserve.loadgen.clock import Clock  # noqa: TC001 - protocols are evaluated at run time
from pytest_torchserve.loadgen.response import Response

Done = Callable[[Response], None]

Send = Callable[[int, Done], None]
"""`send(scheduled_ns, done)` starts a request that is due at `scheduled_ns`; `done` gets the response, once."""

OnResponses = Callable[[Sequence[Response]], bool]
"""`on_responses(new responses)` returns whether to go on; after False the schedule waits for no response."""

_LOOK_EVERY_S = 1.0
_SHOW_EVERY_S = 0.25
"""The interval at which a closed loop passes responses on: a call for each would cost 1% of a quick request."""


class _Fresh(list[Response]):
    """Responses that `on_responses` has not been shown yet."""

    def __init__(self, on_responses: OnResponses) -> None:
        super().__init__()
        self._on_responses = on_responses

    def shown(self) -> bool:
        """Show the new responses to `on_responses` and return whether to go on.

        Calls without new responses let `on_responses` end the load of a server that does not respond.
        """
        taken = self[:]
        self.clear()
        return self._on_responses(taken)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer than `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class Schedule(Protocol):
    """The protocol of all schedules."""

    @property
    def name(self) -> str:
        """The short name in test ids."""

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Send until all requests have their responses, or until `on_responses` returns False."""


@runtime_checkable
class TimedSchedule(Schedule, Protocol):
    """A schedule that ends by itself: traffic, unlike `FullBatches`, which times single batches."""

    @property
    def duration_s(self) -> float:
        """The time during which requests leave."""


@dataclass(frozen=True, slots=True)
class FullBatches:
    """Exactly `batch_size` requests at once; the next batch leaves when all are answered.

    With one batch in flight, the time is that of a full batch on a server that does nothing else.
    """

    batch_size: int

    @property
    def name(self) -> str:
        """The name in test ids."""
        return f"full{self.batch_size}"

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Send batch after batch, until `on_responses` returns False."""
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
    """`concurrency` users for `duration_s`; each user sends again as soon as the last response has come.

    A closed loop measures throughput. Its latency is that of a server that never gets requests faster than it
    answers: a slow response keeps its user from sending (coordinated omission), which does not happen in an open loop.
    """

    concurrency: int
    duration_s: float

    @property
    def name(self) -> str:
        """The name in test ids."""
        return f"closed{self.concurrency}"

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Run all users until the time is up and all responses have come, or until `on_responses` returns False."""
        end_ns = clock.now_ns() + round(self.duration_s * 1e9)
        fresh, active, ended = _Fresh(on_responses), 0, asyncio.Event()

        def answered(response: Response) -> None:
            nonlocal active
            active -= 1
            leave()  # first: keeping the response must not delay the user's next request
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
                end_ns = 0  # a user whose response comes from now on does not send again
                return


async def drive_open(departures_ns: Iterator[int], send: Send, on_responses: OnResponses, clock: Clock) -> None:
    """Send on schedule, then wait for responses; call `on_responses` at each departure, then at least each second."""
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
