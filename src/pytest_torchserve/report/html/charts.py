"""The charts of a report, each from the records of its kind."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING

from pytest_torchserve.phase import METHOD_PHASES, Phase
from pytest_torchserve.report.html.drawing import PALETTE, Chart, draw, horizontal, legend
from pytest_torchserve.report.reader import median_ms
from pytest_torchserve.report.terminal.tables import SHORT, digits, present

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pytest_torchserve.report.reader import Record

WIDTH = 8.6
_ROW = 0.34
_VERDICTS = {"regressed": PALETTE[5], "improved": PALETTE[2], "unchanged": PALETTE[0], "inconclusive": PALETTE[6]}


def verdicts(found: Sequence[Record], min_effect: float) -> Chart | None:
    """Draw ratios with their intervals, beside the band in which changes are ignored."""
    judging = [one for one in found if one["gating"]]
    if not judging:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvspan(-100 * min_effect, 100 * min_effect, color=PALETTE[6], alpha=0.15, lw=0)
        axes.axvline(0, color=PALETTE[6], lw=0.8)
        for row, one in enumerate(judging):
            interval, colour = one["interval"], _VERDICTS[one["verdict"]]
            if interval["low"]:
                axes.plot([100 * (interval["low"] - 1), 100 * (interval["high"] - 1)], [row, row], color=colour, lw=2)
            if interval["ratio"]:
                axes.plot(100 * (interval["ratio"] - 1), row, "o", color=colour, ms=6)
        for verdict, colour in _VERDICTS.items():
            if any(one["verdict"] == verdict for one in judging):
                axes.plot([], [], "o", color=colour, label=verdict)
        horizontal(axes, [f"{one['cell']} {one['metric']}" for one in judging])
        axes.set_xlabel("change against the baseline, %")
        legend(axes, 4)

    caption = (
        "Right of the band is slower; of goodput, left of it is worse. The line is the interval of the ratio; "
        "all of them together hold with 95%."
    )
    return draw("verdicts", "Verdicts", caption, (WIDTH, 1.1 + _ROW * len(judging)), paint)


def init_bars(runs: Sequence[Record]) -> Chart | None:
    """Draw the phases load_model, to_device and warm_up as stacked bars."""
    caption = "Medians over new worker processes. What a worker needs before its handler runs is in the table."
    rows = [(run, f"{run['model']} {run['device']}") for run in runs]
    parts = (Phase.LOAD_MODEL, Phase.TO_DEVICE, Phase.WARM_UP)
    shown = present(parts, (phase for run in runs for phase in run["seconds"]))
    title = f"init: {' + '.join(SHORT[phase] for phase in shown)}"
    return _stacked("init", title, caption, rows, shown)


def handle_bars(runs: Sequence[Record]) -> Chart | None:
    """Draw preprocess, inference and postprocess of a full batch as stacked bars."""
    caption = "Medians over full batches; a bar for each model, device and batch size, each model on its own scale."
    rows = [(run, f"{run['model']} {run['device']} × {run['batch_size']}") for run in runs]
    return _stacked("handle", "handle: preprocess + inference + postprocess", caption, rows, METHOD_PHASES)


def _stacked(
    name: str, title: str, caption: str, rows: list[tuple[Record, str]], phases: Sequence[Phase]
) -> Chart | None:
    """Draw horizontal bars, a panel for each model: the models' times are of different orders of magnitude."""
    if not rows:
        return None
    models = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[0]["model"])]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(models), 1, squeeze=False, height_ratios=[len(group) + 0.6 for group in models])
        for axes, group in zip(panels[:, 0], models, strict=True):
            left = [0.0] * len(group)
            for phase, colour in zip(phases, PALETTE, strict=False):
                values = [median_ms(run, phase) or 0.0 for run, _ in group]
                axes.barh(range(len(group)), values, left=left, color=colour, height=0.62, label=phase.value)
                left = [a + b for a, b in zip(left, values, strict=True)]
            for row, total in enumerate(left):
                axes.text(total, row, f" {digits(total)}", va="center", fontsize=9)
            horizontal(axes, [label + mark(run) for run, label in group])
            axes.margins(x=0.1)
        panels[-1, 0].set_xlabel("ms")
        legend(panels[0, 0], len(phases))

    height = 0.9 + _ROW * len(rows) + 0.45 * len(models)
    return draw(name, title, caption, (WIDTH, height), paint)


def spread(runs: Sequence[Record]) -> Chart | None:
    """Draw the spread of the batches of each worker process, as multiples of the cell's median."""
    rows = [run for run in runs if run["seconds"].get("handle")]
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, run in enumerate(rows):
            processes = run["seconds"]["handle"]
            middle = (median_ms(run, "handle") or 1.0) / 1e3
            for index, values in enumerate(processes.values()):
                at = row + 0.62 * ((index + 0.5) / len(processes) - 0.5)
                low, lower, mid, upper, high = _five(values, middle)
                colour = PALETTE[index % len(PALETTE)]
                axes.plot([low, high], [at, at], color=colour, lw=0.9)
                axes.plot([lower, upper], [at, at], color=colour, lw=3.2, solid_capstyle="butt")
                axes.plot(mid, at, "o", ms=4.2, color=colour, mec="white", mew=0.6)
        axes.axvline(1, color=PALETTE[6], lw=0.8)
        horizontal(axes, [run["cell"] + mark(run) for run in rows])
        axes.set_xlabel("handle ÷ the cell's median")

    caption = "One line for each worker process: 5% to 95%, thick from 25% to 75%, the dot is its median."
    return draw("spread", "How handle scatters, process by process", caption, (WIDTH, 0.8 + 0.5 * len(rows)), paint)


def _five(values: Sequence[float], middle: float) -> list[float]:
    """Return the 5, 25, 50, 75 and 95% points, divided by the middle."""
    if len(values) < 2:  # noqa: PLR2004 - quantiles need two
        return [values[0] / middle] * 5
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return [cuts[index] / middle for index in (0, 4, 9, 14, 18)]


def mark(run: Record) -> str:
    """Return the mark beside the name of an INVALID run; '' for a VALID one."""
    return " (INVALID)" if run.get("validity") == "INVALID" else ""
