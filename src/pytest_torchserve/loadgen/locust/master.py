"""The master: `python -m pytest_torchserve.loadgen.locust.master HOST:PORT`, started only by `LocustEngine`.

The master uses Locust's master as a library. It passes commands from standard input to the workers and messages of the
workers to standard output, and adds messages about lost workers. The end of standard input ends the master and the
workers.
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
from pytest_torchserve.loadgen.locust.protocol import FROM_WORKERS, Frames, MessageKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from locust.rpc import Message
    from locust.runners import MasterRunner

_BEAT_EVERY_S = 1.0
_READ_BYTES = 1 << 20
_LOST_BEATS = -10
"""The value to which Locust counts down, once a second from 3, before a silent worker counts as lost.

The end of a local worker is noticed by the process that started it. This limit is for workers on other machines, where
the network may cause a pause of some seconds.
"""


class Relay:
    """A relay between pytest's process and the workers.

    Args:
        runner: Locust's master.
        out: the file descriptor to write to.
    """

    def __init__(self, runner: MasterRunner, out: int) -> None:
        self._runner = runner
        self._out = out
        self._waiting: Queue[protocol.Message] = Queue()
        self._workers: set[str] = set()
        for kind in FROM_WORKERS:
            runner.register_message(kind, self._pass_on)

    def put(self, kind: MessageKind, worker: str = "", **data: Any) -> None:
        """Queue a message to pytest's process, without waiting until it is read."""
        self._waiting.put(protocol.Message(kind, worker, data))

    def _pass_on(self, msg: Message, **_: object) -> None:
        if msg.type == MessageKind.HELLO:
            self._workers.add(msg.node_id)
        self._waiting.put(protocol.Message(msg.type, msg.node_id, msg.data))

    def write(self) -> None:
        """Write queued messages, for ever."""
        gevent.os.make_nonblocking(self._out)
        while True:
            left = memoryview(protocol.frame(self._waiting.get()))
            while left:
                left = left[gevent.os.nb_write(self._out, left) :]

    def beat(self) -> None:
        """Report every second that the master is alive, and which workers are lost."""
        while True:
            clients = self._runner.clients
            for worker in sorted(self._workers):
                node = clients.get(worker)
                if node is None or (node.state == STATE_MISSING and node.heartbeat <= _LOST_BEATS):
                    self._workers.discard(worker)
                    self.put(MessageKind.LOST, worker)
            self.put(MessageKind.BEAT, sent_ns=time.monotonic_ns())
            gevent.sleep(_BEAT_EVERY_S)

    def obey(self) -> None:
        """Pass commands on to the workers until standard input ends."""
        frames = Frames()
        gevent.os.make_nonblocking(0)
        while data := gevent.os.nb_read(0, _READ_BYTES):
            for message in frames.feed(data):
                self._runner.send_message(message.kind, message.data, message.worker)


def main(arguments: Sequence[str]) -> None:
    """Listen at the address until the parent process is gone."""
    host, port = protocol.split_address(arguments[0])
    # Standard output is for frames alone; anything that libraries print goes to standard error.
    out = os.dup(1)
    os.dup2(2, 1)
    runner = Environment().create_master_runner(host, port)
    relay = Relay(runner, out)
    relay.put(MessageKind.LISTENING, port=runner.server.port)
    for service in (relay.write, relay.beat):
        gevent.spawn(service).link_exception(lambda _: os._exit(1))
    relay.obey()
    runner.quit()  # notifies the workers, and gives them half a second to receive the message
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
