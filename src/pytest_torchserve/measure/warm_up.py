"""Decide when a worker process is warm: its first batches are slow and do not count."""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP_BATCHES = 3
WARM_UP_S = 1.0


@dataclass(slots=True)
class WarmUp:
    """The state of one process's warm-up.

    Attributes:
        batches: number of batches (or pairs of batches) that the process has answered.
        spent_s: seconds that these batches took.
    """

    batches: int = 0
    spent_s: float = 0.0

    def add(self, batch_s: float) -> None:
        """Count one batch."""
        self.batches += 1
        self.spent_s += batch_s

    @property
    def done(self) -> bool:
        """True when the process is warm: after `WARM_UP_BATCHES`, or as soon as its batches took `WARM_UP_S`."""
        return self.batches >= WARM_UP_BATCHES or (self.batches > 0 and self.spent_s >= WARM_UP_S)

    @property
    def server_done(self) -> bool:
        """True when the whole server is warm, its JVM included: after `WARM_UP_BATCHES` and `WARM_UP_S`."""
        return self.batches >= WARM_UP_BATCHES and self.spent_s >= WARM_UP_S
