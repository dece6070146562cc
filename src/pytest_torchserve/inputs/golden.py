"""Golden answers: the right answer to each sample, by the same model run directly in PyTorch.

`Preparations.start` starts the work in a process of its own, and `result` waits for the inputs. Inputs made earlier
from the same files are read from the cache at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.answers import TOLERANCES
from pytest_torchserve.environment import version
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache, own, samples, weights
from pytest_torchserve.inputs.local_imports import local_imports
from pytest_torchserve.inputs.model_inputs import HASH_LENGTH, ModelArtifacts, ModelInputs, PreparationRequest
from pytest_torchserve.model import Model, Sample, Weights

if TYPE_CHECKING:
    from collections.abc import Iterable

SEEDED_SAMPLES = 64
"""The most samples with seeded weights: without an accuracy to measure, this many detect swapped answers as well."""

_TIMEOUT_S = 1800.0


class Preparations:
    """Inputs of several models, some perhaps still being made.

    One process makes the inputs that the cache lacks, one model after the other, so that torch is imported once.

    Args:
        mode, data: the sources of weights and samples.
        forget: whether what the cache holds is made anew.
    """

    def __init__(self, mode: weights.Mode, data: Path | None, *, forget: bool = False) -> None:
        self._forget = forget
        self._mode = mode
        self._data = data
        self._requests: dict[str, PreparationRequest] = {}
        self._sources: dict[str, str] = {}
        self._artifacts: dict[str, ModelArtifacts] = {}
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self, models: Iterable[Model]) -> None:
        """Find weights and samples, and start to make the inputs that the cache lacks.

        Raises:
            InputError: a data folder or weights that an option names are not available.
        """
        missing: dict[str, PreparationRequest] = {}
        for model in models:
            if model.name in self._requests or model.reference is None:
                continue
            published = weights.find(model.weights, self._mode, self._data) if model.network else None
            files = samples.find(model.dataset, self._data)
            request = _request(model, published, files)
            self._requests[model.name], self._sources[model.name] = request, files.source
            if self._forget:
                for path in filter(None, (request.labels, request.golden, request.network and request.weights)):
                    Path(path).unlink(missing_ok=True)
            if not _complete(request):
                Path(request.golden).with_suffix(".error").unlink(missing_ok=True)
                missing[request.golden] = request  # by content: two models may share everything
        if missing:
            spec = Path(next(iter(missing))).with_suffix(f".{os.getpid()}.request")
            spec.write_text(json.dumps([asdict(request) for request in missing.values()]), encoding="utf-8")
            command = [sys.executable, "-m", "pytest_torchserve.inputs.prepare", str(spec), "--guarded"]
            with spec.with_suffix(".log").open("wb") as log:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
            self._processes.append((process, spec))

    def artifacts(self, model: Model) -> ModelArtifacts:
        """Wait for the artifacts that go into the archive: they are ready before the golden answers."""
        if model.name not in self._artifacts:  # hashing the weights takes a while
            self._artifacts[model.name] = self._make_artifacts(model)
        return self._artifacts[model.name]

    def _make_artifacts(self, model: Model) -> ModelArtifacts:
        if model.reference is None:
            if not isinstance(model.weights, Weights):
                return own.artifacts(model, model.weights)  # the user's own, or in the archive: nothing to choose
            return own.artifacts(model, weights.find(model.weights, self._mode, self._data))
        self.start([model])
        request = self._requests[model.name]
        self._await(model, Path(request.labels))
        return ModelArtifacts(
            model=model,
            weights=Path(request.weights) if request.network else None,
            labels=Path(request.labels),
            weights_kind=_kind(request),
            weights_hash=weights.sha256(Path(request.published))[:HASH_LENGTH] if request.published else "",
        )

    def result(self, model: Model) -> ModelInputs:
        """Wait until all inputs of a model are ready.

        Raises:
            InputError: the network's or the reference's file failed; the message holds its traceback.
        """
        artifacts = self.artifacts(model)
        if model.reference is None:
            return own.inputs(artifacts, self._data)
        request = self._requests[model.name]
        self._await(model, Path(request.golden))
        golden = json.loads(Path(request.golden).read_text(encoding="utf-8"))
        kept = [
            Sample(
                name="/".join(Path(request.samples[index]).parts[-2:]),
                body=Path(request.samples[index]).read_bytes(),
                answer=golden["answers"][index],
                label=golden["labels"][index],
                complete=True,
            )
            for index in golden["kept"]
        ]
        # Of all samples and not of those kept, which depend on the network: another network gets the same samples.
        digest = cache.key(Path(path).read_bytes() for path in request.samples)
        return ModelInputs(artifacts, tuple(kept), self._sources[model.name], digest)

    def _await(self, model: Model, path: Path) -> None:
        """Wait for a file, which is written whole or not at all; raise InputError when it will not come."""
        request = self._requests[model.name]
        error = Path(request.golden).with_suffix(".error")
        wait_until(lambda: path.is_file() or error.is_file() or self._ended(), timeout_s=_TIMEOUT_S)
        if path.is_file():
            return
        words = error.read_text(encoding="utf-8").strip() if error.is_file() else self._last_words()
        raise InputError(
            wanted=f"weights and golden answers of {model.name}",
            found=f"{request.reference} on {request.network}: {words}",
            do="mend the file that the last line speaks of: the weights, the network or the reference",
        )

    def _ended(self) -> bool:
        return all(process.poll() is not None for process, _ in self._processes)

    def _last_words(self) -> str:
        """Return the output of the processes, for an error message where none reported an error itself."""
        logs = [spec.with_suffix(".log").read_text(errors="replace").strip() for _, spec in self._processes]
        return "\n".join(filter(None, logs)) or f"nothing, within {_TIMEOUT_S:.0f} s"

    def cancel(self) -> None:
        """End the processes that still run, and delete their files; called when the session ends."""
        for process, spec in self._processes:
            process.kill()
            process.communicate()
            spec.unlink(missing_ok=True)
            spec.with_suffix(".log").unlink(missing_ok=True)


def _complete(request: PreparationRequest) -> bool:
    """Return whether the cache holds all files of a request; the weights are large, and may have been deleted."""
    needed = [request.labels, request.golden, *([request.weights] if request.network else [])]
    return all(Path(path).is_file() for path in needed)


def _kind(request: PreparationRequest) -> str:
    if request.network is None:
        return "none"
    return "seeded" if request.published is None else "pretrained"


def _request(model: Model, published: Path | None, files: samples.SampleFiles) -> PreparationRequest:
    """Return the request for a model with a reference.

    File names hold a hash of the sources: same name, same relevant content.
    """
    assert model.reference is not None  # noqa: S101 - the caller has checked
    sources = [model.reference, *([model.network] if model.network else [])]
    folders = list(dict.fromkeys(path if path.is_dir() else path.parent for path in (*sources, *model.extra_files)))
    folder = cache.folder()
    limit = SEEDED_SAMPLES if model.network and published is None else len(files.paths)
    paths = files.paths[:limit]
    makers: list[str | bytes | Path] = [Path(__file__).with_name("torch_side.py"), Path(samples.__file__)]
    makers += [str(version(name)) for name in ("torch", "torchvision", "pillow")]
    makers += [model.dataset, repr(TOLERANCES), *sources, *local_imports(sources, folders)]
    images = [part for path in paths for part in (path.parent.name, path)]
    # Seeded weights are scaled on the samples; published weights do not depend on them.
    state = cache.key([*makers, *([published] if published else images)])
    index = [files.index] if files.index else []
    golden = cache.key([state, *index, *images])
    return PreparationRequest(
        folders=[str(path) for path in folders],
        network=str(model.network) if model.network else None,
        published=str(published) if published else None,
        reference=str(model.reference),
        dataset=model.dataset,
        samples=[str(path) for path in paths],
        classes=list(files.classes[:limit]),
        index=str(files.index) if files.index else None,
        tolerance=TOLERANCES["cpu"].absolute,
        weights=str(folder / f"{model.reference.stem}-{state}.pt"),
        labels=str(folder / f"{model.reference.stem}-{state}.labels.json"),
        golden=str(folder / f"{model.reference.stem}-{golden}.golden.json"),
    )
