"""Models to serve: `Model`, its `Weights`, and the `Sample`s to send to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Answer = Mapping[str, float]
"""A complete answer: every label and its value (a probability, or an exact count)."""

TOLERANCE = {"cpu": 1e-3, "gpu": 1e-2, "unknown": 1e-2}
"""The largest allowed distance of a probability from the golden one, which is float32 on a CPU.

On a CPU only batch sizes and kernels differ. On a GPU cuDNN's convolutions use TF32 by default: ten bits of
mantissa. The golden answers of a seeded model differ from each other by more than twice the larger tolerance, so that
swapped answers are detected on either device.
"""


@dataclass(frozen=True, slots=True)
class Weights:
    """Source of a model's published weights.

    Attributes:
        file: the published file's name; its stem ends in the first characters of its SHA-256, as torch hub's do.
        source: an URL, or `torchvision:ENUM.MEMBER`, whose URL torchvision knows.
    """

    file: str
    source: str

    @property
    def sha256_prefix(self) -> str:
        """The first characters of the SHA-256, as the file's name states them."""
        return Path(self.file).stem.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the catalogue.

    Attributes:
        name: as it appears in test ids and records.
        handler: the handler's file, or the name of a stock TorchServe handler.
        reference: the file with `answers(network, bodies) -> [{label: value}, …]`, the model run directly, from
            which the golden answers come; `network` is None for a model without one. For a network it
            also defines `tensor(body)` (its input, a batch of one) and `LABELS`, the classes' names in
            the order of its outputs.
        dataset: the data set of the samples to send: `cifar10` or `imagenet`.
        network: the file that defines the network, packed into the archive as the model file. The file
            holds exactly one class, and may define `from_published(state_dict)`, which turns the published
            file's content into that class's state dict.
        weights: the published weights; None where there are none (then always seeded).
        extra_files: other modules that the handler imports.
        extra: measured only by tests that name the model (`ts_models`), not by the whole matrix.
        config: further keys of the archive's model-config.yaml.
    """

    name: str
    handler: Path | str
    reference: Path
    dataset: str
    network: Path | None = None
    weights: Weights | None = None
    extra_files: tuple[Path, ...] = ()
    extra: bool = False
    config: Mapping[str, object] = field(default_factory=dict)

    def files(self) -> tuple[Path, ...]:
        """Return every source file whose content decides how this model behaves when served."""
        own = (self.network, self.handler if isinstance(self.handler, Path) else None, *self.extra_files)
        return tuple(path for path in own if path is not None)


@dataclass(frozen=True, slots=True)
class Sample:
    """A request body and the answer that it must get.

    Attributes:
        name: for messages.
        body: the bytes to send.
        answer: the golden answer; None where it is unknown: then only the response's status is checked.
        label: the true label where the sample has one, as the golden answer spells it.
        content_type: `application/octet-stream` unless the handler wants another: with a form type
            TorchServe parses the body as a form and the image is lost.
    """

    name: str
    body: bytes
    answer: Answer | None
    label: str | None = None
    content_type: str = "application/octet-stream"

    def __hash__(self) -> int:
        """Hash by name: an answer is a mapping and has no hash of its own."""
        return hash(self.name)

    @property
    def top(self) -> str:
        """The golden answer's label with the largest value; '' where there is no golden answer."""
        return max(self.answer, key=self.answer.__getitem__) if self.answer else ""


def why_wrong(body: bytes, sample: Sample, tolerance: float = TOLERANCE["cpu"]) -> str | None:
    """Compare a response's body with the sample's golden answer.

    The answer is a JSON object of labels and values. A right answer has its largest value at the golden
    answer's top label, and every value within `tolerance` of the golden value. With a tolerance above the
    CPU's, the top label may also be another whose golden value is within `tolerance` of the largest.

    Returns:
        None for a right answer, or where no golden answer is known; else the reason in words.
    """
    if sample.answer is None:
        return None
    try:
        answer = json.loads(body.decode())  # bytes would be searched for their encoding first
    except ValueError:
        return f"not JSON: {body[:80]!r}"
    return _why_malformed(answer, sample.answer) or _why_off(answer, sample.answer, tolerance)


def _why_malformed(answer: object, golden: Answer) -> str | None:
    if not isinstance(answer, dict) or not answer:
        return f"not an object of labels and values: {answer!r:.80}"
    unknown = [label for label in answer if label not in golden]
    if unknown:
        return f"unknown label {unknown[0]!r}"
    if not all(isinstance(value, (int, float)) for value in answer.values()):
        return f"a value is not a number: {answer!r:.80}"
    return None


def _why_off(answer: Answer, golden: Answer, tolerance: float) -> str | None:
    top, golden_top = max(answer, key=answer.__getitem__), max(golden, key=golden.__getitem__)
    tie = golden[golden_top] - golden[top] <= tolerance
    if top != golden_top and not (tie and tolerance > TOLERANCE["cpu"]):
        return f"top label {top!r}, golden {golden_top!r}"
    for label, value in answer.items():
        # A NaN is never within the tolerance, hence the negation.
        if not abs(value - golden[label]) <= tolerance:
            return f"{label!r} is {value:.6f}, golden {golden[label]:.6f}"
    return None
