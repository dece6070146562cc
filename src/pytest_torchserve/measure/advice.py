"""What to do about a run that is INVALID, by the cause."""

from __future__ import annotations

ADVICE = {
    "the sender was late": "send less, or from more processes (--ts-load-engine=locust), or end what else runs here",
    "the rate was not reached": "send less, or from more processes (--ts-load-engine=locust)",
    "no request left": "let the load last longer (--ts-load-seconds), or ask for a higher rate (--ts-loads)",
    "too few answers": "let the load last longer (--ts-load-seconds), or ask for a higher rate (--ts-loads)",
    "requests failed": "see the errors; 503 is a full queue (job_queue_size), and the server's log says the rest",
    "answers were wrong": "the failed test shows the first: mend the handler, or allow them (--ts-tolerance)",
    "throughput was not stable": "repeat it on a quieter machine, or for longer (--ts-cell-seconds, --ts-load-seconds)",
    "no rate was probed": "search for longer (--ts-capacity-seconds)",
    "Little's law does not hold": "the queue grew or shrank all the time: search for longer (--ts-capacity-seconds)",
    "overload": "ask for less (--ts-loads), or give it more workers (--ts-workers) or larger batches (--ts-batching)",
    "another process computed on the GPU": "end it, or take another GPU (CUDA_VISIBLE_DEVICES)",
    "other processes used the machine": "end what else runs here, or repeat it later",
    "the server did not answer its warm-up": "see the server's log, which --ts-keep keeps",
    "the server was still warming up": "measure for longer (--ts-cell-seconds, --ts-load-seconds)",
    "the GPU was throttled": "cool it, or raise its power limit (nvidia-smi -q -d PERFORMANCE says what slows it)",
}
"""Cause, as a reason begins or, for a probed rate, goes on → what to do about it."""


def advice(reason: str) -> str:
    """Return what to do about a reason; '' for a cause that nothing is known about."""
    return next((words for cause, words in ADVICE.items() if cause in reason), "")
