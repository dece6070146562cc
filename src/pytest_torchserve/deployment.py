"""What we want running: a model on a device, batched so, by so many workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pytest_torchserve.model import Model

Device = Literal["cpu", "gpu", "unknown"]

DEVICES: tuple[Device, ...] = ("cpu", "gpu")
"""Those that a deployment of ours can ask for; only someone else's server may leave it `unknown`."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How TorchServe's frontend gathers requests.

    Attributes:
        batch_size: the most requests in one batch.
        max_batch_delay_ms: how long an idle worker that took a first job waits for the batch to fill.
    """

    batch_size: int = 1
    max_batch_delay_ms: int = 3000


UNKNOWN_BATCHING = Batching(0, 0)
"""Of a deployment that someone else made."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model × device × batching; one registration at the server. Workers are scaled at the endpoint.

    Attributes:
        variant: which of several archives of it, where two are compared; else ''.
    """

    model: Model
    device: Device
    batching: Batching
    variant: str = ""

    @property
    def name(self) -> str:
        """The name it is registered under, unique among deployments, fit for an URL."""
        batching = self.batching
        name = f"{self.model.name}-{self.device}-b{batching.batch_size}-d{batching.max_batch_delay_ms}"
        return f"{name}-{self.variant}" if self.variant else name

    def __hash__(self) -> int:
        """By name: a model's `config` is a mapping and has no hash of its own."""
        return hash(self.name)
