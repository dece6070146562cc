"""Deployments to measure: a model on a device, with a batching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pytest_torchserve.model import Model

Device = Literal["cpu", "gpu", "unknown"]

DEVICES: tuple[Device, ...] = ("cpu", "gpu")
"""The devices of our own deployments; only on an external server may a device be `unknown`."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Batching of requests by TorchServe's frontend.

    Attributes:
        batch_size: the most requests in one batch.
        max_batch_delay_ms: how long an idle worker that took a first job waits for the batch to fill.
    """

    batch_size: int = 1
    max_batch_delay_ms: int = 3000


UNKNOWN_BATCHING = Batching(0, 0)
"""The batching of an external server's deployment."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model × device × batching; one registration at the server. Workers are scaled at the endpoint.

    Attributes:
        variant: the name of one of the model's archives, in a comparison of two; else ''.
    """

    model: Model
    device: Device
    batching: Batching
    variant: str = ""

    @property
    def name(self) -> str:
        """The name registered at the server, unique among deployments, fit for an URL."""
        batching = self.batching
        name = f"{self.model.name}-{self.device}-b{batching.batch_size}-d{batching.max_batch_delay_ms}"
        return f"{name}-{self.variant}" if self.variant else name

    def __hash__(self) -> int:
        """Hash by name: a model's `config` is a mapping and has no hash of its own."""
        return hash(self.name)
