"""Check of every response: only the times of right answers count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure.evidence import Evidence
from pytest_torchserve.model import TOLERANCE, Sample, why_wrong

if TYPE_CHECKING:
    from pytest_torchserve.deployment import Deployment, Device
    from pytest_torchserve.loadgen.response import Response


def why_misplaced(report: ProbeReport, device: Device, *, has_network: bool) -> str | None:
    """Return why the parameters were not on the device that the cell asks for; None where the device is right.

    A model without a network has no parameters, so any device is right.
    """
    if not has_network or device == "unknown":
        return None
    if report.device == "none":
        return "the probe found no network on the handler, so nobody knows which device it is on"
    if report.device.startswith("cuda" if device == "gpu" else "cpu"):
        return None
    return f"the parameters were on {report.device}, the cell asks for {device}"


@dataclass(slots=True)
class Checker:
    """The checker of one cell's responses.

    Attributes:
        device: where the parameters must have been.
        has_network: whether the model has parameters.
        probed: whether an answer without the probe's headers is wrong; on someone else's server it is not.
        golden: whether answers are compared with the golden answers. A baseline's answers are not: they are compared
            with the candidate's.
        evidence: the result so far.
    """

    device: Device
    has_network: bool = True
    probed: bool = True
    golden: bool = True
    evidence: Evidence = field(default_factory=Evidence)
    _right: dict[Sample, bytes] = field(default_factory=dict)

    @classmethod
    def for_cell(cls, deployment: Deployment, *, probed: bool = True, golden: bool = True) -> Self:
        """Return a checker for the responses of this deployment."""
        return cls(deployment.device, has_network=deployment.model.network is not None, probed=probed, golden=golden)

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
        if self.golden and response.body != self._right.get(response.sample):
            wrong = why_wrong(response.body, response.sample, TOLERANCE[self.device])
            if wrong is not None:
                return wrong
            self._right[response.sample] = response.body
        if report is None and not self.probed:
            return None
        if report is None:
            return "the answer carries no Server-Timing: the probe is not in the archive, or the batch failed"
        return why_misplaced(report, self.device, has_network=self.has_network)
