"""Models to serve: `Model`, its `Weights`, and the `Sample`s to send to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pytest_torchserve import answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.answers import Compare, Tolerance


Device = Literal["cpu", "gpu", "unknown"]


@dataclass(frozen=True, slots=True)
class Batching:
    """Batching of requests by TorchServe's frontend.

    Attributes:
        batch_size: the most requests in one batch.
        max_batch_delay_ms: how long an idle worker that took a first job waits for the batch to fill.
    """

    batch_size: int = 1
    max_batch_delay_ms: int = 3000


@dataclass(frozen=True, slots=True)
class AsConfigured:
    """The settings in an archive's own model-config.yaml.

    Attributes:
        batching: its batchSize and maxBatchDelay.
        workers: its minWorkers.
        device: its deviceType; None where it names none.
    """

    batching: Batching
    workers: int = 1
    device: Device | None = None


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
        """The first characters of the SHA-256, as the file's name states them; '' where it states none."""
        stated = Path(self.file).stem.rpartition("-")[2]
        return stated if re.fullmatch(r"[0-9a-f]{6,64}", stated) else ""


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the catalogue: a name, and a handler or an archive; all else is optional.

    Attributes:
        name: as it appears in test ids and records.
        handler: the handler's file, or `FILE.py:FUNCTION`, or the name of a stock TorchServe handler.
        reference: the file with `answers(network, bodies) -> [{label: value}, …]`, the model run directly, from
            which the golden answers come; `network` is None for a model without one. For a network it
            also defines `tensor(body)` (its input, a batch of one) and `LABELS`, the classes' names in
            the order of its outputs. None where there is none: each answer must then be the same every time.
        dataset: the data set of the samples to send: `cifar10` or `imagenet`; '' where `samples` has them.
        network: the file that defines the network, packed into the archive as the model file. The file
            holds exactly one class, and may define `from_published(state_dict)`, which turns the published
            file's content into that class's state dict.
        weights: the published weights, or a file of one's own; None where there are none (then always seeded).
        extra_files: other modules that the handler imports, files it reads, and folders, whose content is packed.
        extra: measured only by tests that name the model (`ts_models`), not by the whole matrix.
        computes: False for a handler that computes nothing: its load at the classic rate would say nothing.
        config: further keys of the archive's model-config.yaml.
        mar: an archive of one's own, instead of `handler` and what else would go into one.
        samples: the requests to send: a file, a folder of files, or a .jsonl (`inputs/requests`).
        tolerance: how far numbers of an answer may be off; None for the usual tolerance of the device.
        streams: whether answers come in chunks; the time to the first chunk is then a figure of its own.
        one_at_a_time: whether a batch has one request, whatever batch sizes are measured of others.
        devices: where the model is measured.
        as_configured: the archive's own batching, workers and device, measured as one more cell; None for none.
        compare: a function `compare(answer, expected) -> str | None` that says why an answer is wrong; None for the
            usual comparison. Both are JSON values, or bytes where the body is no JSON.
    """

    name: str
    handler: Path | str = ""
    reference: Path | None = None
    dataset: str = ""
    network: Path | None = None
    weights: Weights | Path | None = None
    extra_files: tuple[Path, ...] = ()
    extra: bool = False
    computes: bool = True
    config: Mapping[str, object] = field(default_factory=dict)
    mar: Path | None = None
    samples: Path | None = None
    tolerance: Tolerance | None = None
    compare: Compare | None = None
    streams: bool = False
    one_at_a_time: bool = False
    as_configured: AsConfigured | None = None
    devices: tuple[Device, ...] = ("cpu", "gpu")

    def __post_init__(self) -> None:
        """Take the text of a path for the path: `handler` may be either, and so may all others."""
        for name in ("reference", "network", "weights", "mar", "samples"):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
        extra = self.extra_files
        files = (extra,) if isinstance(extra, (str, Path)) else tuple(extra)
        object.__setattr__(self, "extra_files", tuple(Path(file) if isinstance(file, str) else file for file in files))

    @classmethod
    def from_mar(cls, mar: Path, **rest: Any) -> Self:
        """Return the entry for an archive: a .mar, a .tar.gz or a folder, named after the file unless told otherwise.

        Args:
            rest: further attributes.
        """
        name = mar.name.removesuffix(".mar").removesuffix(".tar.gz")
        return cls(**{"name": name, "mar": mar, **rest})

    @property
    def handler_file(self) -> Path | None:
        """The handler's file; None for a stock handler, or where an archive holds it."""
        file, _, _ = str(self.handler).partition(".py:")
        if isinstance(self.handler, Path) or file != self.handler or file.endswith(".py"):
            return Path(file if file.endswith(".py") else f"{file}.py")
        return None

    @property
    def handler_name(self) -> str:
        """The handler as a manifest names it: `FILE.py`, `FILE:FUNCTION`, or a stock handler's name."""
        return Path(self.packed_handler).name

    @property
    def packed_handler(self) -> str:
        """The handler as torch-model-archiver takes it: of `FILE.py:FUNCTION` it wants the file without its ending."""
        file, _, function = str(self.handler).partition(".py:")
        return f"{file}:{function}" if function else file

    def files(self) -> tuple[Path, ...]:
        """Return every source file whose content decides how this model behaves when served."""
        if self.mar is not None:
            return (self.mar,)
        own = (self.network, self.handler_file, *self.extra_files)
        return tuple(path for path in own if path is not None)


@dataclass(frozen=True, slots=True)
class Sample:
    """A request body and the answer that it must get.

    Attributes:
        name: for messages.
        body: the bytes to send.
        answer: the expected answer, a JSON value or bytes; None where it is unknown.
        label: the true label where the sample has one, as the golden answer spells it.
        content_type: `application/octet-stream` unless the handler wants another: with a form type
            TorchServe parses the body as a form and the image is lost.
        headers: further headers of the request.
        complete: True where `answer` has a value for every label, of which a response may name the largest only.
        trusted: False where `answer` is the model's own, asked alone: another answer is reported, and is not wrong.
    """

    name: str
    body: bytes
    answer: Any
    label: str | None = None
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    trusted: bool = True

    def __hash__(self) -> int:
        """Hash by name: an answer is a mapping and has no hash of its own."""
        return hash(self.name)

    def why_wrong(
        self, body: bytes, tolerance: Tolerance = answers.TOLERANCES["cpu"], compare: Compare | None = None
    ) -> str | None:
        """Compare a response's body with the expected answer.

        Returns:
            None for a right answer, or where no answer is known; else the reason in words.
        """
        if self.answer is None or (isinstance(self.answer, str) and body == self.answer.encode(errors="surrogatepass")):
            return None  # TorchServe sends a text as it is, without JSON's quotes
        answer = answers.parse(body)
        if compare is not None:
            return compare(answer, self.answer)
        if isinstance(answer, bytes) and not isinstance(self.answer, bytes):
            return answers.no_json(answer)
        if self.complete:
            return answers.why_wrong_labels(answer, self.answer, tolerance)
        return answers.why_different(self.answer, answer, tolerance, partial=False)

    @property
    def top(self) -> str:
        """The golden answer's label with the largest value; '' where there is no golden answer."""
        return max(self.answer, key=self.answer.__getitem__) if self.complete else ""
