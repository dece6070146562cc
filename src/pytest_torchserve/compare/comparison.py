"""The comparison of one metric of one cell, and the rule of its verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_torchserve.compare.intervals import Interval
    from pytest_torchserve.compare.load_metrics import LoadMetric
    from pytest_torchserve.phase import Phase

PROBE_COST_SHOWN = 0.01
"""The probe's cost is reported where it is at least this share of a phase."""

_MOST_MORE_S = 24 * 3600.0


class Verdict(StrEnum):
    """The possible verdicts."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits that decide a verdict, and whether it fails the session.

    Attributes:
        min_effect: changes below this are ignored, as a fraction.
        max_regression: a regression whose estimate reaches this fails the session, as a fraction.
        strict: whether an inconclusive comparison fails the session too.
    """

    min_effect: float = 0.02
    max_regression: float = 0.02
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of one metric of one cell: candidate against baseline.

    Attributes:
        metric: a phase, or what is compared of a load.
        baseline, candidate: medians of a phase; a load's figure over all blocks, None where it has none.
        unit: of both: `s`, `1/s`, `bytes`, or '' for a share.
        interval: interval of the ratio; all gating intervals of a session hold together with 95% (Bonferroni).
        pairs, processes: the number of pairs (of a load: of blocks), and of processes or rounds.
        gating: whether the metric decides the session's result, or is only shown.
        probe_cost: the part of the phase that the probe itself takes, as a fraction of the baseline's time. Smaller
            changes are ignored: they cannot be distinguished from the cost of measuring.
        why: why the verdict is inconclusive, where the interval is not the reason.
        answers_apart: the largest distance of two numbers in both arms' answers to one request, in their own unit.
        more_is_better: whether a smaller figure of the candidate's is the regression.
        more_s: where the verdict is inconclusive, about how many seconds more would tell; None where nobody knows.
        confidence: the interval's own.
        spent_s: how long the comparison took, all metrics of the cell together.
    """

    cell: str
    metric: Phase | LoadMetric
    baseline: float | None
    candidate: float | None
    interval: Interval
    pairs: int
    processes: int
    gating: bool
    verdict: Verdict = Verdict.INCONCLUSIVE
    why: str = ""
    probe_cost: float = 0.0
    answers_apart: float = 0.0
    unit: str = "s"
    more_is_better: bool = False
    more_s: float | None = None
    confidence: float = 0.0
    spent_s: float = 0.0

    @property
    def worse(self) -> float:
        """By which share the candidate is worse, as a ratio: 1.05 is five per cent worse, whatever is better."""
        ratio = self.interval.ratio or 1.0
        return 1 / ratio if self.more_is_better else ratio

    def line(self) -> str:
        """Return the verdict, the cell, the metric, and the figures in words."""
        interval = self.interval
        times = f": × {interval.ratio:.3f}" if interval.ratio else ""
        between = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.low and interval.high else ""
        seen = f"; a change of {_share(interval.detectable)} could have been seen" if interval.detectable else ""
        seen += f"; the probe itself takes {self.probe_cost:.1%} of it" if self.probe_cost >= PROBE_COST_SHOWN else ""
        seen += f"; {_more(self.more_s)}" if self.more_s is not None else ""
        because = f": {self.why}" if self.why else ""
        return (
            f"{self.verdict.value} {self.cell} {self.metric.value}{because}: {quantity(self.candidate, self.unit)}, "
            f"baseline {quantity(self.baseline, self.unit)}{times}{between}{seen}"
        )


def quantity(value: float | None, unit: str) -> str:
    """Return a figure with its unit, as a person reads it; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "s":
        return f"{value * 1e3:.4g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.4g}/s" if unit == "1/s" else f"{value:.1%}"


def _more(seconds: float) -> str:
    """Return in words what would decide an inconclusive comparison."""
    if seconds > _MOST_MORE_S:
        return "no affordable time would tell: name a larger --ts-min-effect"
    return f"about {max(10, round(seconds, -1)):.0f} s more, and processes in proportion, would tell"


def _share(change: float) -> str:
    """Return a change in percent; beyond 100% its digits mean nothing."""
    return f"{change:.1%}" if change <= 1 else "more than 100%"


def judge(found: Interval, min_effect: float, *, more_is_better: bool = False) -> Verdict:
    """Return the verdict on an interval: significant and large enough, significantly small, or inconclusive."""
    if found.low is None or found.high is None or found.ratio is None:
        return Verdict.INCONCLUSIVE
    ratio, low, high = found.ratio, found.low, found.high
    if more_is_better:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    if low > 1 and ratio >= 1 + min_effect:
        return Verdict.REGRESSED
    if high < 1 and ratio <= 1 / (1 + min_effect):
        return Verdict.IMPROVED
    if low >= 1 / (1 + min_effect) and high <= 1 + min_effect:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


def more_seconds(found: Interval, min_effect: float, spent_s: float) -> float | None:
    """Return about how many seconds more would decide an inconclusive comparison; None where nothing is known.

    The half-width of an interval shrinks with the square root of the time. It must become smaller than the estimate's
    distance from what would make it another verdict: of 1, for a change beyond the minimum effect, else of that effect.
    """
    if found.low is None or found.high is None or found.ratio is None or not spent_s:
        return None
    change, least = abs(math.log(found.ratio)), math.log1p(min_effect)
    margin = change if change >= least else least - change
    half = math.log(found.high / found.low) / 2
    return spent_s * ((half / margin) ** 2 - 1) if margin > 0 and half > margin else None
