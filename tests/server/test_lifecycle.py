"""Sessions that end at random moments, in every way: nothing that they started is left 5 s later."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from pytest_torchserve._util.wait import wait_until

ROOT = Path(__file__).parents[2]
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)

# TSPERF_ENDINGS=20 gives the full number by hand; each ending ends one session.
COUNT = int(os.environ.get("TSPERF_ENDINGS", "3"))
# The moments differ each time; every outcome names the seed, and the same seed makes the same moments.
SEED = os.environ.get("TSPERF_SEED") or str(time.time_ns())


def ours(mark):
    """Return every process that carries the mark in its environment, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TSPERF_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def short_tmp():
    """A temporary directory with a path short enough for the workers' sockets."""
    with tempfile.TemporaryDirectory(prefix="life-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", range(COUNT))
def test_nothing_survives(number, short_tmp):
    """A session ended by Ctrl-C, SIGTERM or SIGKILL, before or amid a measurement, leaves no process, file or port."""
    ending, after_s = ENDINGS[number % 3], random.Random(f"{SEED}-{number}").uniform(0.3, 14.0)
    how = f"{ending.name} after {after_s:.1f} s, by TSPERF_SEED={SEED}"
    print(how)
    mark = f"{os.getpid()}-{number}-{time.time_ns()}"
    env = {**os.environ, "TMPDIR": str(short_tmp), "TSPERF_MARK": mark}
    command = [sys.executable, "-m", "pytest", "-m", "cpu", "-q", "-p", "no:cacheprovider", "-k", "noop or batching"]
    session = subprocess.Popen(
        [*command, f"--ts-journal={short_tmp}/journal", f"--ts-model-store={short_tmp}/store"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # Waiting for the chosen moment is the point here: any moment must do.
    wait_until(lambda: session.poll() is not None, timeout_s=after_s)
    ports = listening(ours(mark))
    if session.poll() is None:
        session.send_signal(ending)
    else:
        assert session.returncode == 0, f"the session failed by itself: {how}"
    session.wait(timeout=60)
    if not wait_until(lambda: not ours(mark), timeout_s=5):
        pytest.fail(f"{how}, left {[process.cmdline() for process in ours(mark)]}")
    for port in ports:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
    print(f"{len(ports)} ports freed")
    # A session that ended by a signal did not fail a test: its folder goes with it.
    left = [path.name for path in short_tmp.iterdir() if path.name.startswith("tsperf-")]
    assert [name for name in left if not (short_tmp / name / "keep").exists()] == [], how


def listening(processes):
    """Return the ports that these processes listen on."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return found
