"""Right answers of any kind: labels and probabilities, JSON of any shape, bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_torchserve import json_text
from pytest_torchserve.json_text import as_float, in_words, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Compare = Callable[[Any, Any], str | None]
    """A comparison of one's own: (answer, expected) → why the answer is wrong, None where it is right. Both are JSON
    values, or bytes where the body is no JSON."""

Labels = Mapping[str, float]
"""Every label and its value: a probability, or an exact count."""

_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest allowed distance of two numbers: `absolute`, or `relative` to the larger one, whichever is more.

    Two whole numbers must be equal: an index, a count or an id that is off by one is another one.
    """

    absolute: float = 1e-3
    relative: float = 0.0

    def allows(self, one: float, other: float) -> bool:
        """Return whether two numbers are close enough; NaN is close to NaN alone."""
        if one == other or (isinstance(one, int) and isinstance(other, int)):
            return one == other
        one, other = as_float(one), as_float(other)
        if not (math.isfinite(one) and math.isfinite(other)):
            # A share of infinity is infinite, and would allow anything.
            return math.isnan(one) and math.isnan(other)
        return abs(one - other) <= max(self.absolute, self.relative * max(abs(one), abs(other)))


TOLERANCES = {"cpu": Tolerance(1e-3, 1e-3), "gpu": Tolerance(1e-2, 1e-2), "unknown": Tolerance(1e-2, 1e-2)}
"""The usual tolerance by device, against answers of a float32 network on a CPU.

On a CPU only batch sizes and kernels differ. On a GPU cuDNN's convolutions use TF32 by default: ten bits of
mantissa. The golden answers of a seeded model differ from each other by more than twice the larger tolerance, so that
swapped answers are detected on either device.
"""


def parse(body: bytes) -> Any:
    """Return a body's JSON value, or the body itself where it is no JSON that can be compared, or `null`.

    None would be an unknown answer.
    """
    try:
        value = json_text.loads(body.decode())  # bytes would be searched for their encoding first
    except ValueError:
        return body
    return body if value is None else value


def no_json(body: bytes) -> str:
    """Return in words why a body is no JSON that can be compared."""
    try:
        json_text.loads(body.decode())
    except (json.JSONDecodeError, UnicodeDecodeError):
        why = "not JSON"
    except ValueError as error:
        why = f"JSON that is not read: {error}"
    else:
        why = "no answer"  # null
    return f"{why}: {shown(body)}"


def why_wrong_labels(answer: Any, golden: Labels, tolerance: Tolerance) -> str | None:
    """Return why an answer that may name the most probable labels only is wrong; None for a right one.

    Args:
        golden: a value for every label.
    """
    return _why_malformed(answer, golden) or _why_off(answer, golden, tolerance)


def _why_malformed(answer: Any, golden: Labels) -> str | None:
    if not isinstance(answer, dict) or not answer:
        return f"not an object of labels and values: {shown(answer)}"
    unknown = [label for label in answer if label not in golden]
    if unknown:
        return f"unknown label {unknown[0]!r}"
    if not all(map(_is_number, answer.values())):
        return f"a value is not a number: {shown(answer)}"
    return None


def _why_off(answer: Labels, golden: Labels, tolerance: Tolerance) -> str | None:
    """Compare an answer that may name the most probable labels only with golden values of every label.

    The largest value must be at the golden top label. With a tolerance above the CPU's, it may also be at another
    label whose golden value is within the tolerance of the largest.
    """
    top, golden_top = max(answer, key=answer.__getitem__), max(golden, key=golden.__getitem__)
    tie = as_float(golden[golden_top]) - as_float(golden[top]) <= tolerance.absolute
    if top != golden_top and not (tie and tolerance.absolute > TOLERANCES["cpu"].absolute):
        return f"top label {top!r}, golden {golden_top!r}"
    for label, value in answer.items():
        if not tolerance.allows(value, golden[label]):
            return f"{label!r} is {in_words(value)}, golden {in_words(golden[label])}"
    return None


