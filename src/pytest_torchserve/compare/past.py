"""What the journals of earlier sessions say about how long a comparison needs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pytest_torchserve.compare.plan import Past

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MOST_JOURNALS = 20
"""The journals that are searched, the newest first."""

_UNDECIDABLE = math.inf


def earlier(folder: Path, cells: Iterable[str]) -> dict[str, Past | None]:
    """Return, by cell (`handle resnet56-cpu-b16`), its newest comparison in a folder of journals, or None."""
    found: dict[str, Past | None] = dict.fromkeys(cells)
    for journal in _newest_first(folder)[:MOST_JOURNALS]:
        if None not in found.values():
            break
        for cell, lines in _verdicts(journal).items():
            if cell in found and found[cell] is None:
                found[cell] = _past(lines)
    return found


def _newest_first(folder: Path) -> list[Path]:
    try:
        files = [path for path in folder.glob("*.jsonl") if path.is_file()]
        return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _verdicts(journal: Path) -> dict[str, list[dict[str, Any]]]:
    """Return, by cell, the verdicts on gating metrics of the last session in a journal that compared the cell.

    Lines that cannot be read are none: a crash may have cut one.
    """
    whole: dict[str, list[dict[str, Any]]] = {}
    session: dict[str, list[dict[str, Any]]] = {}
    try:
        with journal.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                start = text[:100]  # a run has megabytes of samples
                if '"line": "session"' in start:
                    whole, session = whole | session, {}
                line = _gating(text) if '"line": "verdict"' in start else None
                if line is not None:
                    session.setdefault(line["cell"], []).append(line)
    except OSError:
        return whole
    return whole | session


def _gating(text: str) -> dict[str, Any] | None:
    """Return a verdict on a gating metric; None for any other line."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    ours = isinstance(line, dict) and isinstance(line.get("cell"), str) and line.get("gating") is True
    return line if ours else None


def _past(lines: list[dict[str, Any]]) -> Past | None:
    """Return the comparison that these verdicts of one cell are of; None where they are older, or edited."""
    try:
        widest = max(lines, key=_half_width)
        found = Past(
            spent_s=float(widest["spent_s"]),
            half_width=_half_width(widest),
            confidence=float(widest["confidence"]),
            detectable=max(_detectable(line) for line in lines),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    sound = 0 < found.spent_s < math.inf and 0 < found.confidence < 1
    return found if sound and found.half_width >= 0 and found.detectable >= 0 else None


def _half_width(line: dict[str, Any]) -> float:
    """Return half the width of a verdict's interval; a metric without one, as a p99 of few requests, is undecidable."""
    low, high = line["interval"]["low"], line["interval"]["high"]
    return _UNDECIDABLE if low is None or high is None else math.log(high / low) / 2


def _detectable(line: dict[str, Any]) -> float:
    found = line["interval"]["detectable"]
    return _UNDECIDABLE if found is None else float(found)
