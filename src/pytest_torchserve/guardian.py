"""Makes a folder, starts one command in it, and ends all that descends from it when its owner is gone.

Run as a program: `python guardian.py BASE PREFIX`, with a pipe as standard input whose other end only the owner
holds. It prints the folder's path; at a line from the owner it starts the command that `spec.json` there tells, and
prints its process id. The end of the pipe, for whatever reason (stop, crash, SIGKILL of the owner), ends them all and
removes the folder: from its first moment on that is nobody else's to do. Standard library only: it must outlive
everything else.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_GRACE_S = 1.0
_POLL_S = 0.5
_PR_SET_CHILD_SUBREAPER = 36
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)  # they are meant for the owner, whose end is ours


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, so that each can be found, ended and reaped."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> "dict[int, int]":
    """Collect ended children: process id → exit code."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def children() -> "list[int]":
    """Our living children."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(pid) for pid in listed.split()]


def end_all(group: int) -> None:
    """SIGTERM to the group, a grace, then SIGKILL to whatever descends from us, until nothing does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    grace_ends = time.monotonic() + _GRACE_S
    while True:
        reap()
        left = children()
        if not left:
            return
        if time.monotonic() > grace_ends:
            for pid in left:  # its own children become ours, and are next
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _default_signals() -> None:
    """Between fork and exec: what we ignore must not be inherited. No thread runs here that could deadlock."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """The command of the spec, in a session of its own."""
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    with (folder / "console.log").open("wb") as console:
        return subprocess.Popen(
            spec["command"],
            env=spec["env"],
            cwd=spec["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_default_signals,  # noqa: PLW1509 - one thread only, see there
        )


def tell(line: bytes) -> None:
    """A line for the owner. Where it is gone already our input has ended as well, and that is what we go by."""
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line + b"\n")


def run(folder: Path) -> None:
    """The command, until its owner is gone."""
    child = start(folder)
    tell(b"%d" % child.pid)
    owner = os.getppid()
    while os.getppid() == owner:
        readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
        code = reap().get(child.pid)
        if code is not None:
            (folder / "exit").write_text(str(code), encoding="utf-8")
    end_all(child.pid)


def main(base: str, prefix: str) -> None:
    """A folder, and at the owner's word the command; neither outlives the owner."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    try:
        # Held as long as this process lives: who can take it knows that the folder is abandoned.
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tell(os.fsencode(folder))
            if os.read(sys.stdin.fileno(), 1):
                run(folder)
    finally:
        if not (folder / "keep").exists():
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
