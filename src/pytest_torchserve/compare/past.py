"""What the journals of earlier sessions say about how long a comparison needs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pytest_torchserve.compare.plan import Past

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MOST_JOURNALS = 20
"""The journals that are searched, the newest first."""


def earlier(folder: Path, cells: Iterable[str]) -> dict[str, Past | None]:
    """Return, by cell (`handle resnet56-cpu-b16`), its newest comparison in a folder of journals, or None."""
    found: dict[str, Past | None] = dict.fromkeys(cells)
    journals = sorted(folder.glob("*.jsonl"), reverse=True) if folder.is_dir() else []
    for journal in journals[:MOST_JOURNALS]:
        if None not in found.values():
            break
        verdicts: dict[str, list[dict[str, Any]]] = {}
        for line in _verdicts(journal):
            verdicts.setdefault(line["cell"], []).append(line)
        for cell, lines in verdicts.items():
            if cell in found and found[cell] is None:
                found[cell] = _past(lines)
    return found


def _verdicts(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield a journal's verdicts on gating metrics. Lines that cannot be read are none: a crash may have cut one."""
    with journal.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            if '"line": "verdict"' not in text[:100]:  # a run has megabytes of samples
                continue
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("cell"), str) and line.get("gating") is True:
                yield line


def _past(lines: list[dict[str, Any]]) -> Past | None:
    """Return the comparison that these verdicts of one cell are of; None where one has no interval, or is older."""
    try:
        widest = max(lines, key=lambda line: line["interval"]["high"] / line["interval"]["low"])
        return Past(
            spent_s=float(widest["spent_s"]),
            half_width=math.log(widest["interval"]["high"] / widest["interval"]["low"]) / 2,
            confidence=float(widest["confidence"]),
            detectable=max(float(line["interval"]["detectable"]) for line in lines),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
