"""Another Python with a TorchServe of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pytest_torchserve._util import paths
from pytest_torchserve.errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 120


def find(place: Path, option: str) -> Path:
    """Return the interpreter of a virtual environment, or this interpreter, once it has been seen to have TorchServe.

    Args:
        option: the option that names the place, for the message.

    Raises:
        OptionError: there is none, or TorchServe is not installed there.
    """
    place = paths.at_home(place)
    # The link is not resolved: Python finds its virtual environment by the place of the link.
    python = (place / "bin" / "python" if paths.is_dir(place) else place).absolute()
    asked = [str(python), "-c", "import importlib.metadata as m; print(m.version('torchserve'))"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        found = answer.stderr.strip().splitlines()[-1:] if answer.returncode else []
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        found = [getattr(error, "strerror", None) or str(error)]
    if found:
        raise OptionError(
            wanted=f"a Python with TorchServe at {paths.shown(place)} ({option})",
            found=found[0],
            do="name a virtual environment into which torchserve and what its workers import are installed",
        )
    return python
