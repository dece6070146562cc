"""A relay in a process of its own, which passes connections on and can hold what passes for a while."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


def _pass_on(source: socket.socket, target: socket.socket, delays: Any, way: int) -> None:
    with contextlib.suppress(OSError), source, target:
        while data := source.recv(_CHUNK):
            if delays[way]:
                time.sleep(delays[way])
            target.sendall(data)


def _serve(listener: socket.socket, port: int, delays: Any) -> None:
    while True:
        near = listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", port))
        for way, pair in enumerate(((near, far), (far, near))):
            for one in pair:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pass_on, args=(*pair, delays, way), daemon=True).start()


@contextmanager
def relay(port: int) -> Iterator[tuple[int, Any]]:
    """Listen on a port that leads to this one; yield it, and the seconds that each way takes: there, and back."""
    context = multiprocessing.get_context("fork")
    delays = context.Array("d", [0.0, 0.0], lock=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = context.Process(target=_serve, args=(listener, port, delays), daemon=True)
        process.start()
        try:
            yield listener.getsockname()[1], delays
        finally:
            process.kill()
            process.join()
