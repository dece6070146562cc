"""Recordings of comparisons of the same code, kept with their dates: tools/qualify/recordings/DATE.json.gz.

A recording holds, for each cell, what the journal of its session says: the pairs of each phase by process, or the
blocks of a load. Every cell of every recording was measured by itself, so that cells are disjoint.
"""

from __future__ import annotations

import gzip
import json
import time
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
    """

    name: str
    date: str
    paired: Paired

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


def keep(journal: Path, folder: Path = FOLDER) -> Path:
    """Keep the compared cells of a session's journal as a recording; return its file."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    cells = {f"{line['kind']} {line['cell']}": _kept(line["paired"]) for line in lines if line.get("paired")}
    folder.mkdir(exist_ok=True)
    file = folder / f"{time.strftime('%Y-%m-%dT%H%MZ', time.gmtime())}.json.gz"
    text = json.dumps({"date": lines[0]["at"][:10], "cells": cells}, separators=(",", ":"))
    file.write_bytes(gzip.compress(text.encode(), mtime=0))
    return file


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
    found = []
    for file in sorted(folder.glob("*.json.gz")):
        content = json.loads(gzip.decompress(file.read_bytes()))
        found += [Recorded(name, content["date"], _paired(kept)) for name, kept in content["cells"].items()]
    return found


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
