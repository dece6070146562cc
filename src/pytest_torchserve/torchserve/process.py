"""A process group that cannot outlive pytest, and its folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "tsperf-"
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_KEPT_S = 7 * 24 * 3600
_STOP_S = 15.0


class SupervisedProcess:
    """A command under a supervisor: `start`, `exit_code`, `stop`.

    The command's folder (temporary files, sockets, logs, keys, PID files: everything) is deleted by `stop`,
    unless `keep` was called.
    """

    def __init__(self) -> None:
        # The supervisor makes the folder: if this process made it and were killed at once, the folder would stay.
        self._supervisor: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR), tempfile.gettempdir(), PREFIX],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        # The path must be short: the workers' sockets lie in the folder, and their paths may have 107 bytes.
        self.folder = Path(self._told())
        self.pid = 0

    def _told(self) -> str:
        """Return the supervisor's next line."""
        assert self._supervisor is not None  # noqa: S101 - not used after `stop`
        assert self._supervisor.stdout is not None  # noqa: S101 - says to the type checker what PIPE means
        line = os.fsdecode(self._supervisor.stdout.readline()).rstrip("\n")
        if not line:
            raise ServerError(
                wanted="a supervisor process that owns the server's folder",
                found=f"it ended with exit code {self._supervisor.wait()}; its own words are above",
                do=f"see whether {tempfile.gettempdir()} can be written to and has room (TMPDIR names another)",
            )
        return line

    def start(
        self, command: Sequence[str], env: Mapping[str, str], kept: Mapping[str, str | None] | None = None
    ) -> None:
        """Start the command in a new session, with the folder as its working directory.

        Args:
            command: the program and its arguments.
            env: the command's environment. It is never written to disk: it holds the user's secrets.
            kept: file name → the text that replaces the file in a folder that stays; None removes the file.

        Raises:
            ServerError: the command cannot be started.
        """
        __tracebackhide__ = True  # pytest's long tracebacks show arguments
        spec = {"command": list(command), "env": dict(env), "kept": dict(kept or {})}
        assert self._supervisor is not None  # noqa: S101 - as above
        assert self._supervisor.stdin is not None  # noqa: S101 - as above
        with contextlib.suppress(BrokenPipeError):  # the supervisor has ended, and `_told` reports it
            self._supervisor.stdin.write(json.dumps(spec).encode() + b"\n")
            self._supervisor.stdin.flush()
        self.pid = int(self._told())

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's process id."""
        return self._supervisor.pid if self._supervisor else 0

    def exit_code(self) -> int | None:
        """Return the command's exit code, or None while it runs; the supervisor's own, where that was killed."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "exit").read_text(encoding="utf-8"))
        return self._supervisor.poll() if self._supervisor else None

    def keep(self) -> None:
        """Leave the folder behind when the process stops."""
        (self.folder / "keep").touch()

    def stop(self) -> None:
        """Close the pipe and wait until the supervisor has ended the process group."""
        if self._supervisor is None:
            return
        assert self._supervisor.stdin is not None  # noqa: S101 - as above
        with contextlib.suppress(OSError):
            self._supervisor.stdin.close()
        self._supervisor.wait(timeout=_STOP_S)
        if self._supervisor.stdout is not None:
            self._supervisor.stdout.close()
        self._supervisor = None


def remove_stale_folders(base: Path | None = None) -> list[Path]:
    """Delete folders whose supervisor is gone (it was killed too), and kept folders older than a week; return them."""
    removed = []
    for folder in (base or Path(tempfile.gettempdir())).glob(PREFIX + "*"):
        if not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        kept = (folder / "keep").exists()
        age_s = time.time() - folder.stat().st_mtime
        if (kept and age_s < _KEPT_S) or not _abandoned(folder, age_s):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder)
    return removed


def _abandoned(folder: Path, age_s: float) -> bool:
    """Return whether no process holds the folder's lock. A folder that was just made may not have a lock yet."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return age_s > 60  # noqa: PLR2004 - far longer than from mkdtemp to the lock
    except BlockingIOError:
        return False
    return True
