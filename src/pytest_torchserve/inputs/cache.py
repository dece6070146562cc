"""Cache folder for everything that is expensive to make, each file or folder named by the hash of its sources."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def folder() -> Path:
    """Return `$XDG_CACHE_HOME/pytest-torchserve`, created if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "pytest-torchserve"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(parts: Iterable[str | bytes | Path]) -> str:
    """Return twelve hex digits that identify these parts: texts, bytes, and files by name and content.

    Each part is hashed with its length, so that different lists of parts never give the same data.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                name, content = part.name.encode(), hashlib.file_digest(file, "sha256").digest()
            part = name + b"\0" + content  # noqa: PLW2901 - one loop over three kinds of part
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]
