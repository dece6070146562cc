"""JSON from outside: values of bounded depth, and numbers of any size, that are safe to compare and to show."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 100
"""The most lists and objects within each other that are read: comparing, showing and writing a value need several of
Python's frames for each, of which it has 1,000."""

_SHOWN = 80


def loads(text: str | bytes, deepest: int = DEEPEST) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: the text is no JSON, is nested too deeply, or has a number of too many digits.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    too_deep = f"lists and objects nested deeper than {DEEPEST}"
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    # Without so many brackets no value is deep: most answers have a few, and their values are not walked through.
    if text.count("[") + text.count("{") > deepest and is_deeper(value, deepest):
        raise ValueError(too_deep)
    return value


def is_deeper(value: Any, depth: int = DEEPEST) -> bool:
    """Return whether a value holds more lists and objects within each other than `depth`."""
    level = [value]
    for _ in range(depth + 1):
        level = [part for part in level if isinstance(part, (dict, list))]
        if not level:
            return False
        level = [part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole)]
    return True


def as_float(number: float) -> float:
    """Return a number as a float; a whole number beyond the largest float as an infinite one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def in_words(number: float) -> str:
    """Return a number as a message shows it."""
    return f"{number:.6f}" if math.isfinite(as_float(number)) else shown(number)


def shown(value: Any) -> str:
    """Return the beginning of a value as Python writes it; an expected one may come from code, and have any depth."""
    try:
        return f"{value!r:.{_SHOWN}}"
    except (RecursionError, ValueError):
        return f"a {type(value).__name__} too large to be shown"
