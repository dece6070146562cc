"""A program: write down which models the conftest.py of a folder serves, as JSON.

The program runs in a process of its own, since the folder's modules have the same names as the session's.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def _text(value: object) -> str:
    """Return a path in full: the reader has another working directory."""
    return str(value.absolute() if isinstance(value, Path) else value)


def main(folder: str, output: str) -> None:
    """Run the conftest.py, call its hook, and write the models."""
    place = Path(folder).resolve()
    sys.path.insert(0, str(place))
    spec = importlib.util.spec_from_file_location("conftest", place / "conftest.py")
    if spec is None or spec.loader is None:
        sys.exit(f"{place}/conftest.py cannot be loaded")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    hook: Any = getattr(conftest, "pytest_torchserve_models", None)
    if hook is None:
        sys.exit(f"{place}/conftest.py has no pytest_torchserve_models")
    served = hook(**dict.fromkeys(inspect.signature(hook).parameters))
    Path(output).write_text(json.dumps([asdict(model) for model in served], default=_text), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
