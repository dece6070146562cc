"""The verdicts at the session's end: a table of all phases, and a line for each that needs action."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.compare.comparison import Comparison, Rules, Verdict, quantity
from pytest_torchserve.compare.verdict import failing
from pytest_torchserve.report.terminal.tables import SHORT, milliseconds, new_table, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table


def percent(share: float) -> str:
    """Return a share as `2%` or `2.5%`."""
    return f"{100 * share:.3g}%"


_FAR = 10
"""An upper end of an interval beyond this ratio is not worth its digits."""


def lines(
    comparisons: Sequence[Comparison], uncompared: Mapping[str, str], rules: Rules, baseline: str, *, width: int | None
) -> list[str]:
    """Return the table, then a line for each comparison that fails the session or warns."""
    found: list[str] = []
    if comparisons:
        found += [*render([_table(comparisons, baseline)], width=width).splitlines(), ""]
    gating = [one for one in comparisons if one.gating]
    failed = failing(comparisons, rules)
    for one in gating:
        if one.verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
            limit = f"the probe's own cost, {percent(one.probe_cost)}" if one.probe_cost > rules.max_regression else ""
            limit = limit or f"--ts-max-regression={percent(rules.max_regression)}"
            found.append(one.line() + (f" ({limit})" if one in failed else ""))
    found += [f"warning: {one.line()}" for one in gating if one.verdict is Verdict.INCONCLUSIVE]
    found += [f"warning: inconclusive {cell}: {why}" for cell, why in uncompared.items()]
    found += [*_probe_cost_lines(gating, rules), *_answers_apart_lines(comparisons)]
    counts = {verdict: sum(one.verdict is verdict for one in gating) for verdict in Verdict}
    counts[Verdict.INCONCLUSIVE] += len(uncompared)
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    found.append(f"verdict against {baseline}: {told or 'nothing was compared'}")
    reasons = ["regressed"] if any(one.verdict is Verdict.REGRESSED for one in failed) else []
    if rules.strict and counts[Verdict.INCONCLUSIVE]:
        reasons.append("--ts-strict lets nothing inconclusive pass")
    if reasons:
        found.append(f"the session fails: {'; '.join(reasons)}")
    return found


def _probe_cost_lines(gating: Sequence[Comparison], rules: Rules) -> list[str]:
    """Name the phases in which the probe's own cost exceeds the smallest change that is not ignored."""
    cells: dict[str, list[str]] = {}
    for one in gating:
        if one.probe_cost > rules.min_effect:
            cells.setdefault(one.cell, []).append(f"{one.metric.value} below {one.probe_cost:.0%}")
    head = f"ignored, since the probe itself costs as much (--ts-min-effect={percent(rules.min_effect)} is less):"
    return [head, *(f"  {cell}: {', '.join(phases)}" for cell, phases in cells.items())] if cells else []


def _answers_apart_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Name the cells whose arms answer differently, though within the tolerance: another precision shows here."""
    apart = {one.cell: one.answers_apart for one in comparisons if one.answers_apart > 0}
    return [f"answers differ by up to {most:.2g}, within the tolerance: {cell}" for cell, most in apart.items()]


def _table(comparisons: Sequence[Comparison], baseline: str) -> Table:
    """Return a table with a row for each metric; a verdict in brackets does not gate."""
    title = f"verdict: ms; candidate ÷ baseline ({baseline}), 95% intervals of all together"
    table = new_table(title, ["model", "metric", "was", "is", "ratio", "interval", "detectable", "verdict"])
    for one in comparisons:
        interval = one.interval
        between = "–"
        if interval.low and interval.high:
            between = (
                f"{interval.low:.3f}–{interval.high:.3f}" if interval.high < _FAR else f"{interval.low:.3f}–>{_FAR}"
            )
        table.add_row(
            one.cell.partition(" ")[2],
            SHORT.get(one.metric, one.metric.value),
            _figure(one.baseline, one.unit),
            _figure(one.candidate, one.unit),
            f"{interval.ratio:.3f}" if interval.ratio else "–",
            between,
            _detectable(interval.detectable),
            one.verdict.value if one.gating else f"({one.verdict.value})",
        )
    return table


def _figure(value: float | None, unit: str) -> str:
    """Return a figure: of times the milliseconds alone, which the title names."""
    return milliseconds(value) if unit == "s" and value is not None else quantity(value, unit)


def _detectable(share: float | None) -> str:
    """Return the smallest detectable change; more than 100% says enough of a few pairs that are far apart."""
    if not share:
        return "–"
    return ">100%" if share > 1 else percent(round(share, 3))
