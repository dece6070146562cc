"""Check of a catalogue's entry before anything starts: its name, its files and folders."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from pytest_torchserve.errors import InputError
from pytest_torchserve.model import Weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_torchserve.model import Model

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check(model: Model) -> None:
    """Refuse an entry that cannot be prepared or archived.

    Raises:
        InputError: the name is unfit, or a file or folder that the entry names is not there; every fault is named.
    """
    found = [*_faults(model)]
    if found:
        raise InputError(
            wanted=f"an entry {model.name!r} of the catalogue that can be archived",
            found="; ".join(found),
            do="mend the entry (pytest_torchserve_models in conftest.py); the other models are measured",
        )


def _faults(model: Model) -> Iterator[str]:
    paths = {name: getattr(model, name) for name in ("reference", "network", "mar", "samples")}
    odd = [f"{name} is {value!r}" for name, value in paths.items() if not isinstance(value, (Path, NoneType))]
    odd += [f"extra_files holds {value!r}" for value in model.extra_files if not isinstance(value, Path)]
    if not isinstance(model.weights, (Weights, Path, NoneType)):
        odd.append(f"weights is {model.weights!r}")
    if odd:
        yield f"no path: {', '.join(odd)}"
        return
    if not _NAME.fullmatch(model.name):
        yield f"a name that is not letters, digits and _.-: {model.name!r}"
    if model.mar is not None:
        if not model.mar.exists():
            yield f"no archive {model.mar}"
        return
    if not str(model.handler):
        yield "neither a handler nor an archive (mar)"
    if model.handler_file is not None:
        yield from _handler_faults(model, model.handler_file)
    files = [model.network, model.reference, model.weights if not isinstance(model.weights, Weights) else None]
    yield from (f"no file {path}" for path in files if path is not None and not path.is_file())
    places = [*model.extra_files, *([model.samples] if model.samples else [])]
    yield from (f"no file or folder {path}" for path in places if not path.exists())
    yield from _twins(model)


def _handler_faults(model: Model, file: Path) -> Iterator[str]:
    """Yield what is wrong with the handler's file: it must be there, and define the function that is named."""
    _, _, function = str(model.handler).partition(".py:")
    if not file.is_file():
        yield f"no handler file {file}"
    elif function:
        try:
            names = set(_names(ast.parse(file.read_bytes())))
        except SyntaxError as error:
            yield f"{file}: {error}"
        else:
            if function not in names:
                yield f"no function {function} in {file}"


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield every name that a file defines, assigns or imports, anywhere in it."""
    for part in ast.walk(tree):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield part.name
        elif isinstance(part, ast.alias):
            yield part.asname or part.name
        elif isinstance(part, ast.Name):
            yield part.id


def _twins(model: Model) -> Iterator[str]:
    """Yield names that two files would have in the archive, where a folder's content lies beside the files."""
    seen: dict[str, Path] = {}
    for path in (*model.files(),):
        for part in sorted(path.iterdir()) if path.is_dir() else [path]:
            if part.name == "__pycache__":
                continue
            other = seen.setdefault(part.name, part)
            if other != part:
                yield f"two files called {part.name}: {other} and {part}"
