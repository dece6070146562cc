"""Deployments to measure: a model on a device, with a batching."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_torchserve.model import AsConfigured, Batching, Device, Model

__all__ = ["DEVICES", "UNKNOWN_BATCHING", "AsConfigured", "Batching", "Deployment", "Device"]

DEVICES: tuple[Device, ...] = ("cpu", "gpu")
"""The devices of our own deployments; only on an external server may a device be `unknown`."""

UNKNOWN_BATCHING = Batching(0, 0)
"""The batching of an external server's deployment."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model × device × batching; one registration at the server. Workers are scaled at the endpoint.

    Attributes:
        variant: the name of one of the model's archives, in a comparison of two; else ''.
        configured: whether the batching is the archive's own, which is then measured as its own cell.
    """

    model: Model
    device: Device
    batching: Batching
    variant: str = ""
    configured: bool = False

    @property
    def name(self) -> str:
        """The name registered at the server, unique among deployments, fit for an URL."""
        batching = self.batching
        name = f"{self.model.name}-{self.device}-b{batching.batch_size}-d{batching.max_batch_delay_ms}"
        return "-".join(filter(None, (name, "configured" if self.configured else "", self.variant)))

    @property
    def label(self) -> str:
        """The model's name, for tables; it says where the batching is the archive's own."""
        return f"{self.model.name} (configured)" if self.configured else self.model.name

    @property
    def workers(self) -> int | None:
        """The number of workers that the archive's own config asks for; None where the measurement chooses."""
        own = self.model.as_configured
        return own.workers if self.configured and own is not None else None

    def __hash__(self) -> int:
        """Hash by name: a model's `config` is a mapping and has no hash of its own."""
        return hash(self.name)
