"""Notes under the tables: what the figures do not show by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_torchserve.measure import Run


def lines(runs: Sequence[Run]) -> list[str]:
    """Return the notes: how many requests differ, which answers change, which phases overlap."""
    return [*_requests(runs), *_changed(runs), *_overlapping(runs), *_devices(runs)]


def _requests(runs: Sequence[Run]) -> Iterator[str]:
    """Yield how many different requests each model got: a handler that caches looks fast where they are few."""
    counts = {run.cell.deployment.model.name: run.distinct_bodies for run in runs if run.distinct_bodies}
    if counts:
        yield f"different requests: {', '.join(f'{name} {count}' for name, count in counts.items())}"


def _changed(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.changed_answers:
            yield (
                f"{run.cell.kind} {run.cell.id}: {run.changed_answers} answers differ from those to the same requests "
                f"alone; nobody knows which are right: {run.changed[0]}"
            )


def _overlapping(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.threads > 1:
            yield (
                f"{run.cell.kind} {run.cell.id}: phases ran in {run.threads} threads at once: "
                "they are busy time, and may exceed handle"
            )


def _devices(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the models whose device nobody could tell, where it matters: on a machine with a GPU."""
    unknown = [run for run in runs if run.devices == ("none",) and run.cell.deployment.device == "gpu"]
    for name in dict.fromkeys(run.cell.deployment.model.name for run in unknown if run.cell.deployment.model.computes):
        yield f"{name}: no parameter was found that tells the device; that it was the GPU is not proven"
