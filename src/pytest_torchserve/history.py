"""Saved runs: which of them were made on the same machine with the same software, and so may be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FIELDS = (
    "cpu_model",
    "cpu_count",
    "gpu_models",
    "gpu_driver",
    "torch",
    "torchvision",
    "torchserve",
    "java",
    "server_settings",
    "load_engine",
    "baseline",
)
"""What must be equal. `baseline`: where two versions shared a process, their times are each other's only."""

_SHOWN = {"baseline": bool}
"""Of these fields only so much decides."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One file of pytest-benchmark's.

    Attributes:
        name: the file's.
        at: when, as the file says.
        machine_info: what it was made on.
        medians: test → median in seconds; INVALID entries are left out.
    """

    name: str
    at: str
    machine_info: Mapping[str, Any]
    medians: Mapping[str, float]


def fields_of(machine_info: Mapping[str, Any]) -> dict[str, Any]:
    """What decides whether two runs are alike."""
    return {name: _SHOWN.get(name, lambda value: value)(machine_info.get(name)) for name in FIELDS}


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The fields in which two environments differ, with both values."""
    one, other = fields_of(mine), fields_of(theirs)
    return [f"{name}: {one[name]} here, {other[name]} there" for name in FIELDS if one[name] != other[name]]


def is_ours(machine_info: Mapping[str, Any]) -> bool:
    """Whether a file was saved by a session of this suite."""
    return "torchserve" in machine_info and "cpu_model" in machine_info


def load(paths: Iterable[Path], like: Mapping[str, Any]) -> list[Saved]:
    """Those of the files that were made in an environment like this one, oldest first; others are passed over."""
    found = []
    for path in sorted(paths, key=lambda path: path.name):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            machine_info = content["machine_info"]
            medians = {
                entry["name"]: entry["stats"]["median"]
                for entry in content["benchmarks"]
                if entry["extra_info"].get("validity") != "INVALID" and "phase" in entry["extra_info"]
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a file of pytest-benchmark's, or one cut short
        if is_ours(machine_info) and not differences(like, machine_info) and medians:
            found.append(Saved(path.name, content.get("datetime", ""), machine_info, medians))
    return sorted(found, key=lambda saved: saved.at)
