"""The baseline of a comparison: saved archives, a git revision, another environment, or other settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_torchserve.errors import InputError, OptionError
from pytest_torchserve.inputs import cache
from pytest_torchserve.model import Model, Weights
from pytest_torchserve.torchserve import archive, interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S = 120

CONFIG = "config:"
"""The beginning of a baseline that is a config.properties."""


class NoBaselineError(InputError):
    """The baseline does not have this model: there is nothing to compare the candidate with."""


class BaselineFailsError(NoBaselineError):
    """The baseline's worker does not start, or does not answer: that is no fault of the candidate's."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline that `--ts-baseline` names.

    Attributes:
        words: the option as the user wrote it, a revision with its commit.
        kind: the source of the other arm: archives, a revision, another Python, or a config.properties.
        path: the folder of archives, the folder that the revision's files were written to, the other Python, or the
            config.properties.
    """

    words: str
    kind: Literal["archives", "revision", "python", "config"]
    path: Path

    @property
    def has_own_server(self) -> bool:
        """True for another environment and for other settings: one TorchServe cannot have both."""
        return self.kind in ("python", "config")


def parse(text: str, root: Path) -> Baseline:
    """Return the baseline that the option's text names.

    The text is `python:VENV`, `config:FILE`, a folder with archives, or else a git revision of `root`'s repository.

    Raises:
        OptionError: the text names none of these; the message says why not.
    """
    if text.startswith("python:"):
        return Baseline(text, "python", interpreter.find(Path(text.removeprefix("python:")), "--ts-baseline=python:…"))
    if text.startswith(CONFIG):
        return Baseline(text, "config", config_file(text))
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not list(folder.glob("*.mar")):
            raise OptionError(
                wanted=f"archives in {folder} (--ts-baseline)",
                found="no .mar file",
                do="name a saved model store, such as a copy of model_store/",
            )
        return Baseline(text, "archives", folder.resolve())
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}", text=text)
    return Baseline(f"{text} ({commit[:10]})", "revision", _checked_out(root, commit, text))


def config_file(text: str) -> Path:
    """Return the config.properties that `config:FILE` names, in full."""
    return Path(text.removeprefix(CONFIG)).expanduser().resolve()


def _git(root: Path, *arguments: str, text: str) -> str:
    return _git_bytes(root, *arguments, text=text).decode().strip()


def _git_bytes(root: Path, *arguments: str, text: str) -> bytes:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    else:
        if answer.returncode == 0:
            return answer.stdout
        words = answer.stderr.decode(errors="replace").strip() or f"git knows no revision {text!r}"
    raise OptionError(
        wanted="--ts-baseline as a folder of .mar files, a git revision, python:/path/to/venv, or config:FILE",
        found=f"{text!r}: no such folder, and {words}",
        do="write for example --ts-baseline=HEAD, --ts-baseline=main~3 or --ts-baseline=saved_store",
    )


def _checked_out(root: Path, commit: str, text: str) -> Path:
    """Return a folder of the cache with the revision's files, named after their tree; the repository is not touched."""
    tree = _git(root, "rev-parse", f"{commit}:./", text=text)
    place = cache.folder() / "revisions" / tree
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        top = Path(_git(root, "rev-parse", "--show-toplevel", text=text))
        packed = _git_bytes(top, "archive", "--format=tar", tree, text=text)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            whole = Path(folder) / "files"
            with tarfile.open(fileobj=BytesIO(packed)) as file:
                file.extractall(whole, filter="data")
            try:
                whole.rename(place)
            except OSError:
                if not place.is_dir():
                    raise  # else another session has already written the same files
    return place


def models(folder: Path) -> dict[str, Model]:
    """Return the models that the conftest.py of a folder serves, by name; a process of its own reads the file.

    Raises:
        InputError: the conftest.py cannot be read.
    """
    with tempfile.NamedTemporaryFile() as written:  # not stdout: a conftest.py may print
        command = [sys.executable, "-m", "pytest_torchserve.compare.catalogue_of", str(folder), written.name]
        try:
            subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=_TIMEOUT_S, check=True)
            return {entry["name"]: _model(entry) for entry in json.loads(Path(written.name).read_bytes())}
        except subprocess.CalledProcessError as error:
            words = error.stderr.strip() or f"exit code {error.returncode}"
        except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
            words = f"{type(error).__name__}: {error}"
    raise InputError(
        wanted=f"the models that {folder / 'conftest.py'} serves",
        found=words,
        do="name a revision whose conftest.py has pytest_torchserve_models",
    )


def _model(entry: Mapping[str, Any]) -> Model:
    """Return a model from the form in which `catalogue_of` writes it."""
    handler = entry["handler"]
    return Model(
        name=entry["name"],
        handler=Path(handler) if os.sep in handler else handler,
        reference=_path(entry["reference"]),
        dataset=entry["dataset"],
        network=_path(entry["network"]),
        weights=Weights(**entry["weights"]) if isinstance(entry["weights"], dict) else _path(entry["weights"]),
        extra_files=tuple(map(Path, entry["extra_files"])),
        extra=entry["extra"],
        config=entry["config"],
        mar=_path(entry.get("mar")),  # an earlier release has none
        samples=_path(entry.get("samples")),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def saved_archive(folder: Path, name: str, device: str) -> Path:
    """Return the archive that a saved store last used for this model and device; `NAME.mar` where none names a device.

    Raises:
        NoBaselineError: the store has no such archive.
        InputError: the store has several, and nothing says which was last used.
    """
    told = archive.current(folder, name, device)
    if told.is_file() and (folder / told.read_text(encoding="utf-8")).is_file():
        return folder / told.read_text(encoding="utf-8")
    found = [*folder.glob(f"{name}-{device}-*.mar")] or [*folder.glob(f"{name}.mar")]
    found = [path for path in found if not path.name.startswith(f"{name}-{device}-pair-")]
    if not found:
        raise NoBaselineError(
            wanted=f"an archive of {name} for {device} in {folder}",
            found=", ".join(sorted(path.name for path in folder.glob("*.mar"))),
            do="save the model store once more, with this model in it",
        )
    if len(found) > 1:
        raise InputError(
            wanted=f"one archive of {name} for {device} in {folder}, or {told.name} that names one",
            found=", ".join(sorted(path.name for path in found)),
            do="delete those that are not meant; a whole model store, copied by `cp -r`, says itself which is",
        )
    return found[0]
