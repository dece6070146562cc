"""A simulated server of known truth: TorchServe's batcher in front of one worker.

An idle worker takes the first waiting request, and waits for its batch to fill until `delay_s` have passed since then
(`Model.pollBatch`, docs/decisions/0009). A batch of k requests takes `per_batch_s + k · per_request_s`, with noise.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class BatchQueue:
    """A queue with one worker. The defaults are those of the README's resnet56 at batch size 16.

    Attributes:
        size: the most requests of a batch.
        delay_s: how long a batch waits to fill.
        per_batch_s, per_request_s: the mean service time of a batch.
        noise: standard deviation of the service time, as a share; None for exponential service times.
    """

    size: int = 16
    delay_s: float = 0.1
    per_batch_s: float = 0.012
    per_request_s: float = 0.0035
    noise: float | None = 0.12

    @property
    def capacity_per_s(self) -> float:
        """Requests a second in full batches."""
        return self.size / (self.per_batch_s + self.size * self.per_request_s)

    def run(self, rate_per_s: float, requests: int, rng: np.random.Generator) -> Simulated:
        """Serve Poisson arrivals, from an empty queue on."""
        due = np.cumsum(rng.exponential(1 / rate_per_s, requests))
        if self.noise is None:
            factors = rng.exponential(1.0, requests).tolist()
        else:
            factors = np.maximum(0.3, 1 + self.noise * rng.standard_normal(requests)).tolist()

        def service_s(number: int, size: int) -> float:
            return (self.per_batch_s + self.per_request_s * size) * factors[number]

        return serve(due, self.size, self.delay_s, service_s)


def serve(due_s: np.ndarray, size: int, delay_s: float, service_s: Callable[[int, int], float]) -> Simulated:
    """Serve these arrivals; a batch takes `service_s(its number, its size)`."""
    due, requests = due_s.tolist(), len(due_s)
    latencies, takens, starts, ends, sizes = [0.0] * requests, [], [], [], []
    free, first = -math.inf, 0
    while first < requests:
        taken = max(free, due[first])
        after = first + size
        if after <= requests and due[after - 1] <= taken + delay_s:
            start = max(taken, due[after - 1])
        else:
            start = taken + delay_s
            after = bisect.bisect_right(due, start, first, min(after, requests))
        free = start + service_s(len(starts), after - first)
        takens.append(taken)
        starts.append(start)
        sizes.append(after - first)
        ends.append(free)
        latencies[first:after] = [free - at for at in due[first:after]]
        first = after
    found = (np.array(row) for row in (latencies, takens, starts, ends, sizes))
    return Simulated(due_s, *found)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What happened.

    Attributes:
        due_s, latency_s: of each request, in the order of their arrival.
        taken_s, start_s, end_s, size: of each batch: when a worker took its first request, when it was complete or had
            waited for long enough, when it was done, and its number of requests.
    """

    due_s: np.ndarray
    latency_s: np.ndarray
    taken_s: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    size: np.ndarray
