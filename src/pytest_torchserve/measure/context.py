"""What every measurement is given besides its target."""

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
    """What every measurement is given besides its target.

    Attributes:
        inputs: what the model is asked.
        budget: how much time and how many processes the measurement may use.
        progress: called while it goes on.
        monitor: looks at the machine meanwhile.
    """

    inputs: ModelInputs
    budget: Budget
    progress: ProgressCallback
    monitor: Monitor
