"""An archive packed again with the probe as its entry point; everything else is passed through as it is.

The frontend gets a config of its own, with the device of the cell and without what the registration decides; the
handler gets the original manifest and config back (`payload/ts_probe.restore`).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_torchserve.errors import ArchiveError
from pytest_torchserve.torchserve.timeouts import WantedTimeouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

    from pytest_torchserve.deployment import Device

PAYLOAD = tuple(sorted((Path(__file__).parent / "payload" / "ts_probe").glob("*.py")))
"""The probe's files: a package in the archive."""

PROBE = "ts_probe"

MANIFEST = "MAR-INF/MANIFEST.json"
SETTINGS = "ts_probe.json"
CONFIG = "ts_probe-config.yaml"
"""The config that the frontend reads; the handler never sees it."""

REGISTERED = ("batchSize", "maxBatchDelay", "minWorkers", "maxWorkers")
"""Keys of model-config.yaml that would win over the registration: a cell's own batching could not be set."""

AS_THEY_ARE = WantedTimeouts()
"""Time-outs are the archive's own, or TorchServe's."""

_FILES = ("modelFile", "serializedFile", "requirementsFile", "configFile")
_RUNTIMES = ("python", "python3")
_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, tarfile.TarError, RuntimeError, NotImplementedError)


@contextmanager
def opened(path: Path) -> Iterator[Traversable]:
    """Open an archive in any of TorchServe's formats: a zip file, a .tar.gz, or a folder.

    Raises:
        ArchiveError: the file cannot be read as one of them, or has no manifest.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            if path.is_dir():
                yield _rooted(path, path)
            elif zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as file:
                    yield _rooted(zipfile.Path(file), path)
            else:
                with tarfile.open(path) as file:
                    file.extractall(folder, filter="data")
                # torch-model-archiver packs a folder of the model's name.
                roots = [Path(folder), *Path(folder).iterdir()]
                yield _rooted(next((root for root in roots if (root / MANIFEST).is_file()), roots[0]), path)
    except _UNREADABLE as error:
        raise ArchiveError(
            wanted=f"a model archive in {path}: a .mar, a .tar.gz or a folder, as torch-model-archiver writes them",
            found=f"{type(error).__name__}: {error}",
            do="name another file, make the archive anew (a plain zip, not encrypted), or free some room",
        ) from error


def _rooted(root: Traversable, path: Path) -> Traversable:
    if not (root / MANIFEST).is_file():
        raise ArchiveError(
            wanted=f"a model archive in {path}", found=f"no {MANIFEST} in it", do="make it with torch-model-archiver"
        )
    return root


def original(root: Traversable, path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return manifest, the model's entry in it and the config as they were before any probe was packed.

    Raises:
        ArchiveError: the manifest or the config cannot be used.
    """
    import yaml  # noqa: PLC0415 - not needed to collect tests

    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        entry = dict(manifest["model"])
        if (root / SETTINGS).is_file():
            entry = json.loads((root / SETTINGS).read_text(encoding="utf-8"))["model"]
        config: Any = {}
        if entry.get("configFile") and (root / entry["configFile"]).is_file():
            config = yaml.safe_load((root / entry["configFile"]).read_text(encoding="utf-8")) or {}
        if not isinstance(config, dict):
            raise TypeError(f"{entry['configFile']} holds {type(config).__name__}, no mapping")  # noqa: TRY301
        # An archive of an earlier release of this suite has its real handler's name in the config.
        handler = config.get("probe", {}).get("handler") if entry["handler"] == "ts_probe.py" else None
        return manifest, {**entry, "handler": handler or entry["handler"]}, config
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ArchiveError(
            wanted=f"a manifest with a model and its handler in {path}",
            found=f"{type(error).__name__}: {error}",
            do="make the archive anew with torch-model-archiver",
        ) from error


def check(root: Traversable, manifest: Mapping[str, Any], entry: Mapping[str, Any], path: Path) -> None:
    """Refuse an archive that TorchServe could not serve, before a server is started for it.

    Raises:
        ArchiveError: it is of another runtime, or a file that its manifest names is not in it.
    """
    runtime = str(manifest.get("runtime", "python"))
    if runtime.lower() not in _RUNTIMES:
        raise ArchiveError(
            wanted=f"an archive for the Python runtime in {path}",
            found=f"one for {runtime}",
            do="measure it where that runtime is: the probe is written in Python",
        )
    missing = [f"{key} {entry[key]}" for key in _FILES if entry.get(key) and not (root / _base(entry[key])).is_file()]
    module = _base(str(entry["handler"]).partition(":")[0]).removesuffix(".py")
    if not ((root / f"{module}.py").is_file() or (root / module).is_dir() or stock_file(module)):
        missing.append(f"handler {entry['handler']}")
    if missing:
        raise ArchiveError(
            wanted=f"every file that the manifest names in {path}",
            found=f"not in it: {', '.join(missing)}",
            do="make the archive anew with torch-model-archiver",
        )


def stock_file(name: str) -> Path | None:
    """Return the file of the handler of this name that TorchServe brings; None where it brings none."""
    found = importlib.util.find_spec("ts")
    folders = found.submodule_search_locations if found and found.submodule_search_locations else ()
    files = (Path(folder, "torch_handler", f"{name}.py") for folder in folders)
    return next((file for file in files if file.is_file()), None)


def _base(name: str) -> str:
    return PurePosixPath(name).name


def wrap(path: Path, device: Device, made: Path, timeouts: WantedTimeouts = AS_THEY_ARE) -> None:
    """Write the archive with the probe to `made`, a .mar, stored and not compressed: weights shrink little.

    Args:
        timeouts: the time-outs that the user asks for.

    Raises:
        ArchiveError: the archive cannot be read or served.
    """
    import yaml  # noqa: PLC0415 - not needed to collect tests

    with opened(path) as root, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        manifest, entry, config = original(root, path)
        check(root, manifest, entry, path)
        ours = {MANIFEST, SETTINGS, CONFIG, *packed()}
        for name, part in files(root):
            if name not in ours:
                with part.open("rb") as source, file.open(name, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        told = {key: value for key, value in config.items() if key not in REGISTERED} | timeouts.within(config)
        if device == "cpu":
            told.pop("deviceIds", None)
        file.writestr(CONFIG, yaml.safe_dump({**told, "deviceType": device}, allow_unicode=True))
        file.writestr(SETTINGS, json.dumps({"model": entry}, indent=2))
        file.writestr(
            MANIFEST,
            json.dumps({**manifest, "model": {**entry, "handler": PROBE, "configFile": CONFIG}}, indent=2),
        )
        for name, program in packed().items():
            file.write(program, name)


def packed() -> dict[str, Path]:
    """Return the probe's files by their names in an archive."""
    return {f"{PROBE}/{program.name}": program for program in PAYLOAD}


def files(root: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield every file below, with its path in the archive."""
    for part in sorted(root.iterdir(), key=lambda part: part.name):
        if part.is_dir():
            yield from files(part, f"{prefix}{part.name}/")
        else:
            yield f"{prefix}{part.name}", part
