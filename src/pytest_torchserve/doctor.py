"""Checks of this machine: software, inputs, and conditions that would make figures unreliable."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve import conditions, environment
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.inputs import cache, samples, weights
from pytest_torchserve.telemetry.monitor import Monitor
from pytest_torchserve.torchserve import java

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_torchserve.telemetry.monitor import Telemetry

_FREE_DISK = 5 * 2**30
_FREE_MEMORY = 4 * 2**30
_LOOK_S = 2.0
_BUSY = 0.1
_CPU = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        what: the name of what was checked.
        found: the state found.
        advice: what to do; '' where nothing need be done.
    """

    what: str
    found: str
    advice: str = ""

    @property
    def mark(self) -> str:
        """`!` where there is advice, else a space."""
        return "!" if self.advice else " "


def examine(data: Path | None) -> list[Finding]:
    """Run every check once; the check of the processor's load takes two seconds."""
    looks: tuple[Callable[[], list[Finding]], ...] = (
        _java,
        _software,
        _gpu,
        lambda: _data(data),
        _room,
        _processor,
        _load,
    )
    return [finding for look in looks for finding in look()]


def _java() -> list[Finding]:
    try:
        found = java.find()
    except SuiteError as error:
        return [Finding("Java", error.found, error.do)]
    return [Finding("Java", f"{found.version}, from {found.source}")]


def _software() -> list[Finding]:
    found = []
    for name in ("torchserve", "torch-model-archiver", "torch", "torchvision"):
        version = environment.version(name)
        found.append(Finding(name, version or "not installed", "" if version else f"pip install {name}"))
    return found


def _gpu() -> list[Finding]:
    gpus, reason = environment.gpus()
    if not gpus:
        return [Finding("GPU", f"none: {reason}")]
    return [Finding("GPU", f"{gpu.name}, driver {gpu.driver}") for gpu in gpus]


def _data(given: Path | None) -> list[Finding]:
    """Check samples and weights. The suite works without them, with synthetic images and random weights."""
    named = given or (Path(os.environ["TS_DATA"]) if os.environ.get("TS_DATA") else None)
    found = []
    for dataset in ("cifar10", "imagenet"):
        try:
            files = samples.find(dataset, named)
        except SuiteError as error:
            found.append(Finding(dataset, error.found, error.do))
        else:
            found.append(Finding(dataset, f"{len(files.paths)} images, {files.source}"))
    names = sorted(path.name for path in weights.on_disk(named))
    found.append(Finding("weights", ", ".join(names) or "none on disk: seeded (random) ones are used"))
    return found


def _room() -> list[Finding]:
    import psutil  # noqa: PLC0415 - not needed to collect tests

    disk, memory = shutil.disk_usage(cache.folder()).free, psutil.virtual_memory().available
    return [
        Finding(
            "disk",
            f"{disk / 2**30:.0f} GiB free beside the cache",
            "" if disk >= _FREE_DISK else f"make room: archives and caches want {_FREE_DISK / 2**30:.0f} GiB",
        ),
        Finding(
            "memory",
            f"{memory / 2**30:.1f} GiB available",
            ""
            if memory >= _FREE_MEMORY
            else "end other programs: a worker of a large network holds 1 GiB, and there are three",
        ),
    ]


def _processor() -> list[Finding]:
    count = os.cpu_count() or 1
    found = [
        Finding(
            "processor",
            f"{count} × {environment.cpu_model()}",
            "" if count > 1 else "sender, frontend and worker share one processor: each waits for the others",
        )
    ]
    governors = conditions.governors()
    slow = governors - {"performance"}
    advice = "cpupower frequency-set -g performance: clocks that follow the load make runs differ" if slow else ""
    found.append(Finding("governor", ", ".join(sorted(governors)) or "not told (a virtual machine, as a rule)", advice))
    turbo = _CPU / "intel_pstate" / "no_turbo"
    if turbo.is_file():
        on = turbo.read_text().strip() == "0"
        found.append(Finding("turbo", "on: clocks depend on heat" if on else "off"))
    return found


def _load() -> list[Finding]:
    """Measure for two seconds how much of the processors other processes and the hypervisor take."""
    from pytest_torchserve._util.wait import wait_until  # noqa: PLC0415

    monitor = Monitor()
    try:
        start_ns = monitor.snapshot()
        wait_until(lambda: False, timeout_s=_LOOK_S)
        seen = monitor.between(start_ns)
    finally:
        monitor.close()
    return [] if seen is None else [_busy(seen)]


def _busy(seen: Telemetry) -> Finding:
    taken = seen.other_processes_cpu + seen.stolen_cpu
    found = f"others use {seen.other_processes_cpu:.0%} of the processors, the hypervisor takes {seen.stolen_cpu:.0%}"
    return Finding(
        "load",
        found,
        "end them, or come back later: such runs are stamped INVALID, and comparisons see less"
        if taken > _BUSY
        else "",
    )
