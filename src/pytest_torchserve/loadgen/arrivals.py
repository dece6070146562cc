"""Open loops: requests leave at scheduled times, whatever the server does."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_torchserve.loadgen.schedule import OnResponses, Send, drive_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_torchserve.loadgen.clock import Clock


class OpenLoop(ABC):
    """A schedule of departures that does not depend on the server's answers.

    Attributes:
        steady: True where the rate is the same throughout. Figures of a load whose rate changes are reported by time
            slice, and the rules about a steady state do not apply to it.
    """

    __slots__ = ()
    steady: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in test ids."""

    @property
    @abstractmethod
    def mean_rate_per_s(self) -> float:
        """The mean number of requests per second."""

    @abstractmethod
    def departures_ns(self) -> Iterator[int]:
        """Yield the departure of each request, in nanoseconds since the load began."""

    async def drive(self, send: Send, on_responses: OnResponses, clock: Clock) -> None:
        """Send each request at its departure, then wait for the answers."""
        await drive_open(self.departures_ns(), send, on_responses, clock)


@dataclass(frozen=True, slots=True)
class ConstantRate(OpenLoop):
    """An open loop with one request every 1 / `rate_per_s` seconds for `duration_s`."""

    rate_per_s: float
    duration_s: float

    @property
    def name(self) -> str:
        """The name in test ids."""
        return f"constant{self.rate_per_s:g}"

    @property
    def mean_rate_per_s(self) -> float:
        """The rate itself."""
        return self.rate_per_s

    @property
    def requests(self) -> int:
        """The number of requests."""
        return max(1, round(self.rate_per_s * self.duration_s))

    def departures_ns(self) -> Iterator[int]:
        """Return the multiples of the interval; intervals are not summed, so rounding errors do not add up."""
        return (round(index * 1e9 / self.rate_per_s) for index in range(self.requests))


@dataclass(frozen=True, slots=True)
class Poisson(OpenLoop):
    """An open loop like many independent users: exponential gaps of mean 1 / `rate_per_s`, for `duration_s`.

    The same seed gives the same departures (the server scenario of MLPerf LoadGen draws its schedule in the same way).
    """

    rate_per_s: float
    duration_s: float
    seed: int = 1

    @property
    def name(self) -> str:
        """The name in test ids."""
        return f"poisson{self.rate_per_s:g}"

    @property
    def mean_rate_per_s(self) -> float:
        """The rate itself."""
        return self.rate_per_s

    def departures_ns(self) -> Iterator[int]:
        """Return the departures that the seed gives."""
        gaps = random.Random(self.seed)  # noqa: S311 - a schedule, no secret
        end_ns = self.duration_s * 1e9
        due = itertools.accumulate(gaps.expovariate(self.rate_per_s) * 1e9 for _ in itertools.count())
        return (round(due_ns) for due_ns in itertools.takewhile(lambda due_ns: due_ns < end_ns, due))


@dataclass(frozen=True, slots=True)
class Ramp(OpenLoop):
    """An open loop whose rate changes linearly from `from_per_s` to `to_per_s` in `duration_s`."""

    from_per_s: float
    to_per_s: float
    duration_s: float

    steady: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name in test ids."""
        return f"ramp{self.from_per_s:g}-{self.to_per_s:g}"

    @property
    def mean_rate_per_s(self) -> float:
        """The mean of both rates."""
        return (self.from_per_s + self.to_per_s) / 2

    def departures_ns(self) -> Iterator[int]:
        """Yield the times at which the number of requests so far, the integral of the rate, is a whole number.

        With the rate a + (b - a)·t/T the number is n(t) = a·t + (b - a)·t²/(2T), and so
        t = 2n / (a + √(a² + 2n·(b - a)/T)), which holds for a = b, too.
        """
        slope_per_s2 = (self.to_per_s - self.from_per_s) / self.duration_s
        for index in range(max(1, round(self.mean_rate_per_s * self.duration_s))):
            # At the end of a ramp down to 0, rounding can make the number under the root negative.
            root = max(0.0, self.from_per_s**2 + 2 * index * slope_per_s2) ** 0.5
            yield round(2 * index / (self.from_per_s + root) * 1e9) if index else 0
