"""What is asked of `prepare`, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_torchserve.model import Model, Sample


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
class ModelArtifacts:
    """What goes into a model's archive besides its own files.

    Attributes:
        model: the model.
        weights: a plain state dict, or None for a model without a network.
        labels: a file of class index → name.
        weights_kind: `pretrained`, `seeded` or `none`; it stands in every record.
    """

    model: Model
    weights: Path | None
    labels: Path
    weights_kind: str


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """A model and what it is asked.

    Attributes:
        artifacts: what goes into the archive.
        samples: what to send, with the answers to expect.
        samples_source: `folder`, `torchvision` or `synthetic`; it stands in every record.
    """

    artifacts: ModelArtifacts
    samples: tuple[Sample, ...]
    samples_source: str
