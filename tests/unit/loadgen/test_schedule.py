"""Schedules of requests, with a fake clock and a fake client, so that nothing here takes time."""

from __future__ import annotations

import asyncio
import itertools
import statistics

import pytest

from pytest_torchserve.errors import OptionError
from pytest_torchserve.loadgen.arrivals import ConstantRate, Poisson, Ramp
from pytest_torchserve.loadgen.schedule import ClosedLoop, FullBatches
from pytest_torchserve.plugin.option_values import schedules as parse


class World:
    """A clock that jumps to the next due time, and a server that answers at the next turn of the event loop."""

    def __init__(self, make_response, service_ns=0):
        self.now = 0
        self.service_ns = service_ns
        self.sent = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._make_response = make_response

    def now_ns(self):
        """Return the fake time in nanoseconds."""
        return self.now

    async def wait_until(self, due_ns):
        """Let earlier requests leave at their time, then set the clock to `due_ns`."""
        await asyncio.sleep(0)
        self.now = max(self.now, due_ns)

    def send(self, scheduled_ns, done):
        """Start a request, which is answered when all others that leave now have left."""
        self.sent.append((scheduled_ns, self.now))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        asyncio.get_running_loop().call_soon(self._answer, done)

    def _answer(self, done):
        self.in_flight -= 1
        self.now += self.service_ns
        done(self._make_response())


def drive(load, world, more):
    """Run a schedule to its end in the fake world."""
    asyncio.run(asyncio.wait_for(load.drive(world.send, more, world), timeout=30))


@pytest.mark.parametrize("size", [1, 4, 16])
def test_full_batches_keep_exactly_one_batch_in_flight(make_response, size):
    """batch_size requests leave at once, the next batch only when all are answered.

    The schedule ends when `on_responses` returns False.
    """
    world, batches = World(make_response), []

    def more(responses):
        batches.append(len(responses))
        return len(batches) < 5

    drive(FullBatches(size), world, more)
    assert batches == [size] * 5
    assert world.most_in_flight == size


@pytest.mark.parametrize("users", [1, 4, 16])
def test_closed_loop_keeps_its_users_busy(make_response, users):
    """No more requests are in flight than there are users; each user sends again when it is answered.

    Once the time is up, the requests in flight are answered.
    """
    world, seen = World(make_response, service_ns=1_000_000), []
    drive(ClosedLoop(users, duration_s=0.2), world, lambda fresh: seen.extend(fresh) or True)
    assert world.most_in_flight == users
    assert len(seen) == len(world.sent) >= 200
    assert all(scheduled < 200_000_000 for scheduled, _ in world.sent)


def test_closed_loop_ends_when_told_to(make_response):
    """After `on_responses` returns False no request leaves; all earlier responses have been passed once."""
    world, seen, asked = World(make_response), [], []

    def more(fresh):
        seen.extend(fresh)
        asked.append((len(world.sent), world.in_flight))
        return len(asked) < 3

    drive(ClosedLoop(4, duration_s=1e9), world, more)
    assert len(asked) == 3
    assert asked[-1] == (len(world.sent), 4)
    assert len(seen) == len(world.sent) - 4


def test_closed_loop_asks_though_nobody_answers():
    """`on_responses` is called even when the server is silent."""
    asked = []
    world = World(None)
    world.send = lambda _scheduled_ns, _done: None
    drive(ClosedLoop(2, duration_s=1e9), world, lambda fresh: asked.append(len(fresh)) or len(asked) < 2)
    assert asked == [0, 0]


@pytest.mark.parametrize("load", [FullBatches(2), ClosedLoop(2, 9.0), ConstantRate(10, 2)], ids=lambda load: load.name)
def test_what_more_raises_ends_the_load(make_response, load):
    """An exception of `on_responses` is raised where the schedule was started, and is not taken for a failure."""
    with pytest.raises(ZeroDivisionError):
        drive(load, World(make_response), lambda _: 1 / 0)


@pytest.mark.parametrize("load", [ConstantRate(10, 2.0), Poisson(10, 2.0)])
def test_open_loops_leave_on_schedule(make_response, load):
    """Each request leaves at its own time, however long answers take; every response is passed on once."""
    world, seen = World(make_response), []
    drive(load, world, lambda fresh: seen.extend(fresh) or True)
    assert [scheduled for scheduled, _ in world.sent] == list(load.departures_ns())
    assert all(sent == scheduled for scheduled, sent in world.sent)
    assert len(seen) == len(world.sent)


