"""The charts of traffic: latency breakdowns, batch sizes and capacity; and the trend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.phase import Phase
from pytest_torchserve.report.html.charts import WIDTH, mark
from pytest_torchserve.report.html.drawing import PALETTE, Chart, draw, horizontal, legend
from pytest_torchserve.report.terminal.tables import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pytest_torchserve.report.history import Saved
    from pytest_torchserve.report.reader import Record

_MOST_HISTORY = 12


def waterfall(runs: Sequence[Record]) -> Chart | None:
    """Draw the mean latency breakdown of a request: the share of each stage, and beside the bar the mean latency."""
    rows = [run for run in runs if (run.get("traffic") or {}).get("waterfall")]
    if not rows:
        return None
    means = [run["traffic"]["waterfall"]["mean_s"] for run in rows]
    stages = list(dict.fromkeys(stage for mean_s in means for stage in mean_s))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        left = [0.0] * len(rows)
        for index, stage in enumerate(stages):
            values = [100 * max(0.0, mean_s.get(stage, 0.0)) / sum(mean_s.values()) for mean_s in means]
            colour, second = PALETTE[index % len(PALETTE)], index >= len(PALETTE)
            axes.barh(
                range(len(rows)), values, left=left, color=colour, height=0.62, label=stage, alpha=0.5 if second else 1
            )
            left = [a + b for a, b in zip(left, values, strict=True)]
        for row, mean_s in enumerate(means):
            axes.text(100.5, row, f" {milliseconds(sum(mean_s.values()))} ms", va="center", fontsize=9)
        horizontal(axes, [run["cell"] + mark(run) for run in rows])
        axes.set_xlim(0, 112)
        axes.set_xlabel("% of a request's mean latency, which stands beside it")
        legend(axes, 4, fontsize=9)

    caption = "From when a request should have left to the last byte of its answer."
    return draw("waterfall", "Where latency goes under traffic", caption, (WIDTH, 1.6 + 0.42 * len(rows)), paint)


def fills(runs: Sequence[Record]) -> Chart | None:
    """Draw the distribution of the batch sizes that the frontend really made."""
    rows = [run for run in runs if run.get("batch_sizes") and run["batch_size"]]
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(rows), 1, squeeze=False, sharex=True)
        for axes, run in zip(panels[:, 0], rows, strict=True):
            sizes = {int(size): count for size, count in run["batch_sizes"].items()}
            whole = sum(sizes.values())
            axes.bar(list(sizes), [100 * count / whole for count in sizes.values()], color=PALETTE[0], width=0.8)
            told = f"{run['cell']}{mark(run)}: mean {run['achieved_batch_size']:.1f} of {run['batch_size']}"
            axes.set_title(told, loc="left", fontsize=9)
            axes.grid(visible=False, axis="x")
        panels[-1, 0].set_xlabel("requests in a batch")
        panels[0, 0].set_ylabel("% of batches")

    caption = "A deployment that is asked for large batches and makes small ones waits for nothing."
    return draw("batches", "How full batches were", caption, (WIDTH, 0.5 + 1.15 * len(rows)), paint)


def capacity(runs: Sequence[Record]) -> Chart | None:
    """Draw each probed rate against its median and p99 latency."""
    rows = [run for run in runs if (run.get("capacity") or {}).get("steps")]
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(rows), 1, squeeze=False)
        for axes, run in zip(panels[:, 0], rows, strict=True):
            found = run["capacity"]
            steps = sorted(found["steps"], key=lambda step: step["rate_per_s"])
            goal = f"p{100 * found.get('goal', 0.99):g}"
            for name, key, colour in (("p50", "p50_s", PALETTE[0]), (goal, "goal_s", PALETTE[5])):
                points = [(step["rate_per_s"], 1e3 * step[key]) for step in steps if step.get(key)]
                x, y = [point[0] for point in points], [point[1] for point in points]
                axes.plot(x, y, "o-", color=colour, label=name, ms=4)
            axes.axhline(1e3 * found["slo_s"], color=PALETTE[6], ls="--", lw=1, label="goal")
            axes.set_title(run["cell"] + mark(run), loc="left", fontsize=9)
            axes.set_ylabel("ms")
            axes.set_yscale("log")
            axes.legend(loc="upper left", fontsize=9)
        panels[-1, 0].set_xlabel("requests a second")

    caption = (
        "Random arrivals at one rate after the other; where the upper line leaves the ground the server saturates."
    )
    return draw("capacity", "How much it takes", caption, (WIDTH, 0.6 + 2.3 * len(rows)), paint)


def trend(history: Sequence[Saved]) -> Chart | None:
    """Draw the medians of `handle` over saved runs of one environment, each relative to the first run."""
    history = history[-_MOST_HISTORY:]
    ending = f"-{Phase.HANDLE}]"
    tests = sorted({test for saved in history for test in saved.medians if test.endswith(ending)})
    lines = {test: [(at, s.medians[test]) for at, s in enumerate(history) if test in s.medians] for test in tests}
    lines = {test: points for test, points in lines.items() if len(points) > 1}
    if not lines:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (test, points) in enumerate(lines.items()):
            first = points[0][1]
            style = ("-", "--", ":")[index // len(PALETTE) % 3]
            axes.plot(
                [at for at, _ in points],
                [median / first for _, median in points],
                f"o{style}",
                color=PALETTE[index % len(PALETTE)],
                ms=4,
                label=test.partition("[")[2].removesuffix(ending),
            )
        axes.axhline(1, color=PALETTE[6], lw=0.8)
        axes.set_xticks(range(len(history)), [saved.name.partition("_")[0] for saved in history])
        axes.set_xlabel("saved run")
        axes.set_ylabel("handle ÷ first run")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)

    caption = "Runs apart differ by what the machine did meanwhile: a trend is a hint, a verdict needs --ts-baseline."
    return draw("trend", "Over saved runs", caption, (WIDTH, 3.4), paint)
