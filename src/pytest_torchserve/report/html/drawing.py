"""The drawing of every chart: one style, one palette, SVG whose ink follows the page's theme."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c", "#b3a000", "#6a51a3")
"""Colours that people who cannot distinguish red from green can (Okabe and Ito, Color Universal Design)."""

_INK, _GRID = "#010203", "#040506"
"""Placeholder colours: the page replaces them by the theme's own."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as SVG.

    Attributes:
        name: the name of the chart's file.
        title, caption: what the chart shows, and how to read it.
        svg: the chart for the page, in the theme's ink.
        plain: the chart for any other place, dark on white.
        width: the width as drawn, in pixels: a much narrower chart is not legible.
    """

    name: str
    title: str
    caption: str
    svg: str
    plain: str
    width: int


def draw(name: str, title: str, caption: str, size: tuple[float, float], paint: Callable[[Figure], None]) -> Chart:
    """Make a figure of this size in inches, paint it, and return it as SVG."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second; only for a report
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    raw = file.getvalue()
    raw = raw[raw.index("<svg") :]
    raw = re.sub(r"<metadata>.*?</metadata>", "", raw, flags=re.DOTALL)
    raw = re.sub(r"<!--.*?-->", "", raw, flags=re.DOTALL)
    # A hundredth of a pixel is enough; the text in the chart stays as it is.
    raw = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), raw)
    # Identifiers belong to the whole page: two charts must not share any.
    raw = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", raw)
    themed = raw.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    themed = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', themed, count=1)
    plain = raw.replace(_INK, "#1a1a1a").replace(_GRID, "#d0d0d0")
    plain = plain.replace("<defs>", '<rect width="100%" height="100%" fill="white"/>\n<defs>', 1)
    return Chart(name, title, caption, themed, f"<?xml version='1.0' encoding='utf-8'?>\n{plain}", round(size[0] * 72))


def horizontal(axes: Axes, labels: list[str]) -> None:
    """Label rows from top to bottom, and draw grid lines only for the values."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def legend(axes: Axes, columns: int, **more: Any) -> None:
    """Place the legend above the axes, out of the data's way."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, handlelength=1, borderaxespad=0.2, **more)
