"""Memoization of results and failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Memo:
    """Memoization of results and failures: one cause is one failure, not a hundred attempts."""

    def __init__(self) -> None:
        self._made: dict[object, Any] = {}
        self._failures: dict[object, Exception] = {}

    def forget_failures(self) -> None:
        """Let the next call with any key that has failed make its result anew."""
        self._failures.clear()

    def fail(self, key: object, error: Exception) -> None:
        """Let every further call with this key raise the error."""
        self._failures[key] = error

    def forget(self, key: object) -> None:
        """Let the next call with this key make its result anew."""
        self._made.pop(key, None)
        self._failures.pop(key, None)

    def __call__(self, key: object, make: Callable[[], T]) -> T:
        """Return the result of `make`, which is called at the first call with this key only.

        Raises:
            Exception: the error that `make` raised, raised again at every further call.
        """
        if key in self._failures:
            raise self._failures[key]
        if key not in self._made:
            try:
                self._made[key] = make()
            except Exception as error:
                self._failures[key] = error
                raise
        return cast("T", self._made[key])
