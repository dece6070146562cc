"""Numbers as people write them: ASCII digits, no sign before them, and nothing that is not finite.

Python's own `int` and `float` also read `1_000`, `٣`, `inf` and `nan`, which TorchServe refuses or nobody means.
"""

from __future__ import annotations

import re
import sys

LARGEST = 2**31 - 1
"""The largest whole number that TorchServe, a Java program, can hold as a setting."""

MOST_SECONDS = LARGEST // 1000
"""The longest time, 24 days, that it can hold in milliseconds."""

NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""A regular expression for a number."""


def whole(text: str, least: int = 0, most: int = LARGEST) -> int:
    """Return a whole number within these bounds.

    Raises:
        ValueError: the text is none.
    """
    # Python refuses to read thousands of digits; no bound has more than ten.
    found = re.fullmatch(r"0*([0-9]{1,10})", text.strip())
    if found is None or not least <= int(found[1]) <= most:
        raise ValueError(f"no whole number from {least} to {most}")
    return int(found[1])


def number(text: str, most: float = sys.float_info.max) -> float:
    """Return a number from 0 to `most`.

    Raises:
        ValueError: the text is none.
    """
    if not re.fullmatch(NUMBER, text.strip()) or not float(text) <= most:
        raise ValueError(f"no number from 0 to {most:g}")
    return float(text)
