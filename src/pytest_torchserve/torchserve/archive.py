"""A model's .mar for one device, with the probe as its entry point, named by the hash of its inputs.

Whoever's the archive is: torch-model-archiver packs it as its owner would, and `wrap` adds the probe.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_torchserve.environment import version
from pytest_torchserve.errors import ArchiveError
from pytest_torchserve.inputs.cache import key as content_key
from pytest_torchserve.torchserve import wrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_torchserve.deployment import Device
    from pytest_torchserve.inputs.model_inputs import ModelArtifacts
    from pytest_torchserve.model import Model
    from pytest_torchserve.torchserve.timeouts import WantedTimeouts

_MAKING = ".making-"


@dataclass(frozen=True, slots=True)
class Archive:
    """A .mar in the model store.

    Attributes:
        path: the file.
        key: the hash of everything that went into the archive. The file's own hash would not do: the manifest
            holds the time of the build.
    """

    path: Path
    key: str


def build(
    artifacts: ModelArtifacts,
    device: Device,
    store: Path,
    timeouts: WantedTimeouts = wrap.AS_THEY_ARE,
    *,
    of_today: bool = True,
) -> Archive:
    """Return the archive; make it unless the store holds it already.

    Args:
        timeouts: the time-outs that the user asks for.
        of_today: whether the archive is of the version served now, and not of an earlier one to compare with.

    Raises:
        ArchiveError: torch-model-archiver refused the files.
    """
    model = artifacts.model
    parts: list[str | bytes | Path] = [*wrap.PAYLOAD, Path(wrap.__file__), device, model.handler_name]
    parts += [config_text(model), str(version("torch-model-archiver")), *timeouts.key]
    parts += [part for leaf in _leaves(model.files()) for part in leaf]
    parts += [path for path in (artifacts.weights, artifacts.labels) if path]
    key = content_key(parts)
    path = store / f"{model.name}-{device}-{key}.mar"
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / f".{model.name}-{device}.lock"):
        if not path.is_file():
            for abandoned in store.glob(f"{_MAKING}{model.name}-{device}-*"):
                shutil.rmtree(abandoned)  # by a process that was killed: this one holds the lock
            with tempfile.TemporaryDirectory(dir=store, prefix=f"{_MAKING}{model.name}-{device}-") as folder:
                made = Path(folder) / "wrapped.mar"
                wrap.wrap(model.mar or _make(artifacts, Path(folder)), device, made, timeouts)
                made.replace(path)
        # The store keeps archives of older sources, too: a file beside them names today's.
        if of_today:
            current(store, model.name, device).write_text(path.name, encoding="utf-8")
    return Archive(path=path, key=key)


def current(store: Path, name: str, device: str) -> Path:
    """Return the file that names a model's latest archive; the file is copied along with a store."""
    return store / f"{name}-{device}.current"


def check(path: Path) -> None:
    """Read the whole archive, once for each state of the file.

    Raises:
        ArchiveError: the file is no .mar, or a part of it does not match its checksum.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise _corrupt(path, str(error)) from error
    _check(path, state.st_mtime_ns, state.st_size)


@cache
def _check(path: Path, mtime_ns: int, size: int) -> None:  # noqa: ARG001 - the cache's key: they identify a state of the file
    try:
        with zipfile.ZipFile(path) as file:
            spoilt = file.testzip()
            found = f"{spoilt} in it does not have its checksum" if spoilt else ""
            if wrap.MANIFEST not in file.namelist():
                found = f"a zip file without {wrap.MANIFEST}"
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        found = f"{type(error).__name__}: {error}"
    if found:
        raise _corrupt(path, found)


def _corrupt(path: Path, found: str) -> ArchiveError:
    return ArchiveError(
        wanted=f"a model archive in {path}", found=found, do="delete the file: the next run makes it again"
    )


def config_text(model: Model) -> str:
    """Return the text of model-config.yaml; '' for none.

    Raises:
        ArchiveError: a value cannot be written as YAML.
    """
    import yaml  # noqa: PLC0415 - not needed to collect tests

    try:
        return yaml.safe_dump(dict(model.config), allow_unicode=True) if model.config else ""
    except yaml.YAMLError as error:
        raise ArchiveError(
            wanted=f"texts, numbers, lists and mappings in the config of {model.name}",
            found=str(error).replace("\n", " "),
            do="mend the catalogue's entry: write a path as text",
        ) from error


def _leaves(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Yield every file, and every file in every folder, with its place in the folder."""
    for path in paths:
        if not path.is_dir():
            yield "", path
            continue
        leaves = (leaf for leaf in path.rglob("*") if leaf.is_file() and leaf.parent.name != "__pycache__")
        yield from ((leaf.relative_to(path).as_posix(), leaf) for leaf in sorted(leaves))


def _make(artifacts: ModelArtifacts, folder: Path) -> Path:
    """Run torch-model-archiver on copies that have the names which the archive needs."""
    # In this process, so that nothing is left running when it is killed; imported late: the import is slow.
    from model_archiver.model_archiver_config import ModelArchiverConfig  # noqa: PLC0415
    from model_archiver.model_archiver_error import ModelArchiverError  # noqa: PLC0415
    from model_archiver.model_packaging import generate_model_archive  # noqa: PLC0415

    model = artifacts.model
    config, config_file = config_text(model), folder / "model-config.yaml"
    config_file.write_text(config, encoding="utf-8")
    extra = list(model.extra_files)
    if artifacts.labels is not None:
        extra.append(Path(shutil.copy(artifacts.labels, folder / "index_to_name.json")))
    weights = None
    if artifacts.weights is not None:
        # A link, not a copy: the archiver itself copies the weights once more. A user's own keep their name.
        weights = folder / ("weights.pt" if model.reference else artifacts.weights.name)
        weights.symlink_to(artifacts.weights.absolute())
    settings = ModelArchiverConfig(
        model_name=model.name,
        handler=model.packed_handler,
        version="1.0",
        serialized_file=str(weights) if weights else None,
        model_file=str(model.network) if model.network else None,
        extra_files=",".join(map(str, extra)),
        config_file=str(config_file) if config else None,
        export_path=str(folder),
        requirements_file=None,
        runtime="python",
        archive_format="default",
        force=True,
    )
    # The archiver works in, and first deletes, `gettempdir()/MODEL`: that folder must be this process's alone.
    tempfile.tempdir, before = str(folder / "tmp"), tempfile.tempdir
    (folder / "tmp").mkdir()
    try:
        generate_model_archive(settings)
    except (ModelArchiverError, OSError) as error:
        raise ArchiveError(
            wanted=f"a .mar of {model.name} from {', '.join(str(path) for path in model.files())}",
            found=f"torch-model-archiver: {error}",
            do="mend the catalogue's entry: the files must exist, and no two may bear one name",
        ) from error
    finally:
        tempfile.tempdir = before
    return folder / f"{model.name}.mar"
