"""Requests to `prepare`, and the resulting artifacts and inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_torchserve.model import Model, Sample


HASH_LENGTH = 12
"""The hexadecimal digits of a hash in records."""


@dataclass(frozen=True, slots=True)
class PreparationRequest:
    """A request to `prepare`, with paths as text, for JSON. `folders` hold what network and reference import."""

    folders: list[str]
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
class ModelArtifacts:
    """Parts of a model's archive besides the model's own files.

    Attributes:
        model: the model.
        weights: a plain state dict, or None for a model without a network.
        labels: a file of class index → name; None where the model has no reference that names the classes.
        weights_kind: `pretrained`, `seeded`, `none`, or `archived` for those in an archive.
        weights_hash: of the file that the weights came from; '' where they came from no file of their own.
    """

    model: Model
    weights: Path | None
    labels: Path | None
    weights_kind: str
    weights_hash: str = ""

    @property
    def weights_record(self) -> str:
        """The weights in every record: alike where these are equal. Seeded weights follow from the network."""
        return ":".join(filter(None, (self.weights_kind, self.weights_hash)))


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """A model's artifacts and samples.

    Attributes:
        artifacts: the parts of the archive.
        samples: the samples to send, with their golden answers.
        samples_source: `folder`, `torchvision`, `synthetic` or `requests` (the user's).
        samples_hash: of the samples' content.
    """

    artifacts: ModelArtifacts
    samples: tuple[Sample, ...]
    samples_source: str
    samples_hash: str = ""

    @property
    def samples_record(self) -> str:
        """The samples in every record: two runs are alike where these are equal."""
        return ":".join(filter(None, (self.samples_source, self.samples_hash)))

    @property
    def distinct_bodies(self) -> int:
        """How many different bodies there are: a handler that caches looks fast where they are few."""
        return len({sample.body for sample in self.samples})
