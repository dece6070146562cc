"""Right answers only: what every response is held against before its time counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve.model import Sample, why_wrong
from pytest_torchserve.response import Response, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.deployment import Device

ENOUGH_WRONG = 50
"""A cell with this many wrong answers is not measured further."""


def why_misplaced(trace: Trace, device: Device) -> str | None:
    """The parameters must have been on the device that was asked for; a model without any is anywhere."""
    expected = "cuda" if device == "gpu" else "cpu"
    if trace.device == "none" or trace.device.startswith(expected):
        return None
    return f"the parameters were on {trace.device}, the cell asks for {device}"


@dataclass(slots=True)
class Checker:
    """Checks responses one by one and keeps what it found.

    Attributes:
        wrong: reasons, in words.
        hits: sample index → whether its top label was the true one; only of labelled samples.
    """

    samples: Sequence[Sample]
    device: Device
    wrong: list[str] = field(default_factory=list)
    hits: dict[int, bool] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

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
            return f"{response.error}: {response.body[:200].decode(errors='replace')}"
        wrong = why_wrong(response.body, sample)
        if wrong is not None:
            return wrong
        if trace is None:
            return "the answer carries no Server-Timing: the probe is not in the archive, or the batch failed"
        return why_misplaced(trace, self.device)

    @property
    def hopeless(self) -> bool:
        """Whether there is no point in going on."""
        return len(self.wrong) >= ENOUGH_WRONG

    def accuracy(self, weights: str) -> tuple[int, int] | None:
        """(right, asked) over distinct labelled samples; None for weights that were never trained."""
        if weights != "pretrained" or not self.hits:
            return None
        return sum(self.hits.values()), len(self.hits)
