"""Timed phases of a model's life, by the names used everywhere."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """A timed phase; its value is the name in test ids, records and tables."""

    LOAD_MODEL = "load_model"
    TO_DEVICE = "to_device"
    WARM_UP = "warm_up"
    SPAWN_AND_IMPORT = "spawn_and_import"
    TOTAL = "total"
    FIRST_INFERENCE = "first_inference"

    PREPROCESS = "preprocess"
    INFERENCE = "inference"
    POSTPROCESS = "postprocess"
    HANDLE = "handle"
    LATENCY = "latency"
    FIRST_CHUNK = "first_chunk"


INIT_PHASES = (
    Phase.LOAD_MODEL,
    Phase.TO_DEVICE,
    Phase.WARM_UP,
    Phase.SPAWN_AND_IMPORT,
    Phase.TOTAL,
    Phase.FIRST_INFERENCE,
)
"""The phases that `test_init` stores."""


PROBED_INIT_PHASES = (Phase.LOAD_MODEL, Phase.TO_DEVICE, Phase.WARM_UP)
"""The phases of `initialize` that the probe clocks."""

START_PARTS = (Phase.SPAWN_AND_IMPORT, *PROBED_INIT_PHASES)
"""The parts of `total`."""

METHOD_PHASES = (Phase.PREPROCESS, Phase.INFERENCE, Phase.POSTPROCESS)
"""The parts of `handle`; the rest of `handle` is the handler's own glue code."""

HANDLE_PHASES = (*METHOD_PHASES, Phase.HANDLE, Phase.LATENCY)
"""The phases that `test_handle` stores, in the order of a batch's life."""

ABSENCES = {
    Phase.WARM_UP: "the handler has no method warm_up that its initialize calls",
    **{phase: f"the handler calls no method or function {phase.value} of its own" for phase in METHOD_PHASES},
    Phase.HANDLE: "the answer is streamed: its head, with the probe's report, leaves before handle ends",
    Phase.FIRST_CHUNK: "the answer is not streamed",
}
"""The phases that a handler need not have, and why nothing is stored for one."""
