"""The master: `python -m pytest_torchserve.loadgen.locust.master HOST:PORT`, started by `LocustEngine` alone.

Locust's master as a library. It passes messages on: commands from standard input to the workers, what the workers
say to standard output, and adds who is gone. The end of standard input is its own end, and the workers'.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.os
from gevent.queue import Queue
from locust.env import Environment
from locust.runners import STATE_MISSING

from pytest_torchserve.loadgen.locust import protocol
from pytest_torchserve.loadgen.locust.protocol import FROM_WORKERS, Frames, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from locust.rpc import Message
    from locust.runners import MasterRunner

_BEAT_EVERY_S = 1.0
_READ_BYTES = 1 << 20
_LOST_BEATS = -10
"""So far Locust counts down, once a second from 3, before a worker that says nothing counts as lost.

Local ones are seen to end by the process that started them; this is for those elsewhere, where a pause of some
seconds may be the network's.
"""


class Relay:
    """Between pytest's process and the workers.

    Args:
        runner: Locust's master.
        out: the descriptor to write to.
    """

    def __init__(self, runner: MasterRunner, out: int) -> None:
        self._runner = runner
        self._out = out
        self._waiting: Queue[protocol.Message] = Queue()
        self._workers: set[str] = set()
        for kind in FROM_WORKERS:
            runner.register_message(kind, self._pass_on)

    def put(self, kind: Kind, worker: str = "", **data: Any) -> None:
        """Say something to pytest's process, without waiting for it to listen."""
        self._waiting.put(protocol.Message(kind, worker, data))

    def _pass_on(self, msg: Message, **_: object) -> None:
        if msg.type == Kind.HELLO:
            self._workers.add(msg.node_id)
        self._waiting.put(protocol.Message(msg.type, msg.node_id, msg.data))

    def write(self) -> None:
        """Write what is waiting, for ever."""
        gevent.os.make_nonblocking(self._out)
        while True:
            left = memoryview(protocol.frame(self._waiting.get()))
            while left:
                left = left[gevent.os.nb_write(self._out, left) :]

    def beat(self) -> None:
        """Say every second that we live, and who does not."""
        while True:
            clients = self._runner.clients
            for worker in sorted(self._workers):
                node = clients.get(worker)
                if node is None or (node.state == STATE_MISSING and node.heartbeat <= _LOST_BEATS):
                    self._workers.discard(worker)
                    self.put(Kind.LOST, worker)
            self.put(Kind.BEAT, sent_ns=time.monotonic_ns())
            gevent.sleep(_BEAT_EVERY_S)

    def obey(self) -> None:
        """Pass commands on until standard input ends."""
        frames = Frames()
        gevent.os.make_nonblocking(0)
        while data := gevent.os.nb_read(0, _READ_BYTES):
            for message in frames.feed(data):
                self._runner.send_message(message.kind, message.data, message.worker)


def main(arguments: Sequence[str]) -> None:
    """Listen there until our owner is gone."""
    host, port = protocol.split_address(arguments[0])
    # Standard output is for frames alone; what others print goes where errors go.
    out = os.dup(1)
    os.dup2(2, 1)
    runner = Environment().create_master_runner(host, port)
    relay = Relay(runner, out)
    relay.put(Kind.LISTENING, port=runner.server.port)
    for service in (relay.write, relay.beat):
        gevent.spawn(service).link_exception(lambda _: os._exit(1))
    relay.obey()
    runner.quit()  # tells the workers, and leaves them half a second to hear it
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
