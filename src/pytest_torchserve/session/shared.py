"""What the parts of a session share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pytest_torchserve.session.artifacts import ArtifactBuilder
from pytest_torchserve.session.journal import Journal

if TYPE_CHECKING:
    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.config import Config


@dataclass(frozen=True, slots=True)
class Shared:
    """What the parts of a session share.

    Attributes:
        config: what the options say.
        artifacts: the archives, and what the models are asked.
        journal: where each finished run is written.
        accounting: where the time is booked.
        notices: what the user should know at the end.
    """

    config: Config
    artifacts: ArtifactBuilder
    journal: Journal
    accounting: TimeAccounting
    notices: list[str]

    @classmethod
    def of(cls, config: Config, accounting: TimeAccounting) -> Self:
        """Return what a session with these options shares."""
        notices: list[str] = []
        return cls(
            config, ArtifactBuilder(config, accounting, notices.append), Journal(config.journal), accounting, notices
        )
