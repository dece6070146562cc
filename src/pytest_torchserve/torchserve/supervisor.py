"""Make a folder, start one command in it, and end all descendants of the command when the owner is gone.

Run as a program: `python supervisor.py BASE PREFIX`, with a pipe as standard input whose other end only the owner
holds. The supervisor prints the folder's path. The owner then writes one line, a JSON object: `command`, `env`, and
`kept`. The supervisor starts the command and prints its process id. The line never touches the disk: it holds the
user's whole environment, and the folder may be kept, and uploaded. The end of the pipe, for whatever reason (stop,
crash, SIGKILL of the owner, in the middle of the line as well), ends all processes and removes the folder: from the
folder's first moment on, its removal is the supervisor's task alone. A folder in which the owner has made a file `keep`
stays; each file that `kept` names is first replaced by the text given there, or removed where the text is null: the
server no longer needs the secrets in that file. Options that a JVM
repeats are masked in `console.log` and in its crash reports.
Standard library only: the supervisor must outlive everything else.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# A JVM and its launcher repeat the options that they were given, in a crash report too; `mask` has the same.
_ECHO = re.compile(rb"(Picked up \w+:|JVM parameters:|jvm_args:|java_command:|Command Line:|\bJ\w*_OPTIONS=).*")
_GRACE_S = 1.0
_POLL_S = 0.5
_CHUNK_BYTES = 1 << 16
_PR_SET_CHILD_SUBREAPER = 36
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)  # meant for the owner; the supervisor ends after the owner


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, so that each can be found, ended and reaped."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> "dict[int, int]":
    """Collect ended children; return process id → exit code."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def children() -> "list[int]":
    """Return the process ids of this process's living children."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(pid) for pid in listed.split()]


def end_all(group: int) -> None:
    """Send SIGTERM to the group and, after a grace period, SIGKILL to all descendants until none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    grace_ends = time.monotonic() + _GRACE_S
    while True:
        reap()
        left = children()
        if not left:
            return
        if time.monotonic() > grace_ends:
            for pid in left:  # its children become this process's, and are next
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _default_signals() -> None:
    """Restore the default handlers between fork and exec: ignored signals would be inherited.

    No thread runs here that could deadlock.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)


def start(folder: Path, spec: "dict[str, Any]") -> "subprocess.Popen[bytes]":
    """Start the spec's command in a session of its own, with the folder as its working directory."""
    with (folder / "console.log").open("wb") as console:
        return subprocess.Popen(
            spec["command"],
            env=spec["env"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_default_signals,  # noqa: PLW1509 - one thread only, see `_default_signals`
        )


def tell(line: bytes) -> None:
    """Write a line to the owner.

    An owner that is gone already needs no handling here: standard input has ended as well, which `hear` notices.
    """
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line + b"\n")


def hear(owner: int) -> "bytes | None":
    """Return the bytes that the owner has written; None where there were none for a while, b"" once it is gone."""
    if os.getppid() != owner:  # the pipe stays open while a child of the owner's holds its other end
        return b""
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
    return os.read(sys.stdin.fileno(), _CHUNK_BYTES) if readable else None


def hear_spec(owner: int) -> "dict[str, Any] | None":
    """Return the spec, which may take several reads; None where the owner was gone before the last byte came."""
    line = bytearray()
    while not line.endswith(b"\n"):
        heard = hear(owner)
        if heard == b"":
            return None
        line += heard or b""
    spec: dict[str, Any] = json.loads(line)
    return spec


def run(folder: Path, spec: "dict[str, Any]", owner: int) -> None:
    """Start the command, and end it when the owner is gone."""
    child = start(folder, spec)
    tell(b"%d" % child.pid)
    while hear(owner) != b"":
        code = reap().get(child.pid)
        if code is not None:
            (folder / "exit").write_text(str(code), encoding="utf-8")
    end_all(child.pid)


def leave(folder: Path, kept: "dict[str, str | None]") -> None:
    """Remove the secrets, which are of no use without the server, from a folder that stays."""
    for log in (folder / "console.log", *folder.glob("hs_err_pid*.log")):
        with contextlib.suppress(OSError):
            log.write_bytes(_ECHO.sub(rb"\1 ***", log.read_bytes()))
    for name, text in kept.items():
        (folder / name).unlink(missing_ok=True)  # first, so that the secret goes even if the disk is full
        if text is not None:
            with contextlib.suppress(OSError):
                (folder / name).write_text(text, encoding="utf-8")


def main(base: str, prefix: str) -> None:
    """Make a folder, and run the owner's command in it; neither outlives the owner."""
    owner = os.getppid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    spec = None
    try:
        # This process holds the lock as long as it lives: a process that can take it knows the folder is abandoned.
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tell(os.fsencode(folder))
            spec = hear_spec(owner)
            if spec is not None:
                run(folder, spec, owner)
    finally:
        if spec is not None and (folder / "keep").exists():
            leave(folder, spec["kept"])
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
