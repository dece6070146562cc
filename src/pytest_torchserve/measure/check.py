"""Right answers only: what every response is held against before its time counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_torchserve.model import TOLERANCE, Sample, why_wrong
from pytest_torchserve.response import Response, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.deployment import Deployment, Device

ENOUGH_WRONG = 50
"""A cell with this many wrong answers is not measured further."""


def why_misplaced(trace: Trace, device: Device, *, has_network: bool) -> str | None:
    """The parameters must have been on the device that was asked for; a model without any is anywhere."""
    if not has_network:
        return None
    if trace.device == "none":
        return "the probe found no network on the handler, so nobody knows which device it is on"
    if trace.device.startswith("cuda" if device == "gpu" else "cpu"):
        return None
    return f"the parameters were on {trace.device}, the cell asks for {device}"


@dataclass(slots=True)
class Checker:
    """Checks responses one by one and keeps what it found.

    Attributes:
        wrong: reasons, in words.
        unreachable: whether a request got no answer at all: there is no point in waiting for the next.
        hits: sample index → whether its top label was the true one; only of labelled samples.
    """

    samples: Sequence[Sample]
    device: Device
    has_network: bool = True
    unreachable: bool = False
    wrong: list[str] = field(default_factory=list)
    hits: dict[int, bool] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    @classmethod
    def for_cell(cls, deployment: Deployment, samples: Sequence[Sample]) -> Self:
        """A checker of what this deployment answers."""
        return cls(samples, deployment.device, has_network=deployment.model.network is not None)

    def check(self, response: Response) -> Trace | None:
        """The response's trace when its answer is right and came from the right device, else None."""
        sample = self.samples[response.sample]
        trace = Trace.of(response)
        reason = self._why_rejected(response, sample, trace)
        if reason is not None or trace is None:
            self.wrong.append(f"{sample.name}: {reason}")
            return None
        self.devices.add(trace.device)
        if sample.label is not None:
            # The golden top label is what was answered: the check above has just made sure of it.
            self.hits[response.sample] = sample.top == sample.label
        return trace

    def _why_rejected(self, response: Response, sample: Sample, trace: Trace | None) -> str | None:
        if response.error is not None:
            self.unreachable |= response.status == 0
            return f"{response.error}: {response.body[:200].decode(errors='replace')}"
        wrong = why_wrong(response.body, sample, TOLERANCE[self.device])
        if wrong is not None:
            return wrong
        if trace is None:
            return "the answer carries no Server-Timing: the probe is not in the archive, or the batch failed"
        return why_misplaced(trace, self.device, has_network=self.has_network)

    @property
    def hopeless(self) -> bool:
        """Whether there is no point in going on."""
        return self.unreachable or len(self.wrong) >= ENOUGH_WRONG

    def accuracy(self, weights: str) -> tuple[int, int] | None:
        """(right, asked) over the labelled samples, each once.

        None for weights that were never trained, and while some were not asked: a share of a changing part of
        the samples would depend on the machine's speed.
        """
        labelled = sum(sample.label is not None for sample in self.samples)
        if weights != "pretrained" or not labelled or len(self.hits) < labelled:
            return None
        return sum(self.hits.values()), len(self.hits)
