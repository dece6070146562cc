"""The files beside a source file that it imports: what decides how it behaves, besides itself."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


def local_imports(files: Iterable[Path], folders: Sequence[Path]) -> list[Path]:
    """Return every file of these folders that one of the files imports, directly or not, in order of their paths.

    A file that cannot be parsed imports nothing here; whoever runs it will say so.
    """
    seen: set[Path] = set()
    todo = list(files)
    while todo:
        for name in _names(todo.pop()):
            found = [path for folder in folders for path in _sources(folder, name)]
            todo += [path for path in found if path not in seen]
            seen.update(found)
    return sorted(seen)


def _names(file: Path) -> Iterator[str]:
    """Yield the first part of every module that a file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
            if node.level:
                yield from (alias.name for alias in node.names)


def _sources(folder: Path, name: str) -> list[Path]:
    """Return the file of a module, or all files of a package."""
    if not name:
        return []
    if (folder / f"{name}.py").is_file():
        return [folder / f"{name}.py"]
    return sorted((folder / name).rglob("*.py")) if (folder / name / "__init__.py").is_file() else []
