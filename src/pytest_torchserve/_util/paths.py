"""Paths that a user names: whatever is wrong with one is said in words, and no look at it raises.

Python's own `Path.exists` and its like raise for a name that is too long, `resolve` for links that lead in a circle,
and `expanduser` for a user who does not exist.
"""

from __future__ import annotations

import os
from pathlib import Path

NOTHING_THERE = "no such file or folder"

_SHOWN = 200


def why_absent(path: Path) -> str | None:
    """Return in words why nothing is found at a path; None where something is."""
    try:
        path.stat()
    except FileNotFoundError:
        return NOTHING_THERE
    except (OSError, ValueError) as error:  # ValueError: a NUL, or half of a character
        return getattr(error, "strerror", None) or str(error)
    return None


def is_dir(path: Path) -> bool:
    """Return whether a path is a folder's."""
    return os.path.isdir(path)  # noqa: PTH112 - Path's own raises for some names


def is_file(path: Path) -> bool:
    """Return whether a path is a file's."""
    return os.path.isfile(path)  # noqa: PTH113 - likewise


def at_home(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced by their folders; it is left as it is where there is none."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - likewise


def resolved(path: str | Path) -> Path:
    """Return a path in full, links followed as far as they can be."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path).absolute()


def shown(path: str | Path) -> str:
    """Return a path as a message shows it: in one line, a long one cut off."""
    text = str(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
