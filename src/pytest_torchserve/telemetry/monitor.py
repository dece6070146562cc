"""The monitor of the machine: CPU and memory of frontend, workers and sender, CPU of other processes, the GPU."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve._util.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ANSWER_S = 5.0

Snapshot = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Aggregates over one window.

    Attributes:
        window_s: the length of the window.
        processors: the number of processors of the machine.
        cores: by role (`frontend`, `worker`, `sender`), CPU seconds per second, mean over the window.
        rss_bytes: by role, the largest sum of resident memory.
        other_processes_cpu: share of the machine's CPU that processes outside the session used.
        stolen_cpu: share of the machine's CPU that the hypervisor gave to other guests.
        gpus: for each GPU, means and peaks of NVML's figures, the energy of the window (idle included), and the
            reasons why its clock was lowered in any of its seconds, as NVML's bits.
        other_processes_on_gpu: pids outside the session on a GPU where NVML lists pids of the session too.
    """

    window_s: float
    processors: int
    cores: Mapping[str, float]
    rss_bytes: Mapping[str, int]
    other_processes_cpu: float
    stolen_cpu: float
    gpus: tuple[Mapping[str, float], ...] = ()
    other_processes_on_gpu: tuple[int, ...] = field(default=())


def aggregate(snapshots: Sequence[Snapshot]) -> Telemetry | None:
    """Aggregate a sequence of snapshots; None for fewer than two snapshots, or no time between them."""
    if len(snapshots) < 2 or snapshots[-1]["at_ns"] <= snapshots[0]["at_ns"]:  # noqa: PLR2004 - a difference needs two
        return None
    window_s = (snapshots[-1]["at_ns"] - snapshots[0]["at_ns"]) / 1e9
    used_s: dict[str, float] = {}
    for before, after in itertools.pairwise(snapshots):
        for pid, (role, cpu_s, _) in after["processes"].items():
            known = before["processes"].get(pid)
            # A new process has used all its CPU time since `before`; of a process that ended the last second is lost.
            used_s[role] = used_s.get(role, 0.0) + cpu_s - (known[1] if known else 0.0)
    first, last = snapshots[0]["machine"], snapshots[-1]["machine"]
    whole_s = window_s * last["processors"]
    other_processes_s = last["used_s"] - first["used_s"] - sum(used_s.values())
    return Telemetry(
        window_s=window_s,
        processors=int(last["processors"]),
        cores={role: seconds / window_s for role, seconds in sorted(used_s.items())},
        rss_bytes=_resident(snapshots),
        other_processes_cpu=max(0.0, other_processes_s / whole_s),
        stolen_cpu=max(0.0, (last["stolen_s"] - first["stolen_s"]) / whole_s),
        gpus=tuple(
            _gpu([snapshot["gpus"][index] for snapshot in snapshots]) for index in range(len(snapshots[0]["gpus"]))
        ),
        other_processes_on_gpu=_other_processes(snapshots),
    )


def _resident(snapshots: Sequence[Snapshot]) -> dict[str, int]:
    most: dict[str, int] = {}
    for snapshot in snapshots:
        sums: dict[str, int] = {}
        for role, _, resident in snapshot["processes"].values():
            sums[role] = sums.get(role, 0) + resident
        most = {role: max(most.get(role, 0), sums.get(role, 0)) for role in most | sums}
    return most


def _gpu(snapshots: Sequence[Snapshot]) -> dict[str, float]:
    found = {}
    for name in ("utilisation", "memory_bytes", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_w"):
        values = [snapshot[name] for snapshot in snapshots if name in snapshot]
        if values:
            found[f"{name}_mean"] = statistics.fmean(values)
            found[f"{name}_max"] = max(values)
    energies = [snapshot["energy_j"] for snapshot in snapshots if "energy_j" in snapshot]
    if energies:
        found["energy_j"] = energies[-1] - energies[0]
    reasons = [snapshot["clock_event_reasons"] for snapshot in snapshots if "clock_event_reasons" in snapshot]
    if reasons:
        found["clock_event_reasons"] = functools.reduce(operator.or_, reasons)
    return found


def _other_processes(snapshots: Sequence[Snapshot]) -> tuple[int, ...]:
    """Return the pids outside the session on GPUs that the session uses.

    In a container NVML may list pids of another namespace: other pids count only beside pids of the session.
    """
    other_processes: set[int] = set()
    for snapshot in snapshots:
        ours = set(map(int, snapshot["processes"]))
        for gpu in snapshot["gpus"]:
            named = set(gpu.get("pids", ()))
            if named & ours:
                other_processes |= named - ours
    return tuple(sorted(other_processes))


class Monitor:
    """The sampler process of a session."""

    def __init__(self) -> None:
        # The file is opened twice, since an open file has one position; its name is removed once both are open.
        with tempfile.NamedTemporaryFile("a") as written:
            self._file = Path(written.name).open(encoding="utf-8")  # noqa: SIM115 - closed in `close`
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_torchserve.telemetry.sampler", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=written,
                stderr=subprocess.DEVNULL,
            )
        self._snapshots: list[Snapshot] = []
        self._read_to = 0

    def snapshot(self) -> int:
        """Take a snapshot and return its time in monotonic nanoseconds."""
        asked_ns = time.monotonic_ns()
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"!")
            self._process.stdin.flush()
        wait_until(lambda: self._newest_ns() >= asked_ns or self._process.poll() is not None, timeout_s=_ANSWER_S)
        return self._newest_ns()

    def _newest_ns(self) -> int:
        self._file.seek(self._read_to)
        text = self._file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read_to += len(whole)
        self._snapshots += map(json.loads, whole.splitlines())
        return int(self._snapshots[-1]["at_ns"]) if self._snapshots else 0

    def between(self, start_ns: int) -> Telemetry | None:
        """Return the telemetry from the snapshot at `start_ns` until now; None if the sampler does not answer."""
        self.snapshot()
        return aggregate([snapshot for snapshot in self._snapshots if snapshot["at_ns"] >= start_ns])

    def close(self) -> None:
        """End the sampler."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._file.close()
