"""The traceback that a worker printed before it ended."""

from __future__ import annotations

import re

_AFTERWARDS = re.compile(r"RuntimeError: 50[07] - (Unknown exception|System out of memory)")
"""The error that TorchServe's worker ends with after it has logged the handler's own, where that is a RuntimeError."""


def worker_traceback(log: str, name: str = "") -> str:
    """Return the last whole traceback in the workers' log, without the log's own prefixes; '' where there is none.

    A line reads `2026-01-01T00:00:00,000 W-9000-name_1.0-stdout   File "x.py", line 1`; lines of several workers
    may be interleaved, so the lines of each worker are collected by themselves.

    Args:
        name: the registration whose workers are meant; '' for any. TorchServe may still be starting another one's.
    """
    by_worker: dict[str, list[str]] = {}
    last = ""
    for line in log.splitlines():
        match = re.match(r"\S+ (W-\S+) ?(.*)", line)
        if match is None or (name and not re.match(rf"W-\d+-{re.escape(name)}_", match[1])):
            continue
        worker, text = match.groups()
        if text.startswith("Traceback (most recent call last)"):
            by_worker[worker] = [text]
        elif worker in by_worker:
            by_worker[worker].append(text)
            if text and not text.startswith(" "):
                found = "\n".join(by_worker.pop(worker))
                last = last if last and _AFTERWARDS.fullmatch(text) else found
    return last
