"""Plant a delay at one place on the way of a request, and see in which stage it is found."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from relay import relay

from pytest_torchserve.loadgen import client, transport
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure.latency_breakdown import Stage, stages
from pytest_torchserve.model import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DELAY_S = 0.02
NOWHERE = "nowhere"
STAGES = {
    "client, before it sends": Stage.LATE,
    "way to the server": Stage.RECEIVE,
    "before": Stage.DISPATCH,
    "preprocess": Stage.PREPROCESS,
    "inference": Stage.INFERENCE,
    "postprocess": Stage.POSTPROCESS,
    "after": Stage.RETURN,
    "encoding": Stage.RETURN,
    "way back": Stage.RETURN,
    "client, before it reads": Stage.CLIENT,
}
"""Place → the stage that it belongs to."""

_IN_CLIENT = {
    "client, before it sends": (client.HttpClient, "_send"),
    "client, before it reads": (transport.SocketTransport, "_readable"),
}
_ON_THE_WAY = ("way to the server", "way back")


@contextmanager
def _blocking(place: str, once_a_batch: list[bool]) -> Iterator[None]:
    """Block the client's loop before the first request, or the first answer, of each batch."""
    if place not in _IN_CLIENT:
        yield
        return
    kind, name = _IN_CLIENT[place]
    plain = getattr(kind, name)

    def blocked(self: Any, *args: Any) -> None:
        if once_a_batch:
            once_a_batch.clear()
            time.sleep(DELAY_S)
        plain(self, *args)

    setattr(kind, name, blocked)
    try:
        yield
    finally:
        setattr(kind, name, plain)


def send(
    endpoint: Any, port: int, batches: int, bodies: Sequence[bytes], place: str = NOWHERE
) -> list[dict[Stage, float]]:
    """Send full batches through the relay, one at a time; return the stages of each request, in seconds."""
    address, responses, fresh = endpoint.server.address, [], [True]

    def on_responses(answers: Sequence[Any]) -> bool:
        responses.extend(answers)
        fresh[:] = [True]
        return len(responses) < batches * len(bodies)

    samples = [Sample(str(number), body, None) for number, body in enumerate(bodies)]
    offset = endpoint.log_offset()
    with _blocking(place, fresh):
        there = Address("127.0.0.1", port, address.key)
        client.send(there, endpoint.path, samples, FullBatches(len(bodies)), on_responses, MonotonicClock())
    pairs = [(response, ProbeReport.of(response)) for response in responses]
    logged = endpoint.frontend_times(offset, {report.request_id for _, report in pairs if report})
    return [stages(response, report, logged[report.request_id]) for response, report in pairs if report]


def measure(endpoint: Any, size: int, rounds: int, batches: int) -> dict[str, dict[str, float]]:
    """Return where a planted delay is found: place → stage → share of the delay.

    Each round sends a few batches with the delay at each place, and as many without. A stage's share is the median
    difference to the same round's batches without, as a share of the delay.
    """
    found: dict[str, dict[Stage, list[float]]] = {place: defaultdict(list) for place in STAGES}
    with relay(endpoint.server.address.port) as (port, delays):
        send(endpoint, port, 10, [b"warm up"] * size)
        for _ in range(rounds):
            rows = {place: _with_delay(endpoint, port, delays, place, size, batches) for place in (NOWHERE, *STAGES)}
            for place in STAGES:
                for stage in Stage:
                    apart = (_middle(rows[place], stage) - _middle(rows[NOWHERE], stage)) / DELAY_S
                    found[place][stage].append(apart)
    return {
        place: {stage.value: round(statistics.median(shares), 4) for stage, shares in by_stage.items()}
        for place, by_stage in found.items()
    }


def _with_delay(endpoint: Any, port: int, delays: Any, place: str, size: int, batches: int) -> list[dict[Stage, float]]:
    """Send batches with a delay at one place."""
    if place in _ON_THE_WAY:
        delays[_ON_THE_WAY.index(place)] = DELAY_S
    else:
        send(endpoint, port, 1, [f"plant:{place}".encode()] * size)
    try:
        return send(endpoint, port, batches, [b"x"] * size, place)
    finally:
        delays[:] = [0.0, 0.0]
        send(endpoint, port, 1, [f"plant:{NOWHERE}".encode()] * size)


def _middle(rows: Sequence[dict[Stage, float]], stage: Stage) -> float:
    return statistics.median(row.get(stage, 0.0) for row in rows)
