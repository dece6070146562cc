"""Journal of the finished runs: each run is a line on disk at once, so that no measurement is lost to a crash."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """A file of JSON lines, or none. The first line of a session describes machine, software and settings."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, kind: str, content: dict[str, Any]) -> None:
        """Append one line, which is on disk when `write` returns."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "line": kind, **content}
        with self.path.open("a", encoding="utf-8") as file:
            if _is_cut(self.path):
                file.write("\n")  # else this line would be lost with the cut one
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _is_cut(path: Path) -> bool:
    """Return whether a crash has cut the file's last line."""
    with path.open("rb") as file:
        return file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n"
