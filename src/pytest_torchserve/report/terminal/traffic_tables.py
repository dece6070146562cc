"""The tables of traffic at the session's end: the load table, waterfalls, capacity curves."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_torchserve.measure.advice import advice
from pytest_torchserve.measure.latency_breakdown import Stage
from pytest_torchserve.report.terminal.tables import digits, milliseconds, new_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pytest_torchserve.measure import Run
    from pytest_torchserve.measure.capacity_result import Step
    from pytest_torchserve.measure.latency_breakdown import LatencyBreakdown
    from pytest_torchserve.measure.run import Traffic
    from pytest_torchserve.measure.slices import Slice
    from pytest_torchserve.stats import Quantile

_WIDTH = 80
_BAR = 24
_CURVE = 10
_PERCENTILES = ("p50", "p90", "p99", "p99.9")
_RARE = _PERCENTILES[-1]
_NOTHING = "–"


def load_table(runs: Sequence[Run]) -> Table:
    """Return a table with a row for each load: offered and achieved rate, batches, latency, and the stamp."""
    scaled = any(run.workers > 1 for run in runs)
    shown = {quantile.name for run in runs if run.traffic for quantile in run.traffic.latency}
    names = [name for name in _PERCENTILES if name != _RARE or name in shown]
    table = new_table(
        "load: latency in ms from when a request should have left",
        ["model", "on", "batch", *["workers"] * scaled, "load", "asked/s", "got/s", *names, "goodput", "stamp"],
    )
    for run in runs:
        traffic = run.traffic
        if traffic is None:
            continue
        by_name = {quantile.name: quantile for quantile in traffic.latency}
        table.add_row(
            run.cell.deployment.label,
            run.cell.deployment.device,
            batch_words(traffic),
            *[str(run.workers)] * scaled,
            run.cell.schedule.name if run.cell.schedule else _NOTHING,
            digits(traffic.offered_per_s) if traffic.offered_per_s else _NOTHING,
            digits(run.throughput) if run.throughput else _NOTHING,
            *(milliseconds(by_name[p].value) if p in by_name else _NOTHING for p in names),
            _NOTHING if traffic.goodput is None else f"{traffic.goodput:.1%}",
            run.validity,
        )
    return table


def batch_words(traffic: Traffic) -> str:
    """Return the batch size: `16`, or `16→2.3` where the batches were smaller than configured."""
    configured, mean = traffic.batches.configured, traffic.batches.mean_size
    if mean is None or mean == configured:
        return _NOTHING if configured is None else str(configured)
    return f"{configured or '?'}→{mean:.1f}"


def interval_words(quantiles: Sequence[Quantile]) -> str:
    """Return percentiles with their intervals, `p50 12.1 [11.9, 12.3], p90 …`, in milliseconds."""
    return ", ".join(
        f"{q.name} {milliseconds(q.value)} [{milliseconds(q.low)}, {milliseconds(q.high)}]" for q in quantiles
    )


def queue_lines(run: Run) -> list[str]:
    """Return how much a load's requests say, since they share a queue, and how many met the goal."""
    traffic = run.traffic
    if traffic is None or not traffic.latency:
        return []
    busy = "" if traffic.utilisation is None else f" (utilisation {traffic.utilisation:.2f})"
    words = f"its {run.checked:,} answers say as much as {traffic.effective_size:,.0f} independent ones{busy}"
    if traffic.effective_size < 1:
        words = f"its {run.checked:,} answers say nothing about a steady state{busy}"
    goal = f"{traffic.within_slo:,} of {traffic.asked:,} within {milliseconds(traffic.slo_s)} ms"
    return _wrapped(f"{words}; {goal}")


def batch_lines(run: Run) -> list[str]:
    """Return the sizes of the batches, unless the configured size is 1 or unknown."""
    traffic = run.traffic
    if traffic is None or not traffic.batches.count or traffic.batches.configured in {None, 1}:
        return []
    gathered = traffic.batches
    sizes = ", ".join(f"{count} × {size}" for size, count in sorted(gathered.sizes.items(), reverse=True))
    waits = sorted(gathered.fill_wait_s)
    fill = f"; waited {milliseconds(waits[len(waits) // 2])} ms to fill (median)" if waits else ""
    return _wrapped(f"batches: {sizes}; {gathered.cut} of {gathered.count} cut by the delay{fill}")


