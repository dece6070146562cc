"""The performance suite itself: `tests/test_*.py` of the repository, which a wheel carries in this folder.

In a checkout there is one copy, in `tests/`; so a file of the suite is always found through `files`.
"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_torchserve.errors import InputError
from pytest_torchserve.model import Model

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[2]
_INSTALLED = (_HERE / "test_init.py").is_file()

FOLDER = _HERE if _INSTALLED else _CHECKOUT / "tests"
"""The folder of the suite's test files."""

_NEED_CATALOGUE = ("test_stock.py", "test_variants.py")  # name models of the repository

NOOP = Model(
    name="noop",
    handler=_HERE / "noop.py" if _INSTALLED else _CHECKOUT / "handlers" / "noop.py",
    reference=_HERE / "noop_reference.py" if _INSTALLED else _CHECKOUT / "models" / "reference" / "noop.py",
    dataset="cifar10",
    computes=False,
)
"""A model that computes nothing: its times are the cost of serving itself."""


def files() -> list[Path]:
    """Return the suite's test files that need no catalogue."""
    return [path for path in sorted(FOLDER.glob("test_*.py")) if path.name not in _NEED_CATALOGUE]


def nodeid(path: Path) -> str | None:
    """Return the node id of a file of the suite, the same wherever the file was found; None for any other file."""
    return f"tests/{path.name}" if path.parent == FOLDER and path.name.startswith("test_") else None


def place(nodeid: str) -> Path | None:
    """Return the file of the suite with this node id; None where there is none."""
    folder, _, name = nodeid.partition("/")
    path = FOLDER / name
    return path if folder == "tests" and name.startswith("test_") and path.is_file() else None


def write_template(name: str) -> Path:
    """Write a folder with a model of this name, its handler and its requests, and return the folder.

    Raises:
        InputError: the name is unfit for a model, or there is such a folder.
    """
    folder = Path(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or folder.exists():
        raise InputError(
            wanted="a name of letters, digits and _.- for a folder that does not exist",
            found=f"{name!r}" + (", which exists" if folder.exists() else ""),
            do="give another name",
        )
    folder.mkdir()
    for template in sorted((_HERE / "template").glob("*.txt")):
        text = template.read_text(encoding="utf-8").replace("@NAME@", name)
        (folder / template.name.removesuffix(".txt")).write_text(text, encoding="utf-8")
    return folder
