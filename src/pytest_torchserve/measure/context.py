"""The context of a measurement: everything it needs besides its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_torchserve._util.progress import ProgressCallback
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.measure.cell import Budget
    from pytest_torchserve.telemetry.monitor import Monitor


@dataclass(frozen=True, slots=True)
class Context:
    """The inputs, limits and observers that every measurement gets besides its target.

    Attributes:
        inputs: the model's artifacts and the samples to send.
        budget: how much time and how many processes the measurement may use.
        progress: called during the measurement.
        monitor: observes the machine during the measurement.
    """

    inputs: ModelInputs
    budget: Budget
    progress: ProgressCallback
    monitor: Monitor
