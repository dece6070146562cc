"""When a worker process is warm: its first batches are slow, and count for nothing."""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP_BATCHES = 3
WARM_UP_S = 1.0


@dataclass(slots=True)
class WarmUp:
    """How far one process has been warmed up.

    Attributes:
        batches: how many batches (or pairs of them) it has answered.
        spent_s: seconds that they took.
    """

    batches: int = 0
    spent_s: float = 0.0

    def add(self, batch_s: float) -> None:
        """Count one batch."""
        self.batches += 1
        self.spent_s += batch_s

    @property
    def done(self) -> bool:
        """Whether the process is warm: after `WARM_UP_BATCHES`, or after one where they took `WARM_UP_S`."""
        return self.batches >= WARM_UP_BATCHES or (self.batches > 0 and self.spent_s >= WARM_UP_S)

    @property
    def server_done(self) -> bool:
        """Whether the whole server is warm, its JVM included: after `WARM_UP_BATCHES` and `WARM_UP_S`."""
        return self.batches >= WARM_UP_BATCHES and self.spent_s >= WARM_UP_S
