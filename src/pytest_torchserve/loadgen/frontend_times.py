"""The times of a request before its handler, as the server's own log has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class FrontendTimes:
    """The times of a request in the frontend, in monotonic nanoseconds.

    Attributes:
        arrived_ns: when the frontend had read the request and created a job.
        taken_ns: when an idle worker took the first request of its batch; the batch began to fill.
        left_ns: when the batch was full, or had waited for max_batch_delay, and left for the worker.
    """

    arrived_ns: int
    taken_ns: int
    left_ns: int
