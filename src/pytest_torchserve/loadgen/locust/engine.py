"""`LocustEngine` spreads a load over Locust workers. It runs in pytest's process, without gevent."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.locust import protocol
from pytest_torchserve.loadgen.locust.partition import partition
from pytest_torchserve.loadgen.locust.processes import ANSWER_S, LocustError, Processes
from pytest_torchserve.loadgen.locust.protocol import Kind
from pytest_torchserve.loadgen.schedule import FullBatches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.loadgen.clock import Clock
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.loadgen.schedule import OnResponses, Schedule
    from pytest_torchserve.model import Sample

__all__ = ["LocustEngine", "LocustError"]

JOIN_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.25
_LEAD_S = 0.1


@dataclass(slots=True)
class _Tally:
    """Workers that are done, the responses that they say they had, and those that arrived."""

    done: int = 0
    promised: int = 0
    received: int = 0


class LocustEngine:
    """Sends loads from several processes; an `endpoint.Engine`, and a context manager.

    A load that fails, and one that `on_responses` breaks off by an exception, ends the processes; the next load starts
    them anew. Workers on other machines end with their master and must then be started again by hand.

    Args:
        workers: how many processes send.
        master: `HOST:PORT` to listen on for workers that others start; None starts them here.
        timeout_s: after which a request is given up, counted from when it was taken up.
        join_timeout_s: how long to wait for the workers.
    """

    def __init__(
        self,
        workers: int,
        master: str | None = None,
        *,
        timeout_s: float = client.TIMEOUT_S,
        join_timeout_s: float = JOIN_TIMEOUT_S,
    ) -> None:
        self.workers = workers
        self.timeout_s = timeout_s
        self._processes = Processes(workers, master, join_timeout_s)
        self._number = 0

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def one_clock(self) -> bool:
        """Whether all workers share this host's monotonic clock, so that their times are exact among ours."""
        return set(self._processes.boots.values()) <= {protocol.boot_id()}

    @property
    def command(self) -> str:
        """What starts a worker by hand, on a machine that has pytest-torchserve and Locust."""
        return self._processes.command

    def start(self) -> None:
        """Start the master and, where they are ours, the workers; return when all are there.

        Raises:
            LocustError: they are not; nothing is left running.
        """
        self._processes.start()

    def close(self) -> None:
        """End all that was started; workers elsewhere are told to end."""
        self._processes.close()

    def __call__(
        self,
        address: Address,
        path: str,
        samples: Sequence[Sample],
        schedule: Schedule,
        on_responses: OnResponses,
        clock: Clock,
    ) -> None:
        """Drive one load to its end. Full batches are a stopwatch and no traffic: they leave from this process.

        Raises:
            LocustError: a process ended, fell silent, or lost responses.
        """
        if isinstance(schedule, FullBatches):
            client.send(address, path, samples, schedule, on_responses, clock, self.timeout_s)
            return
        self._processes.wanted = f"{schedule.name} at {address.url}{path} from {self.workers} Locust workers"
        self.start()
        parts = partition(schedule, self.workers)
        if not parts:
            self._processes.fail(
                f"a {type(schedule).__name__}", "give Locust a closed or an open loop; it knows no others"
            )
        try:
            self._prepare(address, path, samples)
            end_s = self._go(parts)
            self._collect(on_responses, samples, end_s + self.timeout_s + ANSWER_S)
        except BaseException:
            self.close()
            raise

    def _prepare(self, address: Address, path: str, samples: Sequence[Sample]) -> None:
        """Tell the workers where to send what, and wait until they know: the load then starts for all at once."""
        self._number += 1
        prepare = {
            "number": self._number,
            "address": dataclasses.asdict(address),
            "path": path,
            "samples": [(sample.content_type, sample.body) for sample in samples],
            "timeout_s": self.timeout_s,
        }
        self._processes.tell(Kind.PREPARE, [prepare] * self.workers)
        ready = 0
        for messages in self._processes.turns(time.monotonic() + ANSWER_S):
            ready += sum(message.kind == Kind.READY for message in messages)
            if ready == self.workers:
                return

    def _go(self, parts: Sequence[dict[str, Any]]) -> float:
        """Start the load in a moment; returns when requests stop leaving, monotonic."""
        lead_ns = round(_LEAD_S * 1e9)
        start_ns = time.monotonic_ns() + lead_ns
        common = {"number": self._number, "boot_id": protocol.boot_id(), "start_ns": start_ns, "lead_ns": lead_ns}
        self._processes.tell(Kind.GO, [common | part for part in parts])
        return float(start_ns + parts[0]["duration_ns"]) / 1e9

    def _collect(self, on_responses: OnResponses, samples: Sequence[Sample], deadline_s: float) -> None:
        """Show every response as it comes; after a no those that are left, at once and without asking."""
        tally, going = _Tally(), True
        rest: list[Response] = []
        while tally.done < self.workers:
            fresh = self._hear(tally, samples)
            if not going:
                rest += fresh
            elif not on_responses(fresh):
                going, deadline_s = False, time.monotonic() + ANSWER_S
                self._processes.tell(Kind.STOP, [{"number": self._number}] * self.workers)
            if time.monotonic() > deadline_s:
                self._processes.fail("the workers do not come to an end", "report it")
        if rest:
            on_responses(rest)
        if tally.received != tally.promised:
            self._processes.fail(f"{tally.promised} responses, of which {tally.received} arrived", "report it")

    def _hear(self, tally: _Tally, samples: Sequence[Sample]) -> list[Response]:
        """The responses of the next quarter of a second, or of what was left of the load."""
        fresh: list[Response] = []
        look_s = time.monotonic() + LOOK_EVERY_S
        while tally.done < self.workers and time.monotonic() < look_s:
            for message in self._processes.turn(look_s):
                if message.kind == Kind.BATCH:
                    fresh += protocol.unpack_responses(message.data["batch"], samples)
                elif message.kind == Kind.DONE:
                    tally.done += 1
                    tally.promised += message.data["count"]
        tally.received += len(fresh)
        return fresh
