"""Each finished run is a line on disk at once: nothing measured is lost to a crash."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_torchserve.measure import Run


def as_record(run: Run) -> dict[str, Any]:
    """A run as JSON: what was measured, raw samples by phase and process, and how."""
    deployment = run.cell.deployment
    return {
        "cell": run.cell.id,
        "kind": run.cell.kind,
        "model": deployment.model.name,
        "device": deployment.device,
        "batch_size": deployment.batching.batch_size,
        "max_batch_delay_ms": deployment.batching.max_batch_delay_ms,
        "workers": run.workers,
        "seconds": {phase: {str(pid): values for pid, values in by.items()} for phase, by in run.seconds.items()},
        "checked": run.checked,
        "wrong": list(run.wrong),
        "failed": list(run.failed),
        "batch_sizes": {str(size): count for size, count in run.batch_sizes.items()},
        "achieved_batch_size": run.achieved_batch_size,
        "throughput": run.throughput,
        "processes": run.processes,
        "process_spread": dict(run.process_spread),
        "precision": dict(run.precision),
        "worker_rss_bytes": run.worker_rss_bytes,
        "gpu_bytes": run.gpu_bytes,
        "accuracy": run.accuracy,
        "weights": run.weights,
        "samples": run.samples,
        "devices": list(run.devices),
        "validity": run.validity,
        "invalid": list(run.invalid),
        "errors": dict(run.errors),
        "load": run.cell.schedule.name if run.cell.schedule else None,
        "schedule": asdict(cast("Any", run.cell.schedule)) if run.cell.schedule else None,
        **beyond(run),
        "paired": asdict(run.paired) if run.paired is not None else None,
    }


def beyond(run: Run) -> dict[str, Any]:
    """What only some runs have: traffic, capacity, telemetry."""
    parts = {"traffic": run.traffic, "capacity": run.capacity, "telemetry": run.telemetry}
    return {name: asdict(part) if part is not None else None for name, part in parts.items()}


class Journal:
    """A file of JSON lines, or none. The first line of a session says what it ran on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, kind: str, content: dict[str, Any]) -> None:
        """Append one line; it is on disk when this returns."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "line": kind, **content}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
