"""Models from archives of the user's own: found in files and folders, named, with what each archive says of itself."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve._util import paths
from pytest_torchserve.deployment import AsConfigured, Batching
from pytest_torchserve.errors import InputError, OptionError, SuiteError
from pytest_torchserve.inputs import catalogue_check, own
from pytest_torchserve.model import Model
from pytest_torchserve.torchserve import archive, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path
    from typing import Any

    from pytest_torchserve.answers import Tolerance

_SUFFIXES = (".mar", ".tar.gz")
_STREAMING = b"send_intermediate_predict_response"
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
_USUAL = {"batchSize": 1, "maxBatchDelay": 100, "minWorkers": 1}
"""TorchServe's own values where a config is silent; without a worker nothing could be measured, so one."""


_ONE_AT_A_TIME = ("text_classifier",)
"""Stock handlers of TorchServe 0.12 that answer a batch as if it were one request. Its asynchronous workers
(`asyncCommunication`) leave a batch of several requests unanswered, whatever their handler does."""


def find(places: Sequence[Path]) -> list[Path]:
    """Return the archives among files and folders: .mar, .tar.gz, and folders that hold a manifest; each once.

    Raises:
        OptionError: a place does not exist, or a folder has no archive.
    """
    found: list[Path] = []
    for place in places:
        here, why = [place], paths.why_absent(place)
        if paths.is_dir(place) and not (place / wrap.MANIFEST).is_file():
            here = sorted(path for path in place.iterdir() if _is_archive(path))
        if why or not here:
            raise OptionError(
                wanted=f"model archives at {paths.shown(place)} (--ts-mar)",
                found=why or "no .mar, no .tar.gz and no unpacked archive in it",
                do="name a .mar, or a folder that holds some",
            )
        found += here
    # Named as it was given: a link in a store of blobs has the model's name, its target a hash.
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(paths.resolved(path), path.absolute())
    return list(once.values())


def _is_archive(path: Path) -> bool:
    return path.name.endswith(_SUFFIXES) if path.is_file() else (path / wrap.MANIFEST).is_file()


def models(archives: Sequence[Path], samples: Path | None, tolerance: Tolerance | None) -> list[Model]:
    """Return a model for each archive, named after its file.

    An archive that cannot be read becomes a model all the same: its own tests say why, and the others are measured.

    Args:
        samples: the requests to send; where it is a folder with an entry of a model's name, that entry.

    Raises:
        OptionError: two archives would have one name.
    """
    found: dict[str, Model] = {}
    for path in archives:
        model = Model.from_mar(path, samples=samples, tolerance=tolerance)
        name = _UNFIT.sub("_", model.name)
        name = name if name[0].isalnum() else f"m{name}"
        other = found.get(name.casefold())
        if other is not None:
            raise OptionError(
                wanted="archives of different names (--ts-mar)",
                found=f"two are called {name}: {other.mar} and {path}",
                do="rename one of the files: a model is named after its file",
            )
        requests = _own(samples, (model.name, name), among=[Model.from_mar(path).name for path in archives])
        found[name.casefold()] = described(replace(model, name=name, samples=requests))
    return list(found.values())


def described(model: Model) -> Model:
    """Return the entry with what its archive says of itself: its handler's name, and how it is configured.

    An archive that cannot be read is left as it is: its own tests say why.
    """
    path = model.mar
    try:
        if path is None:
            files = [file for file in (model.handler_file, *model.extra_files) if file is not None]
            return _told(model, str(model.handler), model.config, files)
        with wrap.opened(path) as root:
            _, entry, config = wrap.original(root, path)
            return replace(_told(model, str(entry["handler"]), config, [root]), handler=str(entry["handler"]))
    except (SuiteError, OSError, AttributeError, TypeError):
        return model


def _told(model: Model, handler: str, config: Mapping[str, Any], places: Sequence[Traversable]) -> Model:
    """Return the entry with what its handler and its config say of streaming, batching and workers."""
    alone = model.one_at_a_time or config.get("asyncCommunication") is True or handler in _ONE_AT_A_TIME
    own = model.as_configured or _as_configured(config)
    if alone and own is not None and own.batching.batch_size > 1:
        own = None
    stock = wrap.stock_file(handler)
    sources = [*places, *([stock] if stock else [])]
    streams = model.streams or any(_STREAMING in file.read_bytes() for file in _modules(sources))
    return replace(model, streams=streams, one_at_a_time=alone, as_configured=own)


def _modules(places: Iterable[Traversable]) -> Iterator[Traversable]:
    """Yield the Python files at these places, in folders as well."""
    for place in places:
        if place.is_dir():
            yield from _modules(place.iterdir())
        elif place.name.endswith(".py") and place.is_file():
            yield place


def fault(model: Model) -> SuiteError | None:
    """Return why an entry of the catalogue cannot be served, before anything starts; None where nothing is seen."""
    try:
        catalogue_check.check(model)
        archive.config_text(model)
        if model.mar is not None:
            with wrap.opened(model.mar) as root:
                manifest, entry, _ = wrap.original(root, model.mar)
                wrap.check(root, manifest, entry, model.mar)
        if model.samples is not None or not own.knows_requests(model):
            own.inputs(own.artifacts(model, None), None)
    except SuiteError as error:
        return error
    except Exception as error:  # noqa: BLE001 - of whatever kind, it is this entry's, and the others are measured
        return InputError(
            wanted=f"an entry {model.name!r} that can be served",
            found=f"{type(error).__name__}: {error}",
            do="mend the entry or its files; the other models are measured",
        )
    return None


def _own(samples: Path | None, names: Sequence[str], among: Sequence[str]) -> Path | None:
    """Return the samples of this model: the entry of its name in a folder, or the folder where no model has one.

    Args:
        names: the archive's name, and the model's, which has no space in it.
        among: the names of all archives.
    """
    if samples is None or not samples.is_dir():
        return samples
    shared = not any((samples / other).exists() or (samples / f"{other}.jsonl").exists() for other in among)
    places = [samples / f"{name}{ending}" for name in names for ending in ("", ".jsonl")]
    return next((path for path in places if path.exists()), samples if shared else None)


def _as_configured(config: Mapping[str, Any]) -> AsConfigured | None:
    """Return what the archive's own model-config.yaml says of batching, workers and device; None where it is silent."""
    if not {*_USUAL, "deviceType", "parallelType"} & config.keys():
        return None
    sizes = [config.get(key, usual) for key, usual in _USUAL.items()]
    if not all(isinstance(number, int) for number in sizes):
        return None  # TorchServe will say so
    device = config.get("deviceType")
    return AsConfigured(
        Batching(max(1, sizes[0]), max(0, sizes[1])),
        workers=max(1, sizes[2]),
        device=device if device in ("cpu", "gpu") else None,
    )
