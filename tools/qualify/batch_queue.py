"""A simulated server of known truth: TorchServe's batcher in front of one worker.

An idle worker takes the first waiting request, and waits for its batch to fill until `delay_s` have passed since then
(`Model.pollBatch`, docs/decisions/0009). A batch of k requests takes `per_batch_s + k · per_request_s`, with noise.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np


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
        due = np.cumsum(rng.exponential(1 / rate_per_s, requests)).tolist()
        if self.noise is None:
            factors = rng.exponential(1.0, requests).tolist()
        else:
            factors = np.maximum(0.3, 1 + self.noise * rng.standard_normal(requests)).tolist()
        latencies, starts, ends, sizes = [0.0] * requests, [], [], []
        free, first = 0.0, 0
        while first < requests:
            taken = max(free, due[first])
            after = first + self.size
            if after <= requests and due[after - 1] <= taken + self.delay_s:
                start = max(taken, due[after - 1])
            else:
                start = taken + self.delay_s
                after = bisect.bisect_right(due, start, first, min(after, requests))
            service_s = (self.per_batch_s + self.per_request_s * (after - first)) * factors[len(starts)]
            starts.append(start)
            sizes.append(after - first)
            free = start + service_s
            ends.append(free)
            latencies[first:after] = [free - at for at in due[first:after]]
            first = after
        return Simulated(np.array(due), np.array(latencies), np.array(starts), np.array(ends), np.array(sizes))


@dataclass(frozen=True, slots=True)
class Simulated:
    """What happened.

    Attributes:
        due_s, latency_s: of each request, in the order of their arrival.
        start_s, end_s, size: of each batch.
    """

    due_s: np.ndarray
    latency_s: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    size: np.ndarray
