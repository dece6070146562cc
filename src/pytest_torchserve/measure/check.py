"""Right answers only: what every response is held against before its time counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.model import TOLERANCE, Sample, why_wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.deployment import Deployment, Device
    from pytest_torchserve.loadgen.response import Response

ENOUGH_WRONG = 50
"""A cell with this many wrong answers is not measured further."""


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
    """Checks responses one by one and keeps what it found.

    Attributes:
        probed: whether an answer without the probe's headers is wrong; on someone else's server it is not.
        wrong: why answers were wrong, in words; the first 50.
        failed: why requests failed, in words; the first 50.
        errors: failed requests by kind.
        wrong_answers: how many answers came and were wrong.
        judged: how many responses were judged, right, wrong or failed: the whole that any share of them is a part of.
        checked: how many answers were held against a golden one and right.
        unreachable: whether a request got no answer at all: there is no point in waiting for the next.
        hits: sample index → whether its top label was the true one; only of labelled samples.
    """

    samples: Sequence[Sample]
    device: Device
    has_network: bool = True
    probed: bool = True
    unreachable: bool = False
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    wrong_answers: int = 0
    checked: int = 0
    hits: dict[int, bool] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    _right: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def for_cell(cls, deployment: Deployment, samples: Sequence[Sample], *, probed: bool = True) -> Self:
        """A checker of what this deployment answers."""
        return cls(samples, deployment.device, has_network=deployment.model.network is not None, probed=probed)

    def check(self, response: Response) -> ProbeReport | None:
        """The response's probe report when its answer is right and came from the right device, else None."""
        right, report = self.judge(response)
        return report if right else None

    def judge(self, response: Response) -> tuple[bool, ProbeReport | None]:
        """Whether the answer is right, and its probe report where it carries one."""
        self.judged += 1
        sample = self.samples[response.sample]
        report = ProbeReport.of(response)
        reason = self._why_rejected(response, sample, report)
        if reason is not None:
            words = self.wrong
            if response.kind is not None:
                self.errors[response.kind] += 1
                words = self.failed
            else:
                self.wrong_answers += 1
            if len(words) < ENOUGH_WRONG:
                words.append(f"{sample.name}: {reason}")
            return False, report
        if report is not None:
            self.devices.add(report.device)
        self.checked += sample.answer is not None
        if sample.label is not None:
            # The golden top label is what was answered: the check above has just made sure of it.
            self.hits[response.sample] = sample.top == sample.label
        return True, report

    def _why_rejected(self, response: Response, sample: Sample, report: ProbeReport | None) -> str | None:
        if response.error is not None:
            self.unreachable |= response.status == 0
            return f"{response.error}: {response.body[:200].decode(errors='replace')}"
        # The same bytes as the last right answer to this sample are right again: most answers of a load are.
        if response.body != self._right.get(response.sample):
            wrong = why_wrong(response.body, sample, TOLERANCE[self.device])
            if wrong is not None:
                return wrong
            self._right[response.sample] = response.body
        if report is None and not self.probed:
            return None
        if report is None:
            return "the answer carries no Server-Timing: the probe is not in the archive, or the batch failed"
        return why_misplaced(report, self.device, has_network=self.has_network)

    @property
    def rejected(self) -> tuple[str, ...]:
        """The reasons why responses were not taken, at most 50 of each list: words to show, not a count."""
        return (*self.wrong, *self.failed)

    @property
    def hopeless(self) -> bool:
        """Whether there is no point in going on."""
        return self.unreachable or max(self.wrong_answers, self.errors.total()) >= ENOUGH_WRONG

    def accuracy(self, weights: str) -> tuple[int, int] | None:
        """(right, asked) over the labelled samples, each once.

        None for weights that were never trained, and while some were not asked: a share of a changing part of
        the samples would depend on the machine's speed.
        """
        labelled = sum(sample.label is not None for sample in self.samples)
        if weights != "pretrained" or not labelled or len(self.hits) < labelled:
            return None
        return sum(self.hits.values()), len(self.hits)
