"""Published weights: from the data folder, torch hub's cache, or their official address, hash checked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from pytest_torchserve._util import paths
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache

if TYPE_CHECKING:
    from pytest_torchserve.model import Weights

Mode = Literal["auto", "pretrained", "seeded"]

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_PARTIAL, _LOCK = ".partial", ".lock"
_BESIDE = (_PARTIAL, _LOCK)


def find(weights: Weights | Path | None, mode: Mode, data: Path | None) -> Path | None:
    """Return the published file, or None where the weights are to be seeded.

    Args:
        weights: the published weights in the catalogue, or a file of the user's own, which is used as it is; None where
            a model has none.
        mode: `pretrained` downloads a file that is not on disk; `auto` uses only files on disk; `seeded` uses none.
        data: the data folder, whose `weights/` is searched first.

    Raises:
        InputError: the mode is `pretrained` and the file is not available, or a file's hash is wrong.
    """
    if mode == "seeded":
        return None
    if weights is None:
        if mode == "pretrained":
            raise InputError(
                wanted="published weights (--ts-weights=pretrained)",
                found="the catalogue names none for this model",
                do="give its entry `weights`, or use --ts-weights=auto or seeded",
            )
        return None
    if isinstance(weights, Path):
        if not weights.is_file():
            raise InputError(
                wanted=f"the weights {weights}", found="no such file", do="mend the catalogue's entry, or leave it out"
            )
        return weights
    for folder in places(data):
        path = folder / weights.file
        if path.is_file():
            _check(path, weights)
            return path
    return _download(weights) if mode == "pretrained" else None


def places(data: Path | None) -> list[Path]:
    """Return the folders to search for a published file, in this order; torch hub's folder by torch hub's rule."""
    xdg = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = paths.at_home(os.environ.get("TORCH_HOME") or Path(xdg) / "torch") / "hub" / "checkpoints"
    own = cache.folder("weights")
    return [hub, own] if data is None else [data / "weights", hub, own]


def on_disk(data: Path | None) -> list[Path]:
    """Return the files that `find` would use if a catalogue named them: of files with the same name, the first."""
    found: dict[str, Path] = {}
    for folder in places(data):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in files:
            # Leave out the files that a download or a file manager puts beside the weights.
            if path.is_file() and path.suffix not in _BESIDE and not path.name.startswith("."):
                found.setdefault(path.name, path)
    return list(found.values())


def sha256(path: Path) -> str:
    """Return the file's SHA-256, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, weights: Weights) -> None:
    found = sha256(path)
    if not found.startswith(weights.sha256_prefix):
        raise InputError(
            wanted=f"{weights.file} with a SHA-256 that begins with {weights.sha256_prefix}",
            found=f"{path} has {found}",
            do="get the published file, or name a file of your own as weights=Path(…), or use --ts-weights=seeded",
        )


def address(source: str) -> str:
    """Return the URL for a catalogue entry's `source`."""
    if not source.startswith("torchvision:"):
        return source
    # In a process of its own, like all code that imports torch.
    ask = "import sys, torchvision; e, m = sys.argv[1].split('.'); print(getattr(torchvision.models, e)[m].url)"
    command = [sys.executable, "-c", ask, source.removeprefix("torchvision:")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _download(weights: Weights) -> Path:
    """Fetch the file into our cache: under a temporary name, checked, then renamed."""
    import requests  # noqa: PLC0415 - slow, and needed for a download only

    path = cache.folder("weights") / weights.file
    partial = path.with_suffix(_PARTIAL)
    with FileLock(path.with_suffix(_LOCK)):
        if path.is_file():
            return path
        try:
            with requests.get(address(weights.source), stream=True, timeout=_TIMEOUT_S) as answer:
                answer.raise_for_status()
                with partial.open("wb") as file:
                    for chunk in answer.iter_content(_CHUNK_BYTES):
                        file.write(chunk)
            _check(partial, weights)
        except (requests.RequestException, OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                wanted=f"{weights.file} (--ts-weights=pretrained)",
                found=f"not on disk, and the download failed: {error}",
                do=f"put the file into DIR/weights and name DIR with --ts-data (looked in: "
                f"{', '.join(map(str, places(None)))}), or use --ts-weights=auto or seeded",
            ) from error
        partial.replace(path)
    return path
