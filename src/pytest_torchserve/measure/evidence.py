"""Evidence from the responses of one cell: counts, reasons in words, devices, accuracy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.model import Sample

ENOUGH_WRONG = 50
"""A cell with this many wrong answers or failed requests is not measured further."""


@dataclass(slots=True)
class Evidence:
    """The result of checking responses one by one.

    Attributes:
        wrong: why answers were wrong, in words; the first 50.
        failed: why requests failed, in words; the first 50.
        errors: failed requests by kind.
        wrong_answers: number of answers that came and were wrong.
        judged: number of responses judged: right, wrong or failed. Shares of responses are fractions of this number.
        checked: number of answers that were compared with a golden answer and were right.
        unreachable: whether a request got no answer at all; further requests would only wait in vain.
        hits: labelled sample → whether its top label was the true label.
        devices: where the parameters were, as torch spells it.
        changed: how answers differed from the model's own answer to the same request alone; the first 50.
        changed_answers: number of such answers.
    """

    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wrong_answers: int = 0
    judged: int = 0
    checked: int = 0
    unreachable: bool = False
    hits: dict[Sample, bool] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    changed: list[str] = field(default_factory=list)
    changed_answers: int = 0

    def reject(self, kind: str | None, reason: str) -> None:
        """Count a response that cannot be used: a failed request of this kind, or, for None, a wrong answer."""
        words = self.wrong if kind is None else self.failed
        if kind is None:
            self.wrong_answers += 1
        else:
            self.errors[kind] += 1
        if len(words) < ENOUGH_WRONG:
            words.append(reason)

    def change(self, reason: str) -> None:
        """Count an answer that is another one than when the request was sent alone; nobody knows which is right."""
        self.changed_answers += 1
        if len(self.changed) < ENOUGH_WRONG:
            self.changed.append(reason)

    @property
    def rejected(self) -> tuple[str, ...]:
        """The reasons why responses were rejected, at most 50 of each list: words to show, not a count."""
        return (*self.wrong, *self.failed)

    @property
    def hopeless(self) -> bool:
        """True when there is no point in measuring further."""
        return self.unreachable or max(self.wrong_answers, self.errors.total()) >= ENOUGH_WRONG

    def accuracy(self, samples: Sequence[Sample], weights: str) -> tuple[int, int] | None:
        """Return (right, asked) over the labelled samples, each counted once.

        None for weights that were never trained. None also while some labelled samples were not sent: the share over a
        changing part of the samples would depend on the machine's speed.
        """
        labelled = sum(sample.label is not None for sample in samples)
        if weights != "pretrained" or not labelled or len(self.hits) < labelled:
            return None
        return sum(self.hits.values()), len(self.hits)