def why_different(
    expected: Any,
    answer: Any,
    tolerance: Tolerance,
    *,
    place: str = "",
    called: str = "expected",
    partial: bool = True,
) -> str | None:
    """Return how two answers differ, in words; None where they agree.

    Numbers must be within the tolerance, everything else must be equal. Of two mappings of labels to probabilities,
    each may name the most probable labels only: with a near tie for the last place, each may name another label.

    Args:
        place: where in the answer these values are, for the words.
        called: what `expected` is called in the words.
        partial: whether one of them may name more labels than the other.
    """
    parts: Iterable[tuple[Any, Any, str]] = ()
    if isinstance(expected, dict) and isinstance(answer, dict):
        named = partial or len(expected) == len(answer)
        if named and _are_probabilities(expected) and _are_probabilities(answer):
            return _why_labels_differ(expected, answer, tolerance, called)
        odd = sorted(expected.keys() ^ answer.keys())
        same, words = not odd, f"{odd[0]!r} is {'missing' if odd[0] in expected else f'not {called}'}" if odd else ""
        parts = ((expected[key], answer[key], f"{place}.{key if key.isprintable() else repr(key)}") for key in expected)
    elif isinstance(expected, list) and isinstance(answer, list):
        if _scalars_agree(expected, answer, tolerance):
            return None
        same, words = len(expected) == len(answer), f"{len(answer)} items, {called} {len(expected)}"
        parts = ((*pair, f"{place}[{index}]") for index, pair in enumerate(zip(expected, answer, strict=False)))
    else:
        words = f"{shown(answer)}, {called} {shown(expected)}"
        if _is_number(expected) and _is_number(answer):
            same = tolerance.allows(answer, expected)
        else:
            same = type(expected) is type(answer) and expected == answer
    if not same:
        return f"{place}: {words}" if place else words
    found = (
        why_different(old, new, tolerance, place=where, called=called, partial=partial) for old, new, where in parts
    )
    return next((why for why in found if why), None)


def _scalars_agree(expected: list[Any], answer: list[Any], tolerance: Tolerance) -> bool:
    """Return True where two lists of one kind of scalar agree; False where that must be looked at item by item.

    An embedding or a mask has 100,000 numbers: item by item each of them would cost microseconds.
    """
    kinds = set(map(type, expected))
    if len(expected) != len(answer) or kinds != set(map(type, answer)) or not (kinds == {float} or kinds < {int, str}):
        return False
    return expected == answer or (
        kinds == {float}
        and all(
            old == new or abs(old - new) <= tolerance.absolute or tolerance.allows(new, old)
            for old, new in zip(expected, answer, strict=True)
        )
    )


def largest_distance(one: Any, other: Any) -> float:
    """Return the largest absolute distance of two numbers at the same place of two answers; 0 where none differ.

    Places that only one answer has are passed over: whether both have the same ones is `why_different`'s question.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        pairs: Iterable[tuple[Any, Any]] = ((one[key], other[key]) for key in one.keys() & other.keys())
    elif isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
    elif _is_number(one) and _is_number(other):
        distance = abs(as_float(one) - as_float(other))
        return distance if math.isfinite(distance) else 0.0
    else:
        return 0.0
    return max((largest_distance(*pair) for pair in pairs), default=0.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_probabilities(answer: Mapping[str, Any]) -> bool:
    """Return whether these are labels and probabilities, all of them or the most probable ones."""
    found = answer.values()
    if not answer or not all(map(_is_number, found)) or all(isinstance(value, int) for value in found):
        return False
    values = [*map(as_float, found)]
    total, least = sum(values), min(values)
    # A label that is not named has no more than the least of those that are: with a 0 among them nothing is left.
    return bool(least >= 0 and total <= 1 + _ROUNDING and (least > 0 or total >= 1 - _ROUNDING))


def _why_labels_differ(expected: Labels, answer: Labels, tolerance: Tolerance, called: str) -> str | None:
    """Compare probabilities label by label.

    For a label that only one side names, take as the other side's value the largest that an unnamed label can have
    there: no more than the smallest named one, and than the rest up to 1.
    """

    def unnamed(labels: Labels) -> float:
        return min(*labels.values(), max(1 - sum(labels.values()), 0.0))

    for label in dict.fromkeys((*expected, *answer)):  # in order, so that always the same difference is reported
        old, new = expected.get(label, unnamed(expected)), answer.get(label, unnamed(answer))
        if not tolerance.allows(new, old):
            return f"{label!r} is {new:.6f}, {called} {old:.6f}"
    return None
