"""A stub server that always sends one recorded response: much faster than TorchServe, and the same to our client."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.client import encode
from pytest_torchserve.loadgen.process_tuning import loop_factory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from pytest_torchserve.model import Sample

_HOST = "127.0.0.1"


class _Answering(asyncio.Protocol):
    """A connection on which every `request_bytes` bytes are a request and get the answer."""

    def __init__(self, request_bytes: int, answer: bytes) -> None:
        self._request_bytes = request_bytes
        self._answer = answer
        self._pending_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        while self._pending_bytes >= self._request_bytes:
            self._pending_bytes -= self._request_bytes
            self._transport.write(self._answer)


def _serve(pipe: Connection, path: str, sample: Sample, answer: bytes) -> None:
    """Send the address, then answer until the other end of the pipe is closed, even by a parent that was killed."""

    async def serve() -> None:
        loop, listener = asyncio.get_running_loop(), socket.create_server((_HOST, 0))
        address = Address(_HOST, listener.getsockname()[1])
        request_bytes = len(encode(address, path, sample))
        server = await loop.create_server(lambda: _Answering(request_bytes, answer), sock=listener)
        pipe.send(address)
        over = asyncio.Event()
        loop.add_reader(pipe.fileno(), over.set)
        await over.wait()
        server.close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


@contextlib.contextmanager
def running(path: str, sample: Sample, answer: bytes) -> Iterator[Address]:
    """Run the stub in a process of its own as long as the context lasts; yield its address."""
    fresh = multiprocessing.get_context("spawn")
    here, there = fresh.Pipe()
    process = fresh.Process(target=_serve, args=(there, path, sample, answer))
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join()
