"""Makes a folder, starts one command in it, and ends all that descends from it when its owner is gone.

Run as a program: `python supervisor.py BASE PREFIX`, with a pipe as standard input whose other end only the owner
holds. It prints the folder's path. The owner then writes one line, a JSON object: `command`, `env`, and `kept`. The
supervisor starts the command and prints its process id. The line never touches the disk: it holds the user's whole
environment, and the folder may be kept, and uploaded. The end of the pipe, for whatever reason (stop, crash, SIGKILL of
the owner, in the middle of the line as well), ends all processes and removes the folder: from its first moment on that
is nobody else's to do. A folder in which the owner has made a file `keep` stays; each file that `kept` names is first
replaced by the text given there, or removed where that is null: the server has had the secrets that it needed. What a
JVM prints of its variables is taken out of `console.log`.
Standard library only: it must outlive everything else.
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

_ECHO = re.compile(rb"(Picked up \w+:).*")  # a JVM repeats the options that it took from a variable
_GRACE_S = 1.0
_POLL_S = 0.5
_CHUNK_BYTES = 1 << 16
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
            preexec_fn=_default_signals,  # noqa: PLW1509 - one thread only, see there
        )


def tell(line: bytes) -> None:
    """A line for the owner. Where it is gone already our input has ended as well, and that is what we go by."""
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line + b"\n")


def hear(owner: int) -> "bytes | None":
    """Return what the owner has written; None where it wrote nothing for a while, b"" once it is gone."""
    if os.getppid() != owner:  # where a child of the owner's still holds the other end, the pipe does not tell
        return b""
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
    return os.read(sys.stdin.fileno(), _CHUNK_BYTES) if readable else None


def hear_spec(owner: int) -> "dict[str, Any] | None":
    """Return the spec, which is longer than one read; None where the owner was gone before its last byte came."""
    line = bytearray()
    while not line.endswith(b"\n"):
        heard = hear(owner)
        if heard == b"":
            return None
        line += heard or b""
    spec: dict[str, Any] = json.loads(line)
    return spec


def run(folder: Path, spec: "dict[str, Any]", owner: int) -> None:
    """Start the command, and end it when its owner is gone."""
    child = start(folder, spec)
    tell(b"%d" % child.pid)
    while hear(owner) != b"":
        code = reap().get(child.pid)
        if code is not None:
            (folder / "exit").write_text(str(code), encoding="utf-8")
    end_all(child.pid)


def leave(folder: Path, kept: "dict[str, str | None]") -> None:
    """Take out of a folder that stays what is secret in it and of no use without the server."""
    console = folder / "console.log"
    with contextlib.suppress(OSError):
        console.write_bytes(_ECHO.sub(rb"\1 ***", console.read_bytes()))
    for name, text in kept.items():
        (folder / name).unlink(missing_ok=True)  # first: a full disk must not save the secret
        if text is not None:
            with contextlib.suppress(OSError):
                (folder / name).write_text(text, encoding="utf-8")


def main(base: str, prefix: str) -> None:
    """Make a folder, and run the command that the owner tells; neither outlives the owner."""
    owner = os.getppid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    spec = None
    try:
        # Held as long as this process lives: who can take it knows that the folder is abandoned.
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
