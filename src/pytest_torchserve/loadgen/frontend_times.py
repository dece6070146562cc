"""What a server's own log told of one request, before the request reached its handler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class FrontendTimes:
    """One request's way through the frontend, in monotonic nanoseconds.

    Attributes:
        arrived_ns: when the frontend had read it and made a job of it.
        taken_ns: when an idle worker took the first request of its batch; the batch began to fill.
        left_ns: when its batch was full, or had waited for max_batch_delay, and left for the worker.
    """

    arrived_ns: int
    taken_ns: int
    left_ns: int
