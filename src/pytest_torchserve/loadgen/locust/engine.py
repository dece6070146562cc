"""`LocustEngine`, which spreads a load over Locust workers and runs in pytest's process, without gevent."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.locust import protocol
from pytest_torchserve.loadgen.locust.partition import partition
from pytest_torchserve.loadgen.locust.processes import ANSWER_S, LocustError, Processes
from pytest_torchserve.loadgen.locust.protocol import MessageKind
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
    """The number of workers that are done, of responses that they announced, and of responses that arrived."""

    done: int = 0
    promised: int = 0
    received: int = 0


class LocustEngine:
    """A `target.Engine` that sends loads from several processes; a context manager.

    A load that fails, or that an exception from `on_responses` breaks off, ends the processes; the next load starts
    new ones. Workers on other machines end with their master and must then be started again by hand.

    Args:
        workers: the number of processes that send.
        master: `HOST:PORT` to listen on for workers that are started by hand; None starts the workers here.
        join_timeout_s: how long to wait until the workers have joined.
    """

    def __init__(
        self,
        workers: int,
        master: str | None = None,
        *,
        join_timeout_s: float = JOIN_TIMEOUT_S,
    ) -> None:
        self.workers = workers
        self._processes = Processes(workers, master, join_timeout_s)
        self._number = 0

    def __enter__(self) -> Self:
        """Start the processes."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes."""
        self.close()

    @property
    def one_clock(self) -> bool:
        """True when all workers share this host's monotonic clock, so that their times are exact on this host."""
        return set(self._processes.boots.values()) <= {protocol.boot_id()}

    @property
    def command(self) -> str:
        """The command that starts a worker by hand, on a machine that has pytest-torchserve and Locust."""
        return self._processes.command

    def start(self) -> None:
        """Start the master and, unless they are started by hand, the workers; return when all have joined.

        Raises:
            LocustError: not all workers joined; no process is left running.
        """
        self._processes.start()

    def close(self) -> None:
        """End all started processes, and the workers on other machines."""
        self._processes.close()

    def __call__(
        self,
        address: Address,
        path: str,
        samples: Sequence[Sample],
        schedule: Schedule,
        on_responses: OnResponses,
        clock: Clock,
        timeout_s: float,
    ) -> None:
        """Run one schedule to its end. This process sends full batches itself, as they time batches and are no traffic.

        Args:
            timeout_s: after which a request is given up, counted from `Response.begun_ns`.

        Raises:
            LocustError: a process ended, stopped responding, or lost responses.
        """
        if isinstance(schedule, FullBatches):
            client.send(address, path, samples, schedule, on_responses, clock, timeout_s)
            return
        self._processes.wanted = f"{schedule.name} at {address.url}{path} from {self.workers} Locust workers"
        self.start()
        parts = partition(schedule, self.workers)
        if not parts:
            self._processes.fail(
                f"a {type(schedule).__name__}", "give Locust a closed or an open loop; it knows no others"
            )
        try:
            self._prepare(address, path, samples, timeout_s)
            end_s = self._go(parts)
            self._collect(on_responses, samples, end_s + timeout_s + ANSWER_S)
        except BaseException:
            self.close()
            raise

    def _prepare(self, address: Address, path: str, samples: Sequence[Sample], timeout_s: float) -> None:
        """Send address and samples to the workers and wait until all are ready, so that all start at the same time."""
        self._number += 1
        prepare = {
            "number": self._number,
            "address": dataclasses.asdict(address),
            "path": path,
            "samples": [(sample.content_type, sample.body, dict(sample.headers)) for sample in samples],
            "timeout_s": timeout_s,
        }
        self._processes.tell(MessageKind.PREPARE, [prepare] * self.workers)
        ready = 0
        for messages in self._processes.turns(time.monotonic() + ANSWER_S):
            ready += sum(message.kind == MessageKind.READY for message in messages)
            if ready == self.workers:
                return

    def _go(self, parts: Sequence[dict[str, Any]]) -> float:
        """Start the load after a short lead; return when requests stop leaving, in monotonic seconds."""
        lead_ns = round(_LEAD_S * 1e9)
        start_ns = time.monotonic_ns() + lead_ns
        common = {"number": self._number, "boot_id": protocol.boot_id(), "start_ns": start_ns, "lead_ns": lead_ns}
        self._processes.tell(MessageKind.GO, [common | part for part in parts])
        return float(start_ns + parts[0]["duration_ns"]) / 1e9

    def _collect(self, on_responses: OnResponses, samples: Sequence[Sample], deadline_s: float) -> None:
        """Show responses as they come; once `on_responses` returns False, stop and show the rest in one call."""
        tally, going = _Tally(), True
        rest: list[Response] = []
        while tally.done < self.workers:
            fresh = self._hear(tally, samples)
            if not going:
                rest += fresh
            elif not on_responses(fresh):
                going, deadline_s = False, time.monotonic() + ANSWER_S
                self._processes.tell(MessageKind.STOP, [{"number": self._number}] * self.workers)
            if time.monotonic() > deadline_s:
                self._processes.fail("the workers do not come to an end", "report it")
        if rest:
            on_responses(rest)
        if tally.received != tally.promised:
            self._processes.fail(f"{tally.promised} responses, of which {tally.received} arrived", "report it")

    def _hear(self, tally: _Tally, samples: Sequence[Sample]) -> list[Response]:
        """Return the responses of the next quarter of a second, or of the rest of the load if that is shorter."""
        fresh: list[Response] = []
        look_s = time.monotonic() + LOOK_EVERY_S
        while tally.done < self.workers and time.monotonic() < look_s:
            for message in self._processes.turn(look_s):
                if message.kind == MessageKind.BATCH:
                    fresh += protocol.unpack_responses(message.data["batch"], samples)
                elif message.kind == MessageKind.DONE:
                    tally.done += 1
                    tally.promised += message.data["count"]
        tally.received += len(fresh)
        return fresh
