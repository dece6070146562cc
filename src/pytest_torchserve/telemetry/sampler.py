"""The sampler, which takes a snapshot every second: `python -m pytest_torchserve.telemetry.sampler PID`.

The sampler runs outside both the server and the client (role `sender`), whose timers its work would delay. `PID` is the
session's process; its descendants belong to the session. Each snapshot is one line of JSON on standard output. A byte
on standard input requests a snapshot at once; the end of standard input ends the sampler.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 1.0
_YOUNG_S = 2.0

_roles: dict[psutil.Process, str] = {}


def role(process: psutil.Process, session_pid: int) -> str:
    """Return `frontend`, `worker`, or `sender` for the session itself and its other descendants."""
    if process in _roles:  # psutil's processes are equal by pid and start time
        return _roles[process]
    command, found = process.cmdline(), "sender"
    if any("model_service_worker" in word for word in command):
        found = "worker"
    elif process.name() == "java" or "ts.model_server" in command:
        found = "frontend"
    # Between fork and exec a process still has its parent's name: a young process is looked at again.
    if process.pid == session_pid or time.time() - process.create_time() > _YOUNG_S:
        _roles[process] = found
    return found


def processes(session_pid: int) -> dict[str, Any]:
    """Return role, CPU seconds so far and resident bytes of the session and its descendants, by pid."""
    found: dict[str, Any] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        session = psutil.Process(session_pid)
        for process in (session, *session.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                resident = process.memory_info().rss
                found[str(process.pid)] = [role(process, session_pid), times.user + times.system, resident]
    return found


def machine() -> dict[str, float]:
    """Return the CPU seconds so far that processes used and that the hypervisor took, over all processors."""
    times = psutil.cpu_times()
    return {
        "used_s": times.user + times.nice + times.system,
        "stolen_s": getattr(times, "steal", 0.0),
        "processors": psutil.cpu_count() or 1,
    }


def open_gpus() -> list[Any]:
    """Return NVML's handles; none where there is no NVML, no driver or no GPU."""
    try:
        import pynvml  # noqa: PLC0415 - not everywhere

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001 - NVML's own errors cannot be named where it is missing
        return []


def gpu(handle: Any) -> dict[str, float]:
    """Return NVML's figures for one GPU; figures that NVML does not know are left out."""
    import pynvml  # noqa: PLC0415 - there is a handle, so pynvml is there

    asks: dict[str, Callable[[], Any]] = {
        "utilisation": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "memory_bytes": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used,
        "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "energy_j": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
        "clock_event_reasons": lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "pids": lambda: [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)],
    }
    found = {}
    for name, ask in asks.items():
        with contextlib.suppress(pynvml.NVMLError, AttributeError):  # an older driver, an older binding
            found[name] = ask()
    return found


def main(session_pid: int) -> None:
    """Write a snapshot every second and at each request, until standard input ends."""
    gpus = open_gpus()
    while True:
        snapshot = {
            "at_ns": time.monotonic_ns(),
            "processes": processes(session_pid),
            "machine": machine(),
            "gpus": [gpu(handle) for handle in gpus],
        }
        sys.stdout.write(json.dumps(snapshot) + "\n")
        sys.stdout.flush()
        asked, _, _ = select.select([sys.stdin], [], [], EVERY_S)
        if asked and not os.read(sys.stdin.fileno(), 1):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
