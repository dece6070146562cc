"""Comparison of two arms' answers to the same sample."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

ENOUGH = 50
_ROUNDING = 1e-3


def why_different(baseline: bytes, candidate: bytes, tolerance: float) -> str | None:
    """Return how two answers differ, in words; None where they agree.

    Answers are JSON objects of labels and values, and every value must be within `tolerance`. For a label that only one
    side reports, take as the other side's value the largest that an unreported label can have there. Any other answer
    must be the same, byte for byte.
    """
    if baseline == candidate:
        return None
    old, new = _labels(baseline), _labels(candidate)
    if old is None or new is None:
        return f"{candidate[:60]!r}, baseline {baseline[:60]!r}"
    for label in dict.fromkeys((*old, *new)):  # in order, so that always the same difference is reported
        was, now = old.get(label, _most_unnamed(old)), new.get(label, _most_unnamed(new))
        # A NaN is never within the tolerance, hence the negation.
        if not abs(now - was) <= tolerance:
            return f"{label!r} is {now:.6f}, baseline {was:.6f}"
    return None


def _most_unnamed(answer: dict[str, float]) -> float:
    """Return the largest value that an unreported label can have, where an answer reports the largest values.

    The value can be no more than the smallest reported value and, for probabilities, than the rest up to 1.
    """
    least, left = min(answer.values()), 1 - sum(answer.values())
    probabilities = least >= 0 and left >= -_ROUNDING
    return min(least, max(left, 0.0)) if probabilities else least


def _labels(body: bytes) -> dict[str, float] | None:
    """Return the body as labels and values; None where the body is something else."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not answer:
        return None
    return answer if all(isinstance(value, (int, float)) for value in answer.values()) else None


@dataclass(slots=True)
class Agreement:
    """The differences between two arms: each arm's first answer to each sample from each process is compared.

    Attributes:
        different: how answers differ, in words; the first 50.
        compared: number of samples that both arms have answered.
        differing: number of samples that the arms have answered differently.
    """

    tolerance: float
    different: list[str] = field(default_factory=list)
    compared: int = 0
    differing: int = 0
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
            why = why_different(answers["baseline"], answers["candidate"], self.tolerance)
            if why is not None:
                self.differing += 1
            if why is not None and len(self.different) < ENOUGH:
                self.different.append(f"{sample}: {why}")
