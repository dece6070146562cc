"""What to serve: `Model`, its `Weights`, and the `Sample`s it is asked about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Answer = Mapping[str, float]
"""A right answer in full: every label and its value (a probability, or an exact count)."""

TOLERANCE = {"cpu": 1e-3, "gpu": 1e-2, "unknown": 1e-2}
"""How far a probability may be from the golden one, which is float32 on a CPU.

On a CPU only batch sizes and kernels differ. On a GPU cuDNN's convolutions use TF32 by default: ten bits of
mantissa. Seeded samples differ by more than twice the larger one, so that no swap goes unseen on either.
"""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a model's published weights are had.

    Attributes:
        file: the published file's name; its stem ends in the first characters of its SHA-256, as torch hub's do.
        source: an URL, or `torchvision:ENUM.MEMBER`, whose URL torchvision knows.
    """

    file: str
    source: str

    @property
    def sha256_prefix(self) -> str:
        """The hash that the file's name promises."""
        return Path(self.file).stem.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalogue.

    Attributes:
        name: as it appears in test ids and records.
        handler: the handler's file, or the name of a stock TorchServe handler.
        reference: the file with `answers(network, bodies) -> [{label: value}, …]`, the model run directly, from
            which the golden answers come; `network` is None for a model without one. For a network it
            also defines `tensor(body)` (its input, a batch of one) and `LABELS`, the classes' names in
            the order of its outputs.
        dataset: which samples it is asked about: `cifar10` or `imagenet`.
        network: the file that defines the network, packed into the archive as the model file. It holds
            exactly one class, and may define `from_published(state_dict)`, which turns the published
            file's content into that class's state dict.
        weights: where the published weights are had; None where there are none (then always seeded).
        extra_files: other modules that the handler imports.
        extra: measured only by tests that name it (`ts_models`), not by the whole matrix.
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
        """Every source file whose content decides how this model behaves when served."""
        own = (self.network, self.handler if isinstance(self.handler, Path) else None, *self.extra_files)
        return tuple(path for path in own if path is not None)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request body and the answer it must get.

    Attributes:
        name: for messages.
        body: the bytes to send.
        answer: the golden answer; None where nobody knows it: then only its status is checked.
        label: the true label where the sample has one, as the golden answer spells it.
        content_type: `application/octet-stream` unless the handler wants another: with a form type
            TorchServe takes the body apart and the image is lost.
    """

    name: str
    body: bytes
    answer: Answer | None
    label: str | None = None
    content_type: str = "application/octet-stream"

    def __hash__(self) -> int:
        """By name: an answer is a mapping and has no hash of its own."""
        return hash(self.name)

    @property
    def top(self) -> str:
        """The golden answer's label with the largest value; '' where there is no golden answer."""
        return max(self.answer, key=self.answer.__getitem__) if self.answer else ""


def why_wrong(body: bytes, sample: Sample, tolerance: float = TOLERANCE["cpu"]) -> str | None:
    """Compare one answer with the golden one.

    The answer is a JSON object of labels and values. It is right when its largest value stands at the
    golden answer's top label (or, beyond the CPU's tolerance, at one whose golden value is as good as the
    top one's) and every value it gives is within `tolerance` of the golden value.

    Returns:
        None for a right answer, or one that nobody can judge, else the reason in words.
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
