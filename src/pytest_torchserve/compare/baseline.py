"""The baseline of a comparison: saved archives, a git revision, another environment, or other settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_torchserve._util import paths
from pytest_torchserve.compare import revision
from pytest_torchserve.errors import InputError, OptionError
from pytest_torchserve.model import Model, Weights
from pytest_torchserve.torchserve import archive, interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S = 120

CONFIG = "config:"
"""The beginning of a baseline that is a config.properties."""

PYTHON = "python:"
"""The beginning of a baseline that is another Python."""


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
        absent: the revision's sub-modules that are not at hand.
    """

    words: str
    kind: Literal["archives", "revision", "python", "config"]
    path: Path
    absent: tuple[str, ...] = ()

    @property
    def notices(self) -> list[str]:
        """Messages to the user about the baseline."""
        why = "is not at hand, and its folder is empty (git submodule update --init)"
        return [f"{self.words}: the sub-module {paths.shown(path)} {why}" for path in self.absent]

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
    check_named(text)
    if text.startswith(PYTHON):
        return Baseline(text, "python", interpreter.find(Path(text.removeprefix(PYTHON)), "--ts-baseline=python:…"))
    if text.startswith(CONFIG):
        return Baseline(text, "config", config_file(text))
    folder = paths.at_home(text)
    is_dir = paths.is_dir(folder)
    archives = is_dir and any(folder.glob("*.mar"))
    named = revision.full_name(root, text) if is_dir else ""
    if is_dir and not (archives or named):
        raise OptionError(
            wanted=f"archives in {folder}, or a revision of this name (--ts-baseline)",
            found="no .mar file, and git knows no such revision",
            do="name a saved model store, such as a copy of model_store/, or a revision",
        )
    if archives:
        if named:
            raise OptionError(
                wanted="a folder of archives or a git revision (--ts-baseline)",
                found=f"{text!r} is both",
                do=f"write ./{text} for the folder, or {named} for the revision",
            )
        return Baseline(text, "archives", paths.resolved(folder))
    commit = revision.commit_of(root, text)
    path, absent = revision.checked_out(root, commit)
    return Baseline(f"{text} ({commit[:10]})", "revision", path, tuple(absent))


def check_named(text: str) -> None:
    """Refuse a baseline without a name: an empty path would be the working folder's.

    Raises:
        OptionError: nothing follows the option, or its `config:` or `python:`.
    """
    if not text.removeprefix(CONFIG).removeprefix(PYTHON).strip():
        raise OptionError(
            wanted=revision.WANTED, found=f"{text!r}, which names none", do="name one, or leave the option out"
        )


def config_file(text: str) -> Path:
    """Return the config.properties that `config:FILE` names, in full."""
    check_named(text)
    return paths.resolved(paths.at_home(text.removeprefix(CONFIG)))


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
