"""Right answers only: every response is checked before its time counts."""

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
    """The parameters must have been on the device that was asked for; a model without any is anywhere."""
    if not has_network or device == "unknown":
        return None
    if report.device == "none":
        return "the probe found no network on the handler, so nobody knows which device it is on"
    if report.device.startswith("cuda" if device == "gpu" else "cpu"):
        return None
    return f"the parameters were on {report.device}, the cell asks for {device}"


@dataclass(slots=True)
class Checker:
    """Checks responses one by one.

    Attributes:
        device: where the parameters must have been.
        has_network: whether the model has any.
        probed: whether an answer without the probe's headers is wrong; on someone else's server it is not.
        golden: whether answers are held against the golden ones. Those of a baseline are not: they are compared with
            the candidate's.
        evidence: what was found so far.
    """

    device: Device
    has_network: bool = True
    probed: bool = True
    golden: bool = True
    evidence: Evidence = field(default_factory=Evidence)
    _right: dict[Sample, bytes] = field(default_factory=dict)

    @classmethod
    def for_cell(cls, deployment: Deployment, *, probed: bool = True, golden: bool = True) -> Self:
        """Return a checker of what this deployment answers."""
        return cls(deployment.device, has_network=deployment.model.network is not None, probed=probed, golden=golden)

    def check(self, response: Response) -> ProbeReport | None:
        """Return the response's probe report when its answer is right and came from the right device, else None."""
        report = ProbeReport.of(response)
        return report if self.judge(response, report) else None

    def judge(self, response: Response, report: ProbeReport | None) -> bool:
        """Return whether the answer is right, and keep what was found.

        Args:
            report: what the probe reported with it, where it reported anything.
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
                # The golden top label is what was answered: the check above has just made sure of it.
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
