"""Check of every response: only the times of right answers count."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_torchserve.answers import TOLERANCES
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.evidence import Evidence

if TYPE_CHECKING:
    from pytest_torchserve.answers import Compare, Tolerance
    from pytest_torchserve.deployment import Deployment, Device
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.model import Sample


LARGE_BYTES = 16 << 10
"""From this size on a body is not kept for every sample."""


def _fingerprint(body: bytes) -> bytes:
    """Return a body, or for a large one its digest: a thousand samples may have large answers."""
    return body if len(body) < LARGE_BYTES else hashlib.blake2b(body).digest()


def why_misplaced(report: ProbeReport, device: Device) -> str | None:
    """Return why the parameters were not on the device that the cell asks for; None where the device is right.

    Where the probe found no parameters (a handler without a network, a frozen network), nobody knows the device.
    """
    if device == "unknown" or report.device == "none":
        return None
    if report.device.startswith("cuda" if device == "gpu" else "cpu"):
        return None
    return f"the parameters were on {report.device}, the cell asks for {device}"


@dataclass(slots=True)
class Checker:
    """The checker of one cell's responses.

    Attributes:
        device: where the parameters must have been.
        probed: whether an answer without the probe's headers is wrong; on someone else's server it is not.
        golden: whether answers are compared with the golden answers. A baseline's answers are not: they are compared
            with the candidate's.
        tolerance, compare: how answers are compared; None for the usual way on this device.
        evidence: the result so far.
    """

    device: Device
    probed: bool = True
    golden: bool = True
    tolerance: Tolerance | None = None
    compare: Compare | None = None
    evidence: Evidence = field(default_factory=Evidence)
    _right: dict[Sample, bytes] = field(default_factory=dict)

    @classmethod
    def for_cell(cls, deployment: Deployment, *, probed: bool = True, golden: bool = True) -> Self:
        """Return a checker for the responses of this deployment."""
        device, model = deployment.device, deployment.model
        return cls(
            device,
            probed=probed,
            golden=golden,
            tolerance=model.tolerance,
            compare=model.compare,
        )

    def check(self, response: Response) -> ProbeReport | None:
        """Return the response's probe report when its answer is right and came from the right device, else None."""
        report = ProbeReport.of(response)
        return report if self.judge(response, report) else None

    def judge(self, response: Response, report: ProbeReport | None) -> bool:
        """Return whether the answer is right, and add the result to the evidence.

        Args:
            report: the probe report of the response, where there is one.
        """
        evidence, sample = self.evidence, response.sample
        evidence.judged += 1
        reason = self._why_rejected(response, report)
        if reason is not None:
            evidence.reject(response.kind, f"{sample.name}: {reason}")
            return False
        if report is not None:
            evidence.devices.add(report.device)
        if self.golden:
            evidence.checked += sample.answer is not None
            if sample.label is not None:
                # The answer's top label is the golden one: `_why_rejected` has just checked it.
                evidence.hits[sample] = sample.top == sample.label
        return True

    def _why_rejected(self, response: Response, report: ProbeReport | None) -> str | None:
        if response.error is not None:
            self.evidence.unreachable |= response.status == 0
            return f"{response.error}: {response.body[:200].decode(errors='replace')}"
        # The same bytes as the last right answer to this sample are right again: most answers of a load are.
        body = _fingerprint(response.body) if self.golden else b""
        if self.golden and body != self._right.get(response.sample):
            wrong = response.sample.why_wrong(response.body, self.tolerance or TOLERANCES[self.device], self.compare)
            if wrong is not None and response.sample.trusted:
                return wrong
            if wrong is None:
                self._right[response.sample] = body
            else:
                self.evidence.change(f"{response.sample.name}: {wrong}")
        if report is None and not self.probed:
            return None
        if report is None:
            return "the answer carries no Server-Timing: the probe is not in the archive, or the batch failed"
        return why_misplaced(report, self.device)
