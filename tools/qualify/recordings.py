"""Recordings of comparisons of the same code, kept with their dates: tools/qualify/recordings/DATE.json.gz.

A recording holds, for each cell, what the journal of its session says: the pairs of each phase by process, or the
blocks of a load. Every cell of every recording was measured by itself, so that cells are disjoint.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.arrivals import ConstantRate
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.blocks import ArmBlock, Block
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import METHOD_PHASES, START_PARTS, Phase

FOLDER = Path(__file__).parent / "recordings"
_KEPT = frozenset((*METHOD_PHASES, Phase.HANDLE, *START_PARTS, Phase.TOTAL))
_DIGITS = 5
_MOST_PAIRS = 250
"""The pairs that are kept of each process: of handlers of microseconds there are thousands, which tell no more."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One cell of one recording.

    Attributes:
        name: kind and id, as `handle resnet56-cpu-b16`.
        date: when it was recorded.
        paired: its pairs or blocks, of the same code in both arms.
        planted: the metric of a load whose change was planted, outside the handler's methods; '' for the same code.
    """

    name: str
    date: str
    paired: Paired
    planted: str = ""

    @property
    def run(self) -> Run:
        """The cell as a run of its own."""
        return self.with_pairs(self.paired)

    def with_pairs(self, paired: Paired) -> Run:
        """Return a run of this cell with other pairs."""
        kind, _, name = self.name.partition(" ")
        deployment = Deployment(Model(name, "", None, "cifar10"), "cpu", Batching(1))
        schedule = ConstantRate(1.0, 1.0) if kind == "load" else None
        return Run(cell=Cell(kind, deployment, schedule), seconds={}, workers=1, paired=paired)  # type: ignore[arg-type]


def keep(journal: Path, folder: Path = FOLDER, planted: str = "") -> Path:
    """Keep the compared cells of a session's journal as a recording, with how its verdicts were; return its file."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    sound = [line for line in lines if line.get("paired") and not line["wrong"] and not line["invalid"]]
    cells = {f"{line['kind']} {line['cell']}": _kept(line["paired"]) for line in sound}
    verdicts = Counter(line["verdict"] for line in lines if line["line"] == "verdict" and line["gating"])
    folder.mkdir(exist_ok=True)
    file = folder / f"{time.strftime('%Y-%m-%dT%H%M%SZ', time.gmtime())}.json.gz"
    content = {"date": lines[0]["at"][:10], "planted": planted, "verdicts": verdicts, "cells": cells}
    file.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))
    return file


def nights(folder: Path = FOLDER) -> list[dict[str, int]]:
    """Return the gating verdicts of each recorded session that compared all kinds of cells, the oldest first."""
    whole = {"init", "handle", "load"}
    return [
        content["verdicts"]
        for content in _contents(folder)
        if whole <= {name.partition(" ")[0] for name in content["cells"]}
    ]


def _contents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(gzip.decompress(file.read_bytes())) for file in sorted(folder.glob("*.json.gz"))]


def _kept(paired: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a comparison; nothing that names the machine."""
    pairs = {
        phase: [
            [[float(f"{one:.{_DIGITS}g}") for one in pair] for pair in of[:_MOST_PAIRS]] for of in by_process.values()
        ]
        for phase, by_process in paired["pairs"].items()
        if phase in _KEPT
    }
    names = ("by_process", "probe_cost_s", "spent_s", "error_share")
    return {"pairs": pairs, "blocks": paired["blocks"], **{name: paired[name] for name in names}}


def read(folder: Path = FOLDER) -> list[Recorded]:
    """Return every cell of every recording, the oldest first."""
    return [
        Recorded(name, content["date"], _paired(kept), content["planted"])
        for content in _contents(folder)
        for name, kept in content["cells"].items()
    ]


def _paired(kept: dict[str, Any]) -> Paired:
    return Paired(
        "itself",
        {
            Phase(phase): {process: tuple(map(tuple, of)) for process, of in enumerate(by_process)}
            for phase, by_process in kept["pairs"].items()
        },
        by_process=kept["by_process"],
        probe_cost_s={Phase(phase): cost_s for phase, cost_s in kept["probe_cost_s"].items()},
        blocks=tuple(map(_block, kept["blocks"])),
        spent_s=kept["spent_s"],
        error_share=kept["error_share"],
    )


def _block(kept: dict[str, Any]) -> Block:
    arms = (
        ArmBlock(**(kept[arm] | {"latencies_s": tuple(kept[arm]["latencies_s"])})) for arm in ("baseline", "candidate")
    )
    return Block(kept["process"], *arms)
