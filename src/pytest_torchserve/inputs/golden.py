"""The golden answers: what each sample must be answered, by the same model run directly in PyTorch.

`start` begins the work in a process of its own and `Preparation.result` waits for it; what was made before
from the same files is read from the cache at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pytest_torchserve.environment import version
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache, samples, weights
from pytest_torchserve.model import TOLERANCE, Model, Sample

SEEDED_SAMPLES = 64
"""Seeded weights have no accuracy to measure: this many samples tell swapped answers apart just as well."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `prepare` is told: paths as text, for JSON."""

    network: str | None
    published: str | None
    reference: str
    dataset: str
    samples: list[str]
    classes: list[str | None]
    index: str | None
    tolerance: float
    weights: str
    labels: str
    golden: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a model is served with.

    Attributes:
        model: the model.
        weights: a plain state dict, or None for a model without a network.
        labels: a file of class index → name, for the archive.
        weights_kind: `pretrained`, `seeded` or `none`; it stands in every record.
        samples: what to send, with the answers to expect.
        samples_source: `folder`, `torchvision` or `synthetic`; it stands in every record.
    """

    model: Model
    weights: Path | None
    labels: Path
    weights_kind: str
    samples: tuple[Sample, ...]
    samples_source: str


class Preparation:
    """One model's inputs, perhaps still being made."""

    def __init__(self, model: Model, request: Request, source: str, process: subprocess.Popen[str] | None) -> None:
        self._model = model
        self._request = request
        self._source = source
        self._process = process

    @classmethod
    def start(cls, model: Model, mode: weights.Mode, data: Path | None) -> Self:
        """Find weights and samples, and begin whatever the cache does not hold."""
        published = weights.find(model.weights, mode, data) if model.network else None
        files = samples.find(model.dataset, data)
        request = _request(model, published, files)
        process = None
        if not Path(request.golden).is_file():
            spec = Path(request.golden).with_suffix(".request")
            spec.write_text(json.dumps(asdict(request)), encoding="utf-8")
            command = [sys.executable, "-m", "pytest_torchserve.inputs.prepare", str(spec), "--guarded"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        return cls(model, request, files.source, process)

    def result(self) -> Prepared:
        """Wait until all is there."""
        request = self._request
        if self._process is not None:
            assert self._process.stderr is not None  # noqa: S101 - says to the type checker what PIPE means
            errors = self._process.stderr.read()  # not communicate(): that would close its standard input
            self._process.wait()
            if self._process.returncode != 0:
                raise InputError(
                    wanted=f"weights and golden answers of {self._model.name}",
                    found=f"{request.reference} on {request.network}: {errors.strip()}",
                    do="mend the network's or the reference's file; run it alone with "
                    f"`python -m pytest_torchserve.inputs.prepare {Path(request.golden).with_suffix('.request')}`",
                )
        golden = json.loads(Path(request.golden).read_text(encoding="utf-8"))
        return Prepared(
            model=self._model,
            weights=Path(request.weights) if request.network else None,
            labels=Path(request.labels),
            weights_kind=_kind(request),
            samples=tuple(
                Sample(
                    name="/".join(Path(request.samples[index]).parts[-2:]),
                    body=Path(request.samples[index]).read_bytes(),
                    answer=golden["answers"][index],
                    label=golden["labels"][index],
                )
                for index in golden["kept"]
            ),
            samples_source=self._source,
        )

    def cancel(self) -> None:
        """End the work; used when the session ends early."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _kind(request: Request) -> str:
    if request.network is None:
        return "none"
    return "seeded" if request.published is None else "pretrained"


def _request(model: Model, published: Path | None, files: samples.SampleFiles) -> Request:
    """Name everything by its content: the same name means that nothing which matters has changed."""
    folder = cache.folder()
    limit = SEEDED_SAMPLES if model.network and published is None else len(files.paths)
    paths = files.paths[:limit]
    makers = [Path(__file__).with_name("torch_side.py"), str(version("torch")), str(version("torchvision"))]
    network = [model.network] if model.network else []
    state = cache.key([*makers, *network, model.reference, *([published] if published else [])])
    index = [files.index] if files.index else []
    golden = cache.key([state, *index, *(part for path in paths for part in (path.parent.name, path))])
    return Request(
        network=str(model.network) if model.network else None,
        published=str(published) if published else None,
        reference=str(model.reference),
        dataset=model.dataset,
        samples=[str(path) for path in paths],
        classes=list(files.classes[:limit]),
        index=str(files.index) if files.index else None,
        tolerance=TOLERANCE,
        weights=str(folder / f"{model.name}-{state}.pt"),
        labels=str(folder / f"{model.name}-{state}.labels.json"),
        golden=str(folder / f"{model.name}-{golden}.golden.json"),
    )
