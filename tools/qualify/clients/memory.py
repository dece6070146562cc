"""The memory and the time that keeping many responses takes, each size in a fresh process."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil

from clients import stub
from clients.ours import cpu_s
from pytest_torchserve.errors import MeasurementError
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.schedule import ClosedLoop, FullBatches
from pytest_torchserve.measure import traffic
from pytest_torchserve.measure.check import Checker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.service import Deployed
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.model import Sample

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
_CONNECTIONS = 16
_WARM_UP = 64


def recorded(deployed: Deployed) -> bytes:
    """Return one whole response of the real server, as it came over the wire."""
    kept: list[Response] = []
    endpoint, samples = deployed.endpoint, deployed.inputs.samples

    def on_responses(fresh: Sequence[Response]) -> bool:
        kept.extend(fresh)
        return False

    client.send(endpoint.server.address, endpoint.path, samples, ClosedLoop(1, 10.0), on_responses, MonotonicClock())
    answer = kept[0]
    if int(answer.headers.get("content-length", -1)) != len(answer.body):
        raise MeasurementError(
            wanted="an answer with its length, to be repeated byte for byte",
            found=repr(answer),
            do="see whether TorchServe answers in chunks now; then the stub must too",
        )
    return answer.head + b"\r\n\r\n" + answer.body


def measure(deployed: Deployed, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Measure each size; return the figures, and how far they are from growing linearly with the size."""
    path, sample = deployed.endpoint.path, deployed.inputs.samples[0]
    with stub.running(path, sample, recorded(deployed)) as address:
        rows = [_in_fresh_process(address, path, sample, deployed.deployment, size) for size in sizes]
    grown = ("rss_mb", "rss_checked_mb", "send_s", "check_cpu_s")
    return {"sizes": rows, "off_the_line": {name: off_the_line(rows, name) for name in grown}}


def off_the_line(rows: Sequence[dict[str, float]], name: str) -> float:
    """Return the largest distance from the fitted line, as a share of the largest value; 0.2 for growth with n².

    A slope on logarithmic axes would not do: the first responses use memory that the interpreter has freed, which moves
    the line of the memory and does not bend it.
    """
    sizes, values = [row["responses"] for row in rows], [row[name] for row in rows]
    line = statistics.linear_regression(sizes, values)
    distances = (abs(value - line.intercept - line.slope * size) for size, value in zip(sizes, values, strict=True))
    return max(distances) / max(values)


def _in_fresh_process(*job: Any) -> dict[str, float]:
    """Measure one size in a fresh process: a used process would reuse the memory of earlier responses."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_keep, *job).result()


def _keep(address: Address, path: str, sample: Sample, deployment: Deployment, size: int) -> dict[str, float]:
    """Send, keep and check `size` requests; return the memory and the time that each step took."""
    samples = (sample,)
    _send(address, path, samples, _WARM_UP)  # what a client takes, however many responses it keeps
    rss_mb = [_rss_mb()]
    start_s, start_cpu_s = time.monotonic(), cpu_s()
    kept = _send(address, path, samples, size)
    send_s, sent_cpu_s = time.monotonic() - start_s, cpu_s()
    rss_mb.append(_rss_mb())
    checker, before_s = Checker.for_cell(deployment), cpu_s()
    judged = traffic.judged(kept, checker)
    check_cpu_s = cpu_s() - before_s
    rss_mb.append(_rss_mb())
    if len(judged) < len(kept):
        raise RuntimeError(checker.evidence.wrong[:3])  # a SuiteError cannot travel between processes
    return {
        "responses": len(kept),
        "rss_mb": rss_mb[1] - rss_mb[0],
        "rss_checked_mb": rss_mb[2] - rss_mb[0],
        "send_s": send_s,
        "send_cpu_s": sent_cpu_s - start_cpu_s,
        "check_cpu_s": check_cpu_s,
    }


def _send(address: Address, path: str, samples: Sequence[Sample], count: int) -> list[Response]:
    """Return `count` responses, in full batches.

    A closed loop would send more, since it hands over its responses only now and then.
    """
    kept: list[Response] = []

    def on_responses(fresh: Sequence[Response]) -> bool:
        kept.extend(fresh)
        return len(kept) < count

    client.send(address, path, samples, FullBatches(_CONNECTIONS), on_responses, MonotonicClock())
    return kept


def _rss_mb() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6
