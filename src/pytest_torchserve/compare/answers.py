"""Two arms' answers to one sample, held against each other."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

ENOUGH = 50
_ROUNDING = 1e-3


def why_different(baseline: bytes, candidate: bytes, tolerance: float) -> str | None:
    """None where the two say the same, else how they differ, in words.

    Answers are JSON objects of labels and values: every value within `tolerance`; a label that only one names must be
    within it of the most that the other leaves for a label unnamed. Any other answer must be the same, byte for byte.
    """
    if baseline == candidate:
        return None
    old, new = _labels(baseline), _labels(candidate)
    if old is None or new is None:
        return f"{candidate[:60]!r}, baseline {baseline[:60]!r}"
    for label in dict.fromkeys((*old, *new)):  # in their order: of two that differ always the same is named
        was, now = old.get(label, _most_unnamed(old)), new.get(label, _most_unnamed(new))
        # A NaN is never within the tolerance, hence the negation.
        if not abs(now - was) <= tolerance:
            return f"{label!r} is {now:.6f}, baseline {was:.6f}"
    return None


def _most_unnamed(answer: dict[str, float]) -> float:
    """How large a label can be that is not among the most probable: no more than these, and than they leave of 1."""
    least, left = min(answer.values()), 1 - sum(answer.values())
    probabilities = least >= 0 and left >= -_ROUNDING
    return min(least, max(left, 0.0)) if probabilities else least


def _labels(body: bytes) -> dict[str, float] | None:
    """The body as labels and values; None where it is something else."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not answer:
        return None
    return answer if all(isinstance(value, (int, float)) for value in answer.values()) else None


@dataclass(slots=True)
class Agreement:
    """Keeps each arm's first answer to each sample from each process, and compares.

    Attributes:
        different: how they differ, in words; the first 50.
        compared: how many samples both arms have answered.
        differing: how many of them differently.
    """

    tolerance: float
    different: list[str] = field(default_factory=list)
    compared: int = 0
    differing: int = 0
    _answers: dict[tuple[int, str], dict[str, bytes]] = field(default_factory=dict)

    def take(self, arm: str, process: int, sample: str, body: bytes) -> None:
        """One arm's answer; looked at once both are there.

        Args:
            process: what counts as one process of both: where each arm has its own, a round.
        """
        answers = self._answers.setdefault((process, sample), {})
        if arm in answers:
            return
        answers[arm] = body
        if len(answers) == 2:  # noqa: PLR2004 - both arms
            self.compared += 1
            why = why_different(answers["baseline"], answers["candidate"], self.tolerance)
            if why is not None:
                self.differing += 1
            if why is not None and len(self.different) < ENOUGH:
                self.different.append(f"{sample}: {why}")
