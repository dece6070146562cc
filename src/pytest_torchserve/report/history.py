"""Saved runs: which of them were made under the same conditions with the same inputs, and so may be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MUST_MATCH = (
    "method_version",
    "cpu_model",
    "cpu_count",
    "cpu_affinity",
    "cpu_quota",
    "memory_limit",
    "nice",
    "kernel_settings",
    "environment_variables",
    "gpu_models",
    "gpu_driver",
    "python",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "libraries",
    "torchserve",
    "java",
    "server_settings",
    "load_engine",
    "baseline",
)
"""The fields that must be equal; docs/method.md says why. `baseline`: times of two versions in one process compare only
with each other."""

OUR_KEYS = {*MUST_MATCH, "torch_model_archiver", "pytest_torchserve", "gpu_absent_because", "min_effect"}
"""All fields that `Config.machine_info` adds to a saved file."""
INPUTS = ("weights", "samples", "batch_size", "max_batch_delay_ms")
"""The inputs that must be equal of two entries: a real image is larger than a synthetic one, and decodes slower. The
batching is in an entry's name, but for one that is as its archive configures it."""

_INPUTS_OF_TRAFFIC = (*INPUTS, "workers")
"""Those of an entry of traffic, whose workers share it. Their number is in the name, but for one that is as its archive
configures it, and on someone else's server."""

_SHOWN = {"baseline": bool}
"""The fields of which only a part must be equal, and the function that returns that part."""

_UNSET = "unset"
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that pytest-benchmark saved.

    Attributes:
        name: the file's name.
        at: the time of the run, as the file says.
        machine_info: the environment of the run.
        medians: test → median in seconds; INVALID entries are left out.
    """

    name: str
    at: str
    machine_info: Mapping[str, Any]
    medians: Mapping[str, float]


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the differences of two environments: name, my value, their value; each variable by its name."""
    found: list[tuple[str, str, str]] = []
    for name in MUST_MATCH:
        shown = _SHOWN.get(name)
        one, other = (shown(of.get(name)) if shown else of.get(name, _NOT_RECORDED) for of in (mine, theirs))
        found += _differing_in(name, one, other)
    return found


def _differing_in(name: str, one: Any, other: Any) -> list[tuple[str, str, str]]:
    if one == other:
        return []
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [(name, words(one), words(other))]
    prefix = "" if name == "environment_variables" else f"{name} "
    keys = sorted(one.keys() | other.keys())
    parts = (_differing_in(prefix + key, one.get(key, _UNSET), other.get(key, _UNSET)) for key in keys)
    return [difference for part in parts for difference in part]


def words(value: Any) -> str:
    """Return a value as a message shows it."""
    if isinstance(value, dict):
        return " ".join(f"{name}={words(part)}" for name, part in value.items()) or "none"
    return "none" if value is None else str(value) or "empty"


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return in words the differences of two environments, with both values."""
    return [f"{name}: {one} here, {other} there" for name, one, other in differing(mine, theirs)]


def unlike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return in words why two entries cannot be compared, by their extra_info; None where they can."""
    names = _INPUTS_OF_TRAFFIC if mine.get("kind") in ("load", "capacity") else INPUTS
    one, other = ({name: of.get(name, _NOT_RECORDED) for name in names} for of in (mine, theirs))
    found = [f"{name}: {one[name]} here, {other[name]} there" for name in names if one[name] != other[name]]
    if mine.get("kind") in ("load", "capacity") and bool(mine.get("paired")) != bool(theirs.get("paired")):
        # Two networks in one process, and blocks instead of one load.
        found.append(f"{'here' if mine.get('paired') else 'there'} it was compared with a baseline")
    return "; ".join(found) or None


def set_aside_unlike(
    compared: Mapping[Any, dict[str, Mapping[str, Any]]], mine: Mapping[str, Mapping[str, Any]], *, across: bool = False
) -> list[str]:
    """Remove saved entries that were measured with other inputs from the comparison.

    Args:
        compared: by file, the saved entries by name.
        mine: by name, the extra_info of this session's entries.
        across: whether the user wants them compared all the same; then nothing is removed.

    Returns:
        The removed entries, in words; those that stay though they are unlike, likewise.
    """
    lines = []
    for entries in compared.values():
        for name in [name for name in entries if is_entry(mine.get(name) or {})]:
            reason = unlike(mine[name], extra_of(entries[name]))
            if reason is None:
                continue
            if across:
                lines.append(f"compared all the same: {name}: {reason}")
                continue
            lines.append(f"inconclusive, not compared: {name}: {reason}")
            del entries[name]
    return lines


def extra_of(entry: Any) -> dict[str, Any]:
    """Return a saved entry's extra_info; an empty one where another program has written something else there."""
    extra = entry.get("extra_info") if isinstance(entry, dict) else None
    return extra if isinstance(extra, dict) else {}


def is_entry(extra: Mapping[str, Any]) -> bool:
    """Return whether this extra_info is of an entry of the suite; another project may have a `phase` of its own."""
    return {"cell", "kind", "phase", "validity"} <= extra.keys()


def is_ours(machine_info: Mapping[str, Any]) -> bool:
    """Return whether a file was saved by a session of this suite."""
    return "torchserve" in machine_info and "cpu_model" in machine_info


def load(paths: Iterable[Path], like: Mapping[str, Any], runs: Iterable[Mapping[str, Any]] = ()) -> list[Saved]:
    """Return the saved runs that were made in an environment like this one, oldest first.

    Args:
        paths: files; a file that pytest-benchmark did not save is ignored.
        like: the environment.
        runs: this session's runs; saved entries of the same cells with other inputs are left out.
    """
    now = {(run["kind"], run["cell"]): run for run in runs}
    found = []
    for path in sorted(paths, key=lambda path: path.name):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            machine_info = content["machine_info"]
            medians = {
                entry["name"]: entry["stats"]["median"]
                for entry in content["benchmarks"]
                if is_entry(extra := extra_of(entry))
                and extra["validity"] != "INVALID"
                and not unlike(now.get((extra.get("kind"), extra.get("cell")), extra), extra)
            }
            if not is_ours(machine_info):
                continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # not a file of pytest-benchmark's, or a truncated one
        if not differences(like, machine_info) and medians:
            found.append(Saved(path.name, content.get("datetime", ""), machine_info, medians))
    return sorted(found, key=lambda saved: saved.at)
