"""A process group that cannot outlive its owner: real processes, real signals."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from pytest_torchserve._util import mask
from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.errors import ServerError
from pytest_torchserve.torchserve import process
from pytest_torchserve.torchserve.process import SupervisedProcess, remove_stale_folders

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
from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.torchserve.process import SupervisedProcess
supervised = SupervisedProcess()
supervised.start([sys.executable, "-c", sys.argv[1]], {})
assert wait_until((supervised.folder / "ready").exists, timeout_s=30)
print(supervised.folder, supervised.supervisor_pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """A supervised process whose folder lies in the test's own temporary directory."""
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    one = SupervisedProcess()
    yield one
    one.stop()


def family(pid):
    """Return a process and all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def gone(processes):
    """Return whether none of the processes runs; a zombie that was not collected does not run."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes if psutil.pid_exists(p.pid))


def a_supervisor(base):
    """Start a supervisor of the test's own; return it and its folder."""
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", process._SUPERVISOR, str(base), process.PREFIX],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return supervisor, Path(supervisor.stdout.readline().decode().strip())


def a_spec(mark, **env):
    """Return the line with which an owner starts a command: here a process that would stay, with a mark."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return json.dumps({"command": command, "env": {"TSPERF_MARK": mark, **env}, "kept": {}}).encode() + b"\n"


def marked(mark):
    """Return the processes with this mark in their environment."""
    found = psutil.process_iter(["environ"])
    return [process for process in found if (process.info["environ"] or {}).get("TSPERF_MARK") == mark]


def test_stop_ends_everything(supervised):
    """`stop` also ends processes that ignore SIGTERM or have left the group, and deletes the folder."""
    supervised.start([sys.executable, "-c", STUBBORN], {})
    assert wait_until((supervised.folder / "ready").exists, timeout_s=30)
    everyone = family(supervised.supervisor_pid)
    assert len(everyone) == 3
    supervised.stop()
    assert gone(everyone)
    assert not supervised.folder.exists()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_owners_death_ends_everything(tmp_path, signal_number):
    """However the owner ends, 5 s later nothing is left: no process, no folder."""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", OWNER, STUBBORN], stdout=subprocess.PIPE, text=True, env=env)
    folder, supervisor = owner.stdout.readline().split()
    everyone = family(int(supervisor))
    assert len(everyone) == 3
    owner.send_signal(signal_number)
    owner.wait()
    assert wait_until(lambda: gone(everyone) and not Path(folder).exists(), timeout_s=5)


def test_an_owner_that_is_killed_before_it_starts_anything(tmp_path):
    """The folder of an owner killed before its first command is deleted too: only the supervisor ever owned it."""
    code = "import sys, time; from pytest_torchserve.torchserve.process import SupervisedProcess\n"
    code += "supervised = SupervisedProcess(); print(supervised.folder, flush=True); time.sleep(600)"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    folder = Path(owner.stdout.readline().strip())
    assert folder.parent == tmp_path
    assert (folder / "lock").exists()
    owner.kill()
    owner.wait()
    assert wait_until(lambda: not folder.exists(), timeout_s=5)


def test_an_owner_that_is_gone_when_its_command_starts(tmp_path):
    """A command whose process id no owner reads any more is ended all the same."""
    mark = f"{os.getpid()}-{time.time_ns()}"
    supervisor, folder = a_supervisor(tmp_path)
    supervisor.stdout.close()
    supervisor.stdin.write(a_spec(mark))
    supervisor.stdin.close()
    assert supervisor.wait(timeout=30) == 0
    assert not folder.exists()
    assert marked(mark) == []


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_spec_that_is_cut_starts_nothing(tmp_path, share):
    """An owner killed while it wrote, before the last byte or long before, leaves no process and no folder."""
    mark = f"{os.getpid()}-{time.time_ns()}"
    supervisor, folder = a_supervisor(tmp_path)
    spec = a_spec(mark, BIG="x" * 200_000, MORE="y" * 100_000)
    supervisor.stdin.write(spec[: int(share * (len(spec) - 1))])
    supervisor.stdin.close()
    assert supervisor.stdout.read() == b""  # no process id
    assert supervisor.wait(timeout=30) == 0
    assert not folder.exists()
    assert marked(mark) == []


def test_an_owner_that_is_killed_while_it_writes(tmp_path):
    """A killed owner is noticed even if its forked child keeps the pipe open, so that no end of file comes."""
    code = """
import json, os, sys, time
from pytest_torchserve.torchserve.process import SupervisedProcess
supervised = SupervisedProcess()
child = os.fork()
if not child:
    time.sleep(600)
os.write(supervised._supervisor.stdin.fileno(), b'{"command": ')
print(supervised.folder, supervised.supervisor_pid, child, flush=True)
time.sleep(600)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    folder, supervisor, child = owner.stdout.readline().split()
    supervisor = psutil.Process(int(supervisor))
    owner.kill()
    owner.wait()
    try:
        assert wait_until(lambda: gone([supervisor]) and not Path(folder).exists(), timeout_s=5)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_an_environment_larger_than_a_pipe(supervised):
    """An environment larger than the pipe's buffer and than one read arrives whole, whatever is in it."""
    env = {f"LARGE_{number}": f"{number}é\n\udcff" + "x" * 1000 for number in range(400)}
    code = "import hashlib, os; "
    code += "print(hashlib.sha256(b''.join(os.environb[b'LARGE_%d' % n] for n in range(400))).hexdigest())"
    supervised.start([sys.executable, "-c", code], env)
    assert wait_until(lambda: supervised.exit_code() is not None, timeout_s=30)
    wanted = hashlib.sha256(b"".join(map(os.fsencode, env.values()))).hexdigest()
    assert sum(map(len, env.values())) > 3 * 128 * 1024
    assert (supervised.folder / "console.log").read_text() == f"{wanted}\n"