def _wrapped(words: str) -> list[str]:
    """Return the words as indented lines of limited width."""
    return textwrap.wrap(words, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def detail_lines(run: Run) -> list[str]:
    """Return the details of one load: percentiles with their intervals, batches, CPU use, slices and waterfall."""
    traffic = run.traffic
    if traffic is None:
        return []
    words = interval_words(traffic.latency) or "too few answers for a percentile"
    lines = [f"{run.cell.id}: latency in ms, with 95% intervals", *_wrapped(words), *queue_lines(run)]
    lines += batch_lines(run)
    if traffic.schedule_delay:
        lines.append(f"  the sender was late by (ms): {interval_words(traffic.schedule_delay[-1:])}")
    if run.telemetry is not None:
        cores = ", ".join(f"{role} {used:.2f}" for role, used in run.telemetry.cores.items())
        others = run.telemetry.other_processes_cpu * run.telemetry.processors
        lines.append(f"  CPU cores used: {cores}, others {others:.2f}")
    lines += slice_lines(traffic.slices)
    return lines + (waterfall_lines(traffic.waterfall) if traffic.waterfall else [])


def slice_lines(slices: Sequence[Slice]) -> list[str]:
    """Return a load's figures by time slice."""
    if not slices:
        return []
    lines = [f"  {'seconds':>11} {'rate/s':>7} {'requests':>8} {'right':>6} {'p50 ms':>7} {'p99 ms':>7}"]
    for one in slices:
        p50, p99 = (_NOTHING if value is None else milliseconds(value) for value in (one.p50_s, one.p99_s))
        stretch = f"{one.start_s:.4g}-{one.end_s:.4g}"
        lines.append(f"  {stretch:>11} {one.offered_per_s:>7.1f} {one.requests:>8} {one.right:>6} {p50:>7} {p99:>7}")
    return lines


def waterfall_lines(fall: LatencyBreakdown) -> list[str]:
    """Return each stage's mean as figures and as a bar that begins where the stage before ended."""
    total_s = sum(fall.mean_s.values())
    slow = f"slowest {fall.slow_share:.0%}" if fall.slow_s else ""
    lines = [f"  {'where it went':<15} {'mean ms':>8} {'share':>6} {slow:>12}"]
    at_s = 0.0
    for stage, mean_s in fall.mean_s.items():
        bar = _bar(at_s, mean_s, total_s) if stage != Stage.UNATTRIBUTED else ""
        slow_ms = milliseconds(fall.slow_s.get(stage, 0.0)) if fall.slow_s else ""
        lines.append(f"  {stage:<15} {milliseconds(mean_s):>8} {mean_s / total_s:>6.1%} {slow_ms:>12}  {bar}".rstrip())
        at_s += mean_s
    lines.append(f"  attributed: {fall.attributed_p50:.1%} of a request's latency (median of {fall.requests})")
    return lines + ([f"  ({fall.caveat})"] if fall.caveat else [])


def _bar(at_s: float, length_s: float, total_s: float) -> str:
    """Return a bar from `at_s`; a length that is too short for a block becomes a thin line."""
    start, end = (round(_BAR * value / total_s) for value in (at_s, at_s + length_s))
    return " " * start + ("█" * (end - start) or "▏" * (length_s > 0))


def capacity_lines(run: Run) -> list[str]:
    """Return the capacity, and the curve that it was read from."""
    found = run.capacity
    if found is None:
        return []
    goal = f"p{100 * found.goal:g} ≤ {milliseconds(found.slo_s)} ms"
    if found.rate_per_s is None:
        tried = min((step.rate_per_s for step in found.steps), default=0.0)
        answer = f"no rate down to {tried:.3g}/s was shown to have {goal}"
    else:
        answer = f"{found.rate_per_s:.3g} requests/s were shown to have {goal}"
    if found.crossing_per_s:
        answer = f"about {found.crossing_per_s:.3g} requests/s: there p{100 * found.goal:g} crosses the goal; {answer}"
    name = f"p{100 * found.goal:g}"
    heads = (
        f"{'rate/s':>7} {'s':>4} {'requests':>8} {'over':>5} {'batch':>5} {'p50 ms':>6} {f'{name} ms':>6} {'≤ 99%':>6}"
    )
    lines = [f"capacity {run.cell.id}", *_wrapped(answer), f"  {heads}  {name} ÷ goal"]
    return [*lines, *(_step_line(step, found.slo_s) for step in found.steps)]


def _step_line(step: Step, slo_s: float) -> str:
    """Return the probe of one rate: how it was loaded, its latency with the upper limit, and what that says."""
    times = (_NOTHING if value is None else milliseconds(value) for value in (step.p50_s, step.goal_s, step.upper_s))
    batch = _NOTHING if step.mean_batch is None else f"{step.mean_batch:.1f}"
    counts = f"{step.rate_per_s:>7.1f} {step.seconds:>4.0f} {step.requests:>8} {step.overlatency:>5} {batch:>5}"
    outcome = f"{step.outcome}, INVALID" if step.invalid else step.outcome
    return (
        f"  {counts} {' '.join(f'{time:>6}' for time in times)}  {_curve(step.goal_s, slo_s):<{_CURVE + 1}} {outcome}"
    )


def _curve(goal_s: float | None, slo_s: float) -> str:
    """Return a bar for a percentile: half its greatest length at the goal, and broken off at twice the goal."""
    share = 0.0 if goal_s is None else goal_s / slo_s / 2
    return "█" * round(_CURVE * share) if share <= 1 else "█" * _CURVE + "▶"


def stamp_lines(runs: Sequence[Run]) -> list[str]:
    """Return every run that is not VALID, once for each cause: the cause, the cells and their figures, what to do."""
    causes: dict[str, list[str]] = {}
    for run in runs:
        for reason in run.invalid:
            cause, _, figures = reason.partition(": ")
            cell = f"{run.cell.kind} {run.cell.id}"
            causes.setdefault(cause, []).append(f"  {cell}: {figures}" if figures else f"  {cell}")
    count = sum(bool(run.invalid) for run in runs)
    if not count:
        return []
    lines = [f"INVALID: {count} of {len(runs)} cells; their figures are stored, and compared with nothing"]
    for cause, cells in causes.items():
        words = advice(cause)
        lines += [f" {cause}", *cells, *(_wrapped(f"what to do: {words}") if words else [])]
    return lines
