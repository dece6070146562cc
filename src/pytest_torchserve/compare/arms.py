"""The results of two arms, for both kinds of comparison: answers, times pair by pair, and the resulting run."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_torchserve.answers import TOLERANCES
from pytest_torchserve.compare.agreement import Agreement
from pytest_torchserve.measure import validity_by_kind
from pytest_torchserve.measure.check import Checker
from pytest_torchserve.measure.run import Paired, Run
from pytest_torchserve.phase import HANDLE_PHASES, INIT_PHASES, METHOD_PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.compare.params import ComparisonParams
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.probe_report import ProbeReport
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.evidence import Evidence


OF_BASELINE, OF_EITHER = "baseline: ", "one of the two arms: "
"""What the reasons begin with that are the baseline's fault, and those of a failed batch, whose arm is unknown."""

_PHASES = (*INIT_PHASES, *HANDLE_PHASES, Phase.FIRST_CHUNK)


@dataclass(slots=True)
class Arms:
    """The results of both arms so far: times of whole pairs, answers, and errors.

    Attributes:
        either: checks responses whose arm is unknown: a failed batch has no headers.
        pairs: phase → process → (baseline, candidate).
        costs: by process and arm, the start in its probe report, with the probe's own cost.
        own: the phases that the candidate has.
    """

    candidate: Checker
    baseline: Checker
    either: Checker
    agreement: Agreement
    pairs: dict[Phase, dict[int, list[tuple[float, float]]]] = field(
        default_factory=lambda: {
            phase: defaultdict(list) for phase in (*INIT_PHASES, *HANDLE_PHASES, Phase.FIRST_CHUNK)
        }
    )
    costs: dict[tuple[int, str], Mapping[str, float]] = field(default_factory=dict)
    own: set[Phase] = field(default_factory=set)

    @classmethod
    def of(cls, deployment: Deployment) -> Arms:
        """Return the arms of a deployment, without results.

        The baseline's answers have no golden answers: they are compared with the candidate's.
        """
        return cls(
            Checker.for_cell(deployment),
            Checker.for_cell(deployment, golden=False),
            Checker.for_cell(deployment, golden=False),
            Agreement(deployment.model.tolerance or TOLERANCES[deployment.device], deployment.model.compare),
        )

    def check(self, response: Response, report: ProbeReport | None, arm: str, process: int) -> bool:
        """Return whether the answer of one response is right and carries a probe report.

        Args:
            report: the probe report of the response, where there is one.
            arm: the arm that answered; '' where unknown.
            process: pid of the worker process that holds both arms, or number of the round where each has its own.
        """
        checker = {"candidate": self.candidate, "baseline": self.baseline}.get(arm, self.either)
        if not checker.judge(response, report) or report is None:
            return False
        if report.init_s:
            self.costs[report.pid, report.arm] = report.init_s
        if arm and (response.sample.answer is not None or response.sample.trusted):
            self.agreement.take(arm, process, response.sample.name, response.body)
        return True

    @property
    def probe_cost_s(self) -> dict[Phase, float]:
        """By phase, the part that the probe itself takes: the median over processes, since a process may be disturbed.

        Empty where the probe is of an earlier release and does not report its cost.
        """
        clock_s, handle_s = (
            statistics.median(told) if (told := [cost[name] for cost in self.costs.values() if name in cost]) else 0.0
            for name in ("probe_clock", "probe_handle")
        )
        return {**dict.fromkeys(METHOD_PHASES, clock_s), Phase.HANDLE: handle_s} if handle_s else {}

    def add(self, process: int, baseline: Mapping[Phase, float], candidate: Mapping[Phase, float]) -> None:
        """Add one whole pair."""
        self.own |= candidate.keys()
        for phase in baseline.keys() | candidate.keys():
            # A phase that only one arm has takes no time on the other arm.
            self.pairs[phase][process].append((baseline.get(phase, 0.0), candidate.get(phase, 0.0)))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The evidence of the candidate, of the baseline, and of responses whose arm is unknown."""
        return self.candidate.evidence, self.baseline.evidence, self.either.evidence

    @property
    def count(self) -> int:
        """The number of whole pairs."""
        return sum(map(len, self.pairs[Phase.LATENCY].values()))

    @property
    def wrong(self) -> tuple[str, ...]:
        """The reasons to reject the candidate, and the reasons why the baseline cannot be compared with it."""
        return (
            *self.candidate.evidence.rejected,
            *(f"differs from the baseline: {words}" for words in self.agreement.different),
            *(f"{OF_BASELINE}{words}" for words in self.baseline.evidence.rejected),
            *(f"{OF_EITHER}{words}" for words in self.either.evidence.rejected),
        )

    def to_run(self, cell: Cell, inputs: ModelInputs, paired: Paired, workers: int) -> Run:
        """Return the run of the candidate, with its pairs.

        Other processes on the machine affect both arms alike, so only the responses can make the run INVALID.
        """
        candidate = self.candidate.evidence
        # Numerator and denominator count the requests to both arms: a failed batch belongs to neither.
        judged = sum(one.judged for one in self.evidence)
        wrong = sum(one.wrong_answers for one in self.evidence) + self.agreement.differing
        errors = sum((one.errors for one in self.evidence), Counter[str]())
        invalid = validity_by_kind.of_comparison(errors, wrong, judged)
        evidence = replace(candidate, wrong=list(self.wrong), failed=[], errors=errors)
        paired = replace(paired, answers_apart=self.agreement.largest_distance)
        return Run.of(
            cell,
            inputs,
            evidence,
            failures_are_wrong=True,
            workers=workers,
            seconds={
                phase: {process: tuple(new for _, new in pairs) for process, pairs in by_process.items()}
                for phase, by_process in paired.pairs.items()
                if phase in self.own
            },
            invalid=invalid,
            paired=paired,
        )

    def pairs_of(self, process: int) -> dict[Phase, dict[int, tuple[tuple[float, float], ...]]]:
        """Return the pairs of one process."""
        return {phase: {process: tuple(of[process])} for phase, of in self.pairs.items() if process in of}

    def whole_pairs(self) -> dict[Phase, dict[int, tuple[tuple[float, float], ...]]]:
        """Return the pairs of every phase that has any."""
        return {
            phase: {process: tuple(pairs) for process, pairs in by_process.items()}
            for phase, by_process in self.pairs.items()
            if by_process
        }


def pairs_so_far(params: ComparisonParams, arms: Arms, *, by_process: bool) -> Paired:
    """Return the whole pairs of both arms; `by_process` says whether each has processes of its own."""
    return Paired(
        params.baseline,
        arms.whole_pairs(),
        by_process=by_process,
        differs=params.differs,
        probe_cost_s=arms.probe_cost_s,
    )