def test_no_secret_lies_in_a_folder_that_stays(supervised):
    """A kept folder has neither the environment nor the server's own secrets, but all that explains a failure."""
    exported, token, password = (f"{name}-{uuid.uuid4().hex}" for name in ("exported", "token", "password"))
    (supervised.folder / "config.properties").write_text(f"threads=4\nkeystore_pass={password}\n")
    code = "import os, sys; open('key_file.json', 'w').write(sys.argv[1]); print('last words');"
    code += "open('hs_err_pid7.log', 'w').write('jvm_args: -Dkey=' + sys.argv[1])"
    kept = {"config.properties": "threads=4\nkeystore_pass=***\n", "key_file.json": None, "never.made": None}
    supervised.start([sys.executable, "-c", code, token], {"MY_TOKEN": exported}, kept)
    assert wait_until(lambda: supervised.exit_code() is not None, timeout_s=30)
    folder = supervised.folder
    assert password in (folder / "config.properties").read_text()  # as long as the server needs it
    supervised.keep()
    supervised.stop()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "lock",
        "keep",
        "exit",
        "console.log",
        "config.properties",
        "hs_err_pid7.log",
    }
    for path in files:
        content = path.read_bytes()
        assert [word for word in (exported, token, password) if word.encode() in content] == [], path
    assert (folder / "config.properties").read_text() == "threads=4\nkeystore_pass=***\n"
    assert (folder / "console.log").read_text() == "last words\n"


def test_no_folder_to_be_had(tmp_path, monkeypatch):
    """If no folder can be made, the error comes at once and says what to do."""
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ServerError, match="TMPDIR"):
        SupervisedProcess()


def test_a_command_that_cannot_be_started(supervised):
    """A command that cannot be started is an error at once; the folder is deleted: it holds nothing to read."""
    with pytest.raises(ServerError, match="supervisor"):
        supervised.start([str(supervised.folder / "no such program")], {})
    assert wait_until(lambda: not supervised.folder.exists(), timeout_s=5)


def test_keep_leaves_the_folder(supervised):
    """A folder that is kept stays after the stop."""
    supervised.start([sys.executable, "-c", "pass"], {})
    supervised.keep()
    supervised.stop()
    assert (supervised.folder / "console.log").exists()


def test_exit_code_and_output(supervised):
    """The command's exit code and output can be read after its end."""
    supervised.start([sys.executable, "-c", "import sys; print('last words'); sys.exit(3)"], {})
    assert wait_until(lambda: supervised.exit_code() is not None, timeout_s=30)
    assert supervised.exit_code() == 3
    assert (supervised.folder / "console.log").read_text() == "last words\n"


def test_the_command_can_be_interrupted(supervised):
    """The supervisor ignores SIGINT; the command that it starts must not inherit this."""
    code = "import signal; print(signal.getsignal(2) == signal.default_int_handler)"
    supervised.start([sys.executable, "-c", code], {})
    assert wait_until(lambda: supervised.exit_code() is not None, timeout_s=30)
    assert (supervised.folder / "console.log").read_text() == "True\n"


def make_folder(base, name, *, age_s=0.0, lock=True, keep=False):
    """Make a folder as a session leaves it; return its path."""
    folder = base / f"{process.PREFIX}{name}"
    folder.mkdir()
    if lock:
        (folder / "lock").touch()
    if keep:
        (folder / "keep").touch()
    then = time.time() - age_s
    os.utime(folder, (then, then))
    return folder


def test_stale_folders_go(tmp_path, supervised):
    """Abandoned folders and old kept ones are deleted; folders in use, young, kept or foreign stay."""
    supervised.start([sys.executable, "-c", "import time; time.sleep(600)"], {})
    abandoned = make_folder(tmp_path, "abandoned")
    old_kept = make_folder(tmp_path, "old", keep=True, age_s=30 * 24 * 3600)
    stay = [
        supervised.folder,
        make_folder(tmp_path, "kept", keep=True),
        make_folder(tmp_path, "starting", lock=False),
    ]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    assert set(remove_stale_folders(tmp_path)) == {abandoned, old_kept}
    assert all(folder.exists() for folder in [*stay, foreign])


def test_wait_until_gives_up():
    """`wait_until` returns False at the deadline, by the test's own clock; True as soon as the condition holds."""
    times = iter(range(100))
    assert not wait_until(lambda: False, timeout_s=5, every_s=0, clock=lambda: float(next(times)))
    assert next(times) < 10
    assert wait_until(lambda: True, timeout_s=0)


def test_what_a_jvm_repeats_of_its_variables_does_not_stay():
    """A kept folder masks the options that a JVM prints from its environment; the rest of the output is whole."""
    talking = SupervisedProcess()
    says = "echo 'NOTE: Picked up JDK_JAVA_OPTIONS: -Dx.password=hunter2'; echo 'Picked up something'; echo done"
    talking.start(["/bin/sh", "-c", says], {"PATH": os.environ["PATH"]})
    assert wait_until(lambda: talking.exit_code() is not None, timeout_s=10)
    talking.keep()
    talking.stop()
    try:
        console = (talking.folder / "console.log").read_text()
    finally:
        shutil.rmtree(talking.folder)
    assert console == "NOTE: Picked up JDK_JAVA_OPTIONS: ***\nPicked up something\ndone\n"
    shown = mask.echoes("Picked up _JAVA_OPTIONS: -Dx.password=hunter2\nand more")
    assert shown == "Picked up _JAVA_OPTIONS: ***\nand more"