def test_an_open_loop_does_not_wait_for_answers(make_response):
    """The next request leaves even when an answer takes ten intervals: requests are late, not lost."""
    world, seen = World(make_response, service_ns=1_000_000_000), []
    load = ConstantRate(10, 2.0)
    drive(load, world, lambda fresh: seen.extend(fresh) or True)
    assert [scheduled for scheduled, _ in world.sent] == list(load.departures_ns())
    assert len(seen) == 20
    assert max(sent - scheduled for scheduled, sent in world.sent) > 100_000_000


def test_an_open_loop_stops_when_told_to(make_response):
    """`on_responses` is called at each departure; after it returns False no request leaves."""
    world = World(make_response)
    drive(ConstantRate(10, 100.0), world, lambda _: len(world.sent) < 7)
    assert len(world.sent) == 7


def test_constant_departures_do_not_drift():
    """The thousandth request is due at a multiple of the interval, not at a sum of a thousand rounded steps."""
    assert list(ConstantRate(rate_per_s=3, duration_s=1000 / 3).departures_ns())[999] == 333_000_000_000


def test_poisson_is_seeded_and_exponential():
    """The same seed gives the same schedule, and another seed gives another schedule.

    The gaps have the mean and the standard deviation of an exponential distribution.
    """
    load = Poisson(100, 100.0, seed=3)
    due = list(load.departures_ns())
    assert due == list(Poisson(100, 100.0, seed=3).departures_ns())
    assert due != list(Poisson(100, 100.0, seed=4).departures_ns())
    gaps = [b - a for a, b in itertools.pairwise(due)]
    assert statistics.fmean(gaps) == pytest.approx(1e7, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1e7, rel=0.05)
    assert all(0 <= at < 100e9 for at in due)


def test_loads_are_parsed():
    """Schedules are parsed as the option spells them, each once; their names are used in test ids."""
    loads = parse("closed:4, constant:10,poisson:2.5,closed:4", 8.0, 7)
    assert loads == (ClosedLoop(4, 8.0), ConstantRate(10.0, 8.0), Poisson(2.5, 8.0, 7))
    assert [load.name for load in loads] == ["closed4", "constant10", "poisson2.5"]


@pytest.mark.parametrize("text", ["", "closed", "closed:0", "closed:1.5", "poisson:-1", "poisson:nan", "burst:4"])
def test_bad_loads_are_refused(text):
    """The error for a bad load says what was wanted and what was found."""
    with pytest.raises(OptionError, match="--ts-loads as closed:USERS"):
        parse(text, 8.0, 7)


def test_a_ramp_goes_evenly_from_one_rate_to_the_other():
    """Departures follow the integral of the rate.

    Each tenth of the ramp, and the whole ramp, has as many requests as its mean rate says.
    """
    ramp = Ramp(20, 180, 50.0)
    due_s = [due_ns / 1e9 for due_ns in ramp.departures_ns()]
    assert len(due_s) == 100 * 50
    assert due_s == sorted(due_s)
    assert 0 == due_s[0] < due_s[-1] < 50
    for tenth in range(10):
        came = sum(5 * tenth <= at_s < 5 * (tenth + 1) for at_s in due_s)
        assert came == pytest.approx(5 * (20 + 160 * (tenth + 0.5) / 10), abs=1.5)


def test_a_ramp_down_is_a_ramp_up_backwards():
    """A ramp down is a ramp up in reverse, and a ramp between equal rates is a constant rate."""
    up, down = (list(Ramp(*ends, 10.0).departures_ns()) for ends in ((10, 90), (90, 10)))
    assert [10**10 - at_ns for at_ns in reversed(down)][:-1] == pytest.approx(up[1:], abs=2)
    assert list(Ramp(40, 40, 2.0).departures_ns()) == pytest.approx(list(ConstantRate(40, 2.0).departures_ns()), abs=1)
    assert max(Ramp(100, 1e-9, 3.0).departures_ns()) <= 3_000_000_000


@pytest.mark.parametrize("words", ["ramp:5", "ramp:0-5", "ramp:5-0", "ramp:a-b", "ramp:-5-5", "ramp:5-inf"])
def test_what_is_no_ramp_is_said(words):
    """A ramp needs two rates above 0 with a dash between; anything else is refused with its form."""
    assert parse("ramp:5-50", 8.0, 7) == (Ramp(5.0, 50.0, 8.0),)
    with pytest.raises(OptionError, match="ramp:FROM-TO"):
        parse(words, 8.0, 7)
