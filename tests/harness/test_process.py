"""A process group that cannot outlive its owner: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pytest_torchserve import process
from pytest_torchserve.errors import ServerError
from pytest_torchserve.process import GuardedProcess, remove_stale_folders, wait_until

# A server with a worker of its own that ignores SIGTERM, and a grandchild in a session of its own.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("ready", "w").close()
time.sleep(600)
"""
OWNER = """
import sys, time
from pytest_torchserve.process import GuardedProcess, wait_until
guarded = GuardedProcess()
guarded.start([sys.executable, "-c", sys.argv[1]], {})
assert wait_until((guarded.folder / "ready").exists, timeout_s=30)
print(guarded.folder, guarded.guardian_pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """A guarded process whose folder lies in the test's own temporary directory."""
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    one = GuardedProcess()
    yield one
    one.stop()


def family(pid):
    """A process and all that descends from it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def gone(processes):
    """Whether none of them runs; a zombie that nobody has collected does not run."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes if psutil.pid_exists(p.pid))


def test_stop_ends_everything(guarded):
    """Also what ignores SIGTERM and what has left the group; the folder goes too."""
    guarded.start([sys.executable, "-c", STUBBORN], {})
    assert wait_until((guarded.folder / "ready").exists, timeout_s=30)
    everyone = family(guarded.guardian_pid)
    assert len(everyone) == 3
    guarded.stop()
    assert gone(everyone)
    assert not guarded.folder.exists()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_owners_death_ends_everything(tmp_path, signal_number):
    """However the owner ends, 5 s later nothing is left: no process, no folder."""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", OWNER, STUBBORN], stdout=subprocess.PIPE, text=True, env=env)
    folder, guardian = owner.stdout.readline().split()
    everyone = family(int(guardian))
    assert len(everyone) == 3
    owner.send_signal(signal_number)
    owner.wait()
    assert wait_until(lambda: gone(everyone) and not Path(folder).exists(), timeout_s=5)


def test_an_owner_that_is_killed_before_it_starts_anything(tmp_path):
    """Its folder goes as well: nobody but the guardian has ever owned it."""
    code = "import sys, time; from pytest_torchserve.process import GuardedProcess\n"
    code += "guarded = GuardedProcess(); print(guarded.folder, flush=True); time.sleep(600)"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    folder = Path(owner.stdout.readline().strip())
    assert folder.parent == tmp_path
    assert (folder / "lock").exists()
    owner.kill()
    owner.wait()
    assert wait_until(lambda: not folder.exists(), timeout_s=5)


def test_an_owner_that_is_gone_when_its_command_starts(tmp_path):
    """Nobody reads the process id: what was started is ended all the same."""
    mark = f"{os.getpid()}-{time.time_ns()}"
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", process._GUARDIAN, str(tmp_path), process.PREFIX],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    folder = Path(guardian.stdout.readline().decode().strip())
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    spec = {"command": command, "env": {"TSPERF_MARK": mark}, "cwd": str(folder)}
    (folder / "spec.json").write_text(json.dumps(spec))
    guardian.stdout.close()
    guardian.stdin.write(b"\n")
    guardian.stdin.close()
    assert guardian.wait(timeout=30) == 0
    assert not folder.exists()
    assert [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("TSPERF_MARK") == mark] == []


def test_no_folder_to_be_had(tmp_path, monkeypatch):
    """Said at once, with what to do."""
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ServerError, match="TMPDIR"):
        GuardedProcess()


def test_a_command_that_cannot_be_started(guarded):
    """Said at once; the folder is gone, since there is nothing in it to read."""
    with pytest.raises(ServerError, match="guardian"):
        guarded.start([str(guarded.folder / "no such program")], {})
    assert wait_until(lambda: not guarded.folder.exists(), timeout_s=5)


def test_keep_leaves_the_folder(guarded):
    """What is kept stays after the stop."""
    guarded.start([sys.executable, "-c", "pass"], {})
    guarded.keep()
    guarded.stop()
    assert (guarded.folder / "console.log").exists()


def test_exit_code_and_output(guarded):
    """How the command ended, and what it printed."""
    guarded.start([sys.executable, "-c", "import sys; print('last words'); sys.exit(3)"], {})
    assert wait_until(lambda: guarded.exit_code() is not None, timeout_s=30)
    assert guarded.exit_code() == 3
    assert (guarded.folder / "console.log").read_text() == "last words\n"


def test_the_command_can_be_interrupted(guarded):
    """The guardian ignores SIGINT; what it starts must not have inherited that."""
    code = "import signal; print(signal.getsignal(2) == signal.default_int_handler)"
    guarded.start([sys.executable, "-c", code], {})
    assert wait_until(lambda: guarded.exit_code() is not None, timeout_s=30)
    assert (guarded.folder / "console.log").read_text() == "True\n"


def make_folder(base, name, *, age_s=0.0, lock=True, keep=False):
    """A folder as a session leaves it."""
    folder = base / f"{process.PREFIX}{name}"
    folder.mkdir()
    if lock:
        (folder / "lock").touch()
    if keep:
        (folder / "keep").touch()
    then = time.time() - age_s
    os.utime(folder, (then, then))
    return folder


def test_stale_folders_go(tmp_path, guarded):
    """Abandoned ones and old kept ones are deleted; living, young, kept and foreign ones stay."""
    guarded.start([sys.executable, "-c", "import time; time.sleep(600)"], {})
    abandoned = make_folder(tmp_path, "abandoned")
    old_kept = make_folder(tmp_path, "old", keep=True, age_s=30 * 24 * 3600)
    stay = [
        guarded.folder,
        make_folder(tmp_path, "kept", keep=True),
        make_folder(tmp_path, "starting", lock=False),
    ]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    assert set(remove_stale_folders(tmp_path)) == {abandoned, old_kept}
    assert all(folder.exists() for folder in [*stay, foreign])


def test_wait_until_gives_up():
    """False at the deadline, by a clock that the test owns; True as soon as it holds."""
    times = iter(range(100))
    assert not wait_until(lambda: False, timeout_s=5, every_s=0, clock=lambda: float(next(times)))
    assert next(times) < 10
    assert wait_until(lambda: True, timeout_s=0)
