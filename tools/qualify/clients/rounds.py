"""The results of the rounds: each client's own figures, and the ratio of our throughput to that of each client.

A round has blocks of runs made one right after the other. A ratio is taken within a block, so that other load on the
machine affects both sides.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from pytest_torchserve.compare import intervals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECTIONS = (1, 4, 16)
CONFIDENCE = 0.95
OURS = "ours"
RAW_SOCKET = "raw socket"
CHEAP = ("wrk", RAW_SOCKET)


def ratios(block: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield each other client of a block, and the throughput of our runs beside it ÷ its own.

    Where two runs of ours are beside a client, as beside wrk, their mean counts.
    """
    for at, run in enumerate(block):
        if run["client"] != OURS:
            beside = [near["per_s"] for near in block[max(0, at - 1) : at + 2] if near["client"] == OURS]
            yield run["client"], statistics.fmean(beside) / run["per_s"]


def paired(rounds: list[dict[str, Any]], name: str) -> dict[str, list[float]]:
    """Return by connection count each round's ratio to one client; empty where the client is missing."""
    found: dict[str, list[float]] = {}
    for connections in CONNECTIONS:
        here = [block for made in rounds if made["connections"] == connections for block in made["blocks"]]
        found[str(connections)] = [ratio for block in here for client, ratio in ratios(block) if client == name]
    return found


def against(rounds: list[dict[str, Any]], name: str) -> dict[str, float | None]:
    """Return by connection count the median ratio to one client; None where the client is missing."""
    return {count: statistics.median(made) if made else None for count, made in paired(rounds, name).items()}


def certain(rounds: list[dict[str, Any]], name: str) -> dict[str, list[float] | None]:
    """Return by connection count the ratio's interval (Student's over the rounds, 95%); None for too few rounds."""
    return {count: _around(made) for count, made in paired(rounds, name).items()}


def _around(ratios: Sequence[float]) -> list[float] | None:
    around = intervals.student([math.log(ratio) for ratio in ratios], CONFIDENCE)
    return None if around.low is None or around.high is None else [around.low, around.high]


def bounds(rounds: list[dict[str, Any]], name: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by connection count the throughput of wrk and the raw socket ÷ one client's: `median`, `interval`.

    These two cost less than any client that keeps its responses. Where even these two are not faster than a client, the
    cost of our client is not the reason.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for connections in CONNECTIONS:
        here = [
            {run["client"]: run["per_s"] for block in made["blocks"] for run in block}
            for made in rounds
            if made["connections"] == connections
        ]
        made_of = {
            cheap: [run[cheap] / run[name] for run in here]
            for cheap in CHEAP
            if cheap != name and all(cheap in run and name in run for run in here)
        }
        found[str(connections)] = {
            cheap: {"median": statistics.median(made), "interval": _around(made)} for cheap, made in made_of.items()
        }
    return found


def medians(rounds: list[dict[str, Any]], name: str) -> dict[str, dict[str, float]]:
    """Return by connection count the medians of a client's own figures."""
    found = {}
    for connections in CONNECTIONS:
        here = [
            run for made in rounds if made["connections"] == connections for block in made["blocks"] for run in block
        ]
        runs = [run for run in here if run["client"] == name]
        keys = [key for key in runs[0] if key != "client"] if runs else []
        found[str(connections)] = {key: statistics.median(run[key] for run in runs) for key in keys}
    return found
