"""When requests leave: with a fake clock and a fake sender, so that nothing here takes time."""

from __future__ import annotations

import asyncio

import pytest

from pytest_torchserve.load import ConstantRate, FullBatches


class World:
    """A clock that jumps to whatever is due, and a server that answers at the next turn of the event loop."""

    def __init__(self, make_response):
        self.now = 0
        self.sent = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._make_response = make_response

    def now_ns(self):
        """The fake time."""
        return self.now

    async def wait_until(self, due_ns):
        """Let what has been sent go out at its time, then be there."""
        await asyncio.sleep(0)
        self.now = max(self.now, due_ns)

    async def send(self, scheduled_ns):
        """Answer when everything else that leaves now has left."""
        self.sent.append((scheduled_ns, self.now))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return self._make_response()


def drive(load, world, more):
    """Run a load to its end in the fake world."""
    asyncio.run(asyncio.wait_for(load.drive(world.send, more, world), timeout=30))


@pytest.mark.parametrize("size", [1, 4, 16])
def test_full_batches_keep_exactly_one_batch_in_flight(make_response, size):
    """batch_size requests at once, the next only when all are answered; it ends when told to."""
    world, batches = World(make_response), []

    def more(responses):
        batches.append(len(responses))
        return len(batches) < 5

    drive(FullBatches(size), world, more)
    assert batches == [size] * 5
    assert world.most_in_flight == size


def test_constant_rate_leaves_on_schedule(make_response):
    """One every 1/rate seconds from the first, whatever the answers take; every answer is seen once."""
    world, seen = World(make_response), []
    drive(ConstantRate(rate_per_s=10, requests=20), world, lambda fresh: seen.extend(fresh) or True)
    assert [scheduled for scheduled, _ in world.sent] == [index * 100_000_000 for index in range(20)]
    assert all(sent == scheduled for scheduled, sent in world.sent)
    assert len(seen) == 20


def test_constant_rate_stops_when_told_to(make_response):
    """`more` is asked at each departure; after a no nothing more leaves."""
    world = World(make_response)
    drive(ConstantRate(rate_per_s=10, requests=1000), world, lambda _: len(world.sent) < 7)
    assert len(world.sent) == 7


def test_due_times_do_not_drift():
    """The thousandth request is due at its own multiple, not at a sum of a thousand rounded steps."""
    assert ConstantRate(rate_per_s=3, requests=1000).due_ns(999, 5) == 5 + 333_000_000_000
