"""Telemetry: made-up snapshots are aggregated, and the real sampler runs."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.telemetry import sampler
from pytest_torchserve.telemetry.monitor import Monitor, aggregate

BURN = "while True: pass"


def snapshot(at_s, used_s, processes, *, stolen_s=0.0, gpus=()):
    """Return a snapshot of a machine with two processors."""
    return {
        "at_ns": round(at_s * 1e9),
        "machine": {"used_s": used_s, "stolen_s": stolen_s, "processors": 2},
        "processes": processes,
        "gpus": list(gpus),
    }


def test_cpu_by_role_and_what_is_left_is_others():
    """CPU time is summed by role, and the rest is that of other processes.

    In 10 s on two processors workers use 8 s, the frontend 1 s and other processes 3 s; a worker ends, another starts.
    """
    snapshots = [
        snapshot(0, 100, {"1": ["frontend", 50, 10], "2": ["worker", 5, 100]}),
        snapshot(5, 106, {"1": ["frontend", 50.5, 10], "2": ["worker", 9, 120]}),
        snapshot(10, 112, {"1": ["frontend", 51, 30], "3": ["worker", 4, 90]}),
    ]
    found = aggregate(snapshots)
    assert found.cores == pytest.approx({"frontend": 0.1, "worker": 0.8})
    assert found.other_processes_cpu == pytest.approx(3 / 20)
    assert found.rss_bytes == {"frontend": 30, "worker": 120}
    assert found.stolen_cpu == 0


def test_the_hypervisor_is_told_apart():
    """Stolen CPU time is not counted as that of other processes on this machine."""
    found = aggregate([snapshot(0, 10, {}), snapshot(10, 10, {}, stolen_s=4)])
    assert found.stolen_cpu == pytest.approx(0.2)
    assert found.other_processes_cpu == 0


def test_gpus_are_averaged_and_strangers_named():
    """NVML's figures have means and maxima.

    A pid from outside the session counts only on a GPU where NVML names one of the session's pids too.
    """
    gpus = [
        [{"utilisation": 0.5, "power_w": 100, "pids": [2, 77], "energy_j": 1000.5, "clock_event_reasons": 0x41}],
        [{"utilisation": 1.0, "power_w": 300, "pids": [2], "energy_j": 1300.0, "clock_event_reasons": 0x4}],
    ]
    found = aggregate([snapshot(at, at, {"2": ["worker", 0, 0]}, gpus=gpu) for at, gpu in enumerate(gpus)])
    assert found.gpus[0]["utilisation_mean"] == pytest.approx(0.75)
    assert found.gpus[0]["power_w_max"] == 300
    assert "memory_bytes_mean" not in found.gpus[0]
    assert found.gpus[0]["energy_j"] == pytest.approx(299.5)
    assert found.gpus[0]["clock_event_reasons"] == 0x45
    assert found.other_processes_on_gpu == (77,)
    elsewhere = aggregate([snapshot(at, at, {}, gpus=[{"pids": [4000]}]) for at in (0, 1)])
    assert elsewhere.other_processes_on_gpu == ()


def test_one_look_is_no_window():
    """A single snapshot gives no telemetry, and neither do two at the same time."""
    assert aggregate([snapshot(0, 0, {})]) is None
    assert aggregate([snapshot(0, 0, {}), snapshot(0, 0, {})]) is None


@pytest.fixture
def monitor():
    """A monitor with the real sampler."""
    made = Monitor()
    yield made
    made.close()


def test_the_sampler_tells_ours_from_others(monitor):
    """Of two busy processes the child of this process counts as the session's.

    The detached process counts among the other processes.
    """
    start_ns = monitor.snapshot()
    spawn = (
        "import subprocess, sys\n"
        f"burn = [sys.executable, '-c', {BURN!r}]\n"
        "child = subprocess.Popen(burn, start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "print(child.pid)"
    )
    stranger = int(subprocess.run([sys.executable, "-c", spawn], stdout=subprocess.PIPE, text=True, check=True).stdout)
    ours = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        burnt = psutil.Process(stranger), psutil.Process(ours.pid)
        assert wait_until(lambda: min(sum(p.cpu_times()[:2]) for p in burnt) > 0.5, timeout_s=60)
        found = monitor.between(start_ns)
    finally:
        psutil.Process(stranger).kill()
        ours.kill()
        ours.wait()
    assert found.cores["sender"] * found.window_s >= 0.4
    assert found.other_processes_cpu * found.processors * found.window_s >= 0.4


def test_the_sampler_ends_with_its_session():
    """The sampler ends when it is closed, and when its session is killed."""
    made = Monitor()
    made.snapshot()
    pid = made._process.pid
    made.close()
    assert not psutil.pid_exists(pid)
    script = (
        "import os, signal\n"
        "from pytest_torchserve.telemetry.monitor import Monitor\n"
        "monitor = Monitor(); monitor.snapshot(); print(monitor._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    pid = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout)
    assert wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", timeout_s=10)


def test_a_dead_sampler_stops_nothing():
    """A run goes on without telemetry where the sampler does not answer."""
    made = Monitor()
    start_ns = made.snapshot()
    os.kill(made._process.pid, 9)
    made._process.wait()
    assert made.between(start_ns) is None
    made.close()


def test_what_nvml_says(monkeypatch):
    """Each of NVML's figures is converted to the suite's units, for every GPU.

    A figure that a GPU does not report is left out; without a driver there is no GPU.
    """

    class UnknownError(Exception):
        """NVML's error."""

    def no_power(handle):
        if handle == 1:
            raise UnknownError
        return 71_500

    nvml = SimpleNamespace(
        NVMLError=UnknownError,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=40 + handle),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=2 << 30),
        nvmlDeviceGetClockInfo=lambda handle, which: {1: 1980}[which],
        nvmlDeviceGetPowerUsage=no_power,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [SimpleNamespace(pid=7)],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    first, second = (sampler.gpu(handle) for handle in sampler.open_gpus())
    whole = {"utilisation": 0.4, "memory_bytes": 2 << 30, "sm_clock_mhz": 1980, "power_w": 71.5, "pids": [7]}
    assert first == whole
    assert second == {name: value for name, value in whole.items() if name != "power_w"} | {"utilisation": 0.41}
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: no_power(1))
    assert sampler.open_gpus() == []
