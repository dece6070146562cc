"""Objects that the parts of a session share."""

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
    """Objects that the parts of a session share.

    Attributes:
        config: the values of the options.
        artifacts: the builder of inputs and archives.
        journal: the journal of the finished runs.
        accounting: the accounting of the session's time.
        notices: notices for the user at the end.
    """

    config: Config
    artifacts: ArtifactBuilder
    journal: Journal
    accounting: TimeAccounting
    notices: list[str]

    @classmethod
    def of(cls, config: Config, accounting: TimeAccounting) -> Self:
        """Return the shared objects of a session with these options."""
        notices: list[str] = []
        return cls(
            config, ArtifactBuilder(config, accounting, notices.append), Journal(config.journal), accounting, notices
        )
