"""Cache folder for everything that is expensive to make, each file or folder named by the hash of its sources."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve._util import paths
from pytest_torchserve.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


def base() -> Path:
    """Return the folder of all programs' caches: XDG_CACHE_HOME, or ~/.cache. XDG says to ignore a relative one."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    return Path(told) if os.path.isabs(told) else paths.at_home("~/.cache")  # noqa: PTH117 - a text


def folder(name: str = "") -> Path:
    """Return `pytest-torchserve` in the folder of caches, or a folder within it, created if need be.

    Raises:
        InputError: it cannot be created.
    """
    path = base() / "pytest-torchserve" / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(
            wanted=f"a folder at {paths.shown(path)} for what is made once (XDG_CACHE_HOME)",
            found=getattr(error, "strerror", None) or str(error),
            do="set XDG_CACHE_HOME to a folder that can be written to",
        ) from error
    return path


def key(parts: Iterable[str | bytes | Path]) -> str:
    """Return twelve hex digits that identify these parts: texts, bytes, and files by name and content.

    Each part is hashed with its length, so that different lists of parts never give the same data.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                name, content = _encoded(part.name), hashlib.file_digest(file, "sha256").digest()
            part = name + b"\0" + content  # noqa: PLW2901 - one loop over three kinds of part
        data = _encoded(part) if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def _encoded(text: str) -> bytes:
    """Return a text as bytes; a file's name need not be UTF-8, and Python keeps its bytes as halves of characters."""
    return text.encode(errors="surrogatepass")
