"""TorchServe's time-outs: how long it waits for a model's workers, and who decides that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve._util import plain_numbers
from pytest_torchserve.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_S = 120.0
"""TorchServe's default of both."""

_SHOWN = 80
_KEYS = ("responseTimeout", "startupTimeout")
_DEFAULTS = dict(zip(("default_response_timeout", "default_startup_timeout"), _KEYS, strict=True))
"""Settings of a config.properties, and the keys of a model's config that they stand for."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long TorchServe waits for a registered model's workers.

    Attributes:
        response_s: seconds from a batch's departure to its answer.
        startup_s: seconds from a worker's start until it is ready.
    """

    response_s: float = DEFAULT_S
    startup_s: float = DEFAULT_S

    @property
    def sender_s(self) -> float:
        """Seconds that a sender waits for an answer: TorchServe counts from the end of the wait in its queue."""
        return max(self.response_s, DEFAULT_S)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Self:
        """Return the time-outs in the management API's description of a model."""
        response, startup = (described.get(name) or DEFAULT_S for name in _KEYS)
        return cls(float(response), float(startup))


@dataclass(frozen=True, slots=True)
class WantedTimeouts:
    """The user's time-outs, to be packed into each archive's config.

    TorchServe takes a model's time-outs from the archive's config wherever it has one, and 120 s for one that is not in
    there: neither the registration nor config.properties is then asked.

    Attributes:
        options: those of the command line, which win over the archive's own.
        defaults: those of config.properties, for archives that have none of their own.
    """

    options: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, response_s: float | None, startup_s: float | None, properties: Mapping[str, str]) -> Self:
        """Return the time-outs of the options and of config.properties.

        Raises:
            OptionError: a time-out in config.properties is no whole number of seconds.
        """
        given = zip(_KEYS, (response_s, startup_s), strict=True)
        options = {key: math.ceil(value) for key, value in given if value is not None}
        return cls(
            options, {key: _whole(name, properties[name]) for name, key in _DEFAULTS.items() if name in properties}
        )

    def within(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the time-outs of an archive with this config of its own."""
        return {**self.defaults, **{key: own[key] for key in _KEYS if key in own}, **self.options}

    @property
    def key(self) -> list[str]:
        """The parts of an archive's name: none where the user asks for nothing, so that the name stays."""
        parts = {"option": self.options, "default": self.defaults}
        return [f"{kind} {key} {value}" for kind, values in parts.items() for key, value in sorted(values.items())]


def _whole(name: str, text: str) -> int:
    try:
        return plain_numbers.whole(text, 1, plain_numbers.MOST_SECONDS)
    except ValueError as error:
        raise OptionError(
            wanted=f"{name} in whole seconds from 1 to {plain_numbers.MOST_SECONDS} "
            "(--ts-config, --ts-baseline=config:FILE)",
            found=f"{name}={text[:_SHOWN]}",
            do="mend that line of the config.properties",
        ) from error
