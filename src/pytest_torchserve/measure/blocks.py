"""A load with two arms: blocks in which first one arm, then the other, gets the same arrivals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArmBlock:
    """One arm's part of a block.

    Attributes:
        latencies_s: of the right answers, in the order in which their requests were due; those of requests that met a
            queue which had not yet filled are left out.
        asked: number of requests that left, less those left out.
        within_slo: how many of these got a right answer within the latency goal.
        throughput_per_s: right answers a second; None where there were none.
        rss_bytes: resident memory of the largest worker; None where one process holds both arms.
    """

    latencies_s: tuple[float, ...]
    asked: int
    within_slo: int
    throughput_per_s: float | None = None
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The same arrivals, sent to both arms one after the other.

    Attributes:
        process: pid of the worker that holds both arms, or number of the round where each has its own.
    """

    process: int
    baseline: ArmBlock
    candidate: ArmBlock
