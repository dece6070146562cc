"""Inputs of a model without a reference: its own weights and requests, and images where a stock handler wants some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache, requests, samples
from pytest_torchserve.inputs.model_inputs import HASH_LENGTH, ModelArtifacts, ModelInputs
from pytest_torchserve.inputs.weights import sha256
from pytest_torchserve.model import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_torchserve.model import Model

VISION = ("image_classifier", "object_detector", "image_segmenter")
TEXT = ("text_classifier",)
"""TorchServe's stock handlers, by the requests that they want."""

_TEXTS = (
    "The delivery came two days early and everything was in order.",
    "I waited an hour, and nobody could tell me where my parcel was.",
    "A quiet town by the sea, with one road in and one road out.",
    "Shares fell sharply after the company had announced its results.",
)


def artifacts(model: Model, weights: Path | None) -> ModelArtifacts:
    """Return the parts of the archive: the weights that the catalogue names, or nothing where there is an archive."""
    kind = "archived" if model.mar else "pretrained" if weights else "none"
    digest = sha256(weights)[:HASH_LENGTH] if weights else ""
    return ModelArtifacts(model=model, weights=weights, labels=None, weights_kind=kind, weights_hash=digest)


def knows_requests(model: Model) -> bool:
    """Return whether it is known without samples of the user's what to send."""
    return bool(model.reference or model.dataset or model.handler in (*VISION, *TEXT))


def inputs(artifacts: ModelArtifacts, data: Path | None) -> ModelInputs:
    """Return the requests to send: the user's own, those of a data set, or what the stock handler wants.

    Raises:
        InputError: nobody has said what to send, and the handler does not tell.
    """
    model = artifacts.model
    if model.samples is not None:
        sent = requests.read(model.samples)
        return hashed(artifacts, sent, "requests")
    dataset = model.dataset or ("imagenet" if model.handler in VISION else "")
    if dataset:
        found = samples.find(dataset, data)
        names = ["/".join(path.parts[-2:]) for path in found.paths]
        images = [Sample(name, path.read_bytes(), None) for name, path in zip(names, found.paths, strict=True)]
        return hashed(artifacts, images, found.source)
    if model.handler in TEXT:
        texts = [Sample(f"text {index}", text.encode(), None) for index, text in enumerate(_TEXTS)]
        return hashed(artifacts, texts, "synthetic")
    raise InputError(
        wanted=f"requests to send to {model.name}",
        found=f"none: its handler {model.handler_name} does not tell what it wants",
        do="name a file, a folder of files, or a .jsonl: --ts-samples=PLACE, or samples=Path(…) in the catalogue",
    )


def hashed(artifacts: ModelArtifacts, sent: Sequence[Sample], source: str) -> ModelInputs:
    """Return the inputs of samples that are sent as they are, with the hash of what is sent."""
    parts = (
        part for sample in sent for part in (sample.body, sample.content_type, repr(sorted(sample.headers.items())))
    )
    return ModelInputs(artifacts, tuple(sent), source, cache.key(parts))
