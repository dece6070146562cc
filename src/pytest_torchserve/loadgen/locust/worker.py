"""A worker: `python -m pytest_torchserve.loadgen.locust.worker HOST:PORT`, where the master listens.

The worker sends its part of each load, and ends when the master does (at the latest 15 s after the master's last
heartbeat). The messages to the worker include the server's token, which Locust's connection does not encrypt.

`LocustEngine` starts the worker without an argument: the worker then reads the address from standard input, as the
master chooses its port while this process still loads Locust, and ends when standard input does.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import select
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import gevent
import locust  # noqa: F401 - replaces the sockets of what is imported below

from pytest_torchserve import __version__
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.locust import protocol
from pytest_torchserve.loadgen.locust.exchange import Destination
from pytest_torchserve.loadgen.locust.partition import Part
from pytest_torchserve.loadgen.locust.protocol import MessageKind
from pytest_torchserve.loadgen.locust.users import ClosedUser, OpenUser, WorkerEnvironment
from pytest_torchserve.model import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from locust.rpc import Message
    from locust.runners import WorkerRunner

REPORT_EVERY_S = 0.25
MASTER_SILENT_S = 15.0
_LOOK_EVERY_S = 1.0
_GOODBYE_S = 0.2


class LoadWorker:
    """A worker that executes the master's commands."""

    def __init__(self, environment: WorkerEnvironment, runner: WorkerRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._destination: Destination | None = None
        self._part: Part | None = None
        self._failed = False
        environment.events.user_error.add_listener(self._user_error)
        for kind, listener in (
            (MessageKind.PREPARE, self._prepare),
            (MessageKind.GO, self._go),
            (MessageKind.STOP, self._stop),
        ):
            runner.register_message(kind, self._guarded(listener))
        runner.send_message(MessageKind.HELLO, {"boot_id": protocol.boot_id(), "version": __version__})

    def _guarded(self, listener: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        """Return a listener that reports errors to pytest's process; Locust would only log them."""

        def guarded(msg: Message, **_: object) -> None:
            try:
                listener(msg.data)
            except Exception:  # noqa: BLE001 - reported as it is
                self._fail(traceback.format_exc())

        return guarded

    def _fail(self, words: str) -> None:
        """Report a failure, only once: the first report ends all processes; until then every request may fail alike."""
        if self._failed:
            return
        self._failed = True
        self._runner.send_message(MessageKind.FAILED, {"traceback": words})

    def _user_error(self, exception: BaseException, **_: object) -> None:
        self._fail("".join(traceback.format_exception(exception)))

    def _prepare(self, data: dict[str, Any]) -> None:
        """Take address and samples, which have their own message, since bodies are large and loads start on time."""
        self._destination = Destination(
            Address(**data["address"]),
            data["path"],
            [
                Sample(str(index), body, None, content_type=kind, headers=headers)
                for index, (kind, body, headers) in enumerate(data["samples"])
            ],
            data["timeout_s"],
            self._environment.events.request,
        )
        # All present objects stay alive: during a load the garbage collector should check only new objects.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._runner.send_message(MessageKind.READY, {"number": data["number"]})

    def _go(self, data: dict[str, Any]) -> None:
        """Start this worker's part. On a host with another clock, the load starts `lead_ns` after this message came."""
        assert self._destination is not None  # noqa: S101 - the master sends that first
        start_ns, shift_ns = data["start_ns"], 0
        if data["boot_id"] != protocol.boot_id():
            start_ns = time.monotonic_ns() + data["lead_ns"]
            shift_ns = data["start_ns"] - start_ns
        self._part = Part(
            number=data["number"],
            destination=self._destination,
            start_ns=start_ns,
            end_ns=start_ns + data["duration_ns"],
            first=data["first"],
            step=data["step"],
            users=data["users"],
            departures_ns=data["departures_ns"],
            shift_ns=shift_ns,
        )
        gevent.spawn(self._guarded_run, self._part)

    def _stop(self, data: dict[str, Any]) -> None:
        """Kill the users; each killed greenlet reports its request as unanswered."""
        if self._part is not None and self._part.number == data["number"]:
            self._part.over = True
            self._runner.user_greenlets.kill(block=False)

    def _guarded_run(self, part: Part) -> None:
        try:
            self._run(part)
        except Exception:  # noqa: BLE001 - reported as it is
            self._fail(traceback.format_exc())

    def _run(self, part: Part) -> None:
        """Run the Locust users, from their start to the last response."""
        environment, runner = self._environment, self._runner
        environment.part = part
        runner.stats.clear_all()
        environment.events.test_start.fire(environment=environment)
        if not part.over and part.users:
            runner.spawn_users({OpenUser.__name__ if part.open else ClosedUser.__name__: part.users})
        environment.events.spawning_complete.fire(user_count=runner.user_count)
        while not runner.user_greenlets.join(timeout=REPORT_EVERY_S):
            self._report(part)
        runner.stop()  # fires test_stopping and test_stop
        self._report(part)
        part.destination.close()
        runner.send_message(MessageKind.DONE, {"number": part.number, "count": part.count})

    def _report(self, part: Part) -> None:
        fresh = part.fresh[:]
        part.fresh.clear()
        if fresh:
            batch = protocol.pack_responses(fresh, part.shift_ns)
            self._runner.send_message(MessageKind.BATCH, {"number": part.number, "batch": batch})


def _leave() -> None:
    """Exit at once: closing zmq would wait for a master that is gone."""
    sys.stderr.flush()
    os._exit(0)


def _leave_with_parent() -> None:
    """Exit with the parent process.

    Nothing more is written to standard input, so it becomes readable only when it is closed.
    """
    parent = os.getppid()
    while os.getppid() == parent and not select.select([0], [], [], _LOOK_EVERY_S)[0]:
        pass
    _leave()


def _leave_with_master(environment: WorkerEnvironment) -> None:
    """Exit when the master, which answers one heartbeat a second, is silent. Locust itself would wait for a minute."""
    heard_s = time.monotonic()

    def heard(**_: object) -> None:
        nonlocal heard_s
        heard_s = time.monotonic()

    environment.events.heartbeat_received.add_listener(heard)
    while time.monotonic() - heard_s < MASTER_SILENT_S:
        gevent.sleep(_LOOK_EVERY_S)
    sys.stderr.write(f"the master has been silent for {MASTER_SILENT_S:g} s\n")
    _leave()


def main(arguments: Sequence[str]) -> None:
    """Serve one master until the master or the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m pytest_torchserve.loadgen.locust.worker")
    parser.add_argument("master", nargs="?", metavar="HOST:PORT", help="where the master listens")
    place = parser.parse_args(arguments).master
    if place is None:
        place = sys.stdin.readline().strip()
        gevent.spawn(_leave_with_parent)
        if not place:
            _leave()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # each request in flight takes a connection
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    environment = WorkerEnvironment(user_classes=[ClosedUser, OpenUser])
    runner = environment.create_worker_runner(*protocol.split_address(place))
    gevent.spawn(_leave_with_master, environment)
    LoadWorker(environment, runner)
    try:
        runner.greenlet.join()  # until the master sends quit
    except KeyboardInterrupt:
        environment.events.quitting.fire(environment=environment, reverse=True)  # notifies the master
        gevent.sleep(_GOODBYE_S)
    _leave()


if __name__ == "__main__":
    main(sys.argv[1:])
