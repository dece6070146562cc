"""Agreement of two arms: their answers to the same sample are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve.answers import largest_distance, parse, why_different

if TYPE_CHECKING:
    from pytest_torchserve.answers import Compare, Tolerance

ENOUGH = 50


@dataclass(slots=True)
class Agreement:
    """The differences between two arms: each arm's first answer to each sample from each process is compared.

    Attributes:
        tolerance: how far numbers may be apart.
        own: the model's own comparison; None for the usual one.
        different: how answers differ, in words; the first 50.
        compared: number of samples that both arms have answered.
        differing: number of samples that the arms have answered differently.
        largest_distance: of two numbers at the same place of two answers that agree within the tolerance.
    """

    tolerance: Tolerance
    own: Compare | None = None
    different: list[str] = field(default_factory=list)
    compared: int = 0
    differing: int = 0
    largest_distance: float = 0.0
    _answers: dict[tuple[int, str], dict[str, bytes]] = field(default_factory=dict)

    def take(self, arm: str, process: int, sample: str, body: bytes) -> None:
        """Add one arm's answer, and compare once both arms' answers are there.

        Args:
            process: pid of the worker process that holds both arms, or number of the round where each has its own.
        """
        answers = self._answers.setdefault((process, sample), {})
        if arm in answers:
            return
        answers[arm] = body
        if len(answers) == 2:  # noqa: PLR2004 - both arms
            self.compared += 1
            why = self._why_different(answers["baseline"], answers["candidate"])
            if why is not None:
                self.differing += 1
            if why is not None and len(self.different) < ENOUGH:
                self.different.append(f"{sample}: {why}")

    def _why_different(self, baseline: bytes, candidate: bytes) -> str | None:
        if baseline == candidate:
            return None
        old, new = parse(baseline), parse(candidate)
        why = self.own(new, old) if self.own else why_different(old, new, self.tolerance, called="baseline")
        if why is None:
            self.largest_distance = max(self.largest_distance, largest_distance(old, new))
        return why
