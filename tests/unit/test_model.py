"""The check of an answer against the golden one: right answers pass, all others are rejected."""

from __future__ import annotations

import json
import math

import pytest

from pytest_torchserve.answers import Tolerance, parse, why_different
from pytest_torchserve.model import Sample, Weights

SAMPLE = Sample(name="one", body=b"", answer={"cat": 0.6, "dog": 0.3, "emu": 0.1}, complete=True)


def verdict(answer):
    """Return why an answer, given as an object, is wrong; None where it is right."""
    return SAMPLE.why_wrong(json.dumps(answer).encode())


@pytest.mark.parametrize("answer", [{"cat": 0.6}, {"cat": 0.6004, "dog": 0.2996}, {"dog": 0.3, "cat": 0.6}])
def test_right(answer):
    """The golden top label and values within the tolerance make a right answer, with any number and order of labels."""
    assert verdict(answer) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"dog": 0.3}, "top label 'dog', golden 'cat'"),
        ({"cat": 0.602}, "'cat' is 0.602000, golden 0.600000"),
        ({"cat": 0.6, "dog": 0.301 + 1e-9}, "'dog' is 0.301000"),
        ({"cat": float("nan")}, "nan"),
        ({"fox": 0.6}, "unknown label 'fox'"),
        ({"cat": "0.6"}, "not a number"),
        ({}, "not an object"),
        ([0.6], "not an object"),
        ("cat", "not an object"),
    ],
)
def test_wrong(answer, reason):
    """Each kind of wrong answer has its reason in words."""
    assert reason in verdict(answer)


def test_not_json():
    """For a body that is not JSON, the reason quotes the body."""
    assert "not JSON: b'<html>" in SAMPLE.why_wrong(b"<html>oops")


def test_swapped_answers_are_both_wrong():
    """Two answers that differ by more than the tolerance are both wrong when they are swapped."""
    other = Sample(name="two", body=b"", answer={"cat": 0.58, "dog": 0.32, "emu": 0.1}, complete=True)
    assert SAMPLE.why_wrong(json.dumps(other.answer).encode())
    assert other.why_wrong(json.dumps(SAMPLE.answer).encode())


def test_published_weights_promise_their_hash():
    """The file name ends in the first characters of the hash, as torch hub's names do."""
    assert Weights(file="densenet161-8d451a50.pth", source="").sha256_prefix == "8d451a50"
    assert Weights(file="best.pt", source="").sha256_prefix == ""


def test_a_known_answer_has_the_labels_that_it_must_have():
    """A label that is gone is wrong, whatever its value was; a near tie for the last place is none of that."""
    sample = Sample("one", b"", {"fraud": 1.0, "spam": 0.0})
    assert sample.why_wrong(b'{"fraud": 1.0}') == "'spam' is missing"
    assert sample.why_wrong(b'{"fraud": 1.0, "spam": 0.0}') is None
    assert Sample("two", b"", {"a": 0.6, "b": 0.2}).why_wrong(b'{"a": 0.6, "c": 0.2}') is None


def test_null_is_an_answer():
    """A body of `null` is known, and another one differs from it."""
    sample = Sample("one", b"", parse(b"null"))
    assert sample.why_wrong(b"null") is None
    assert sample.why_wrong(b"3") is not None


TOLERANCE = Tolerance(1e-3, 1e-3)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (3, 3),
        ("yes", "yes"),
        ([[1, 2.0], {"a": None}], [[1, 2.0005], {"a": None}]),
        ({"boxes": [1000.0, 2.0]}, {"boxes": [1000.9, 2.0]}),
        ({"a": 0.6, "b": 0.3}, {"a": 0.6, "b": 0.3, "c": 0.1}),
        ({"a": 0.6, "b": 0.3}, {"a": 0.6, "c": 0.0999, "b": 0.3}),
        (b"\xff\x00", b"\xff\x00"),
        (1, 1.0005),
    ],
)
def test_alike(expected, answer):
    """Equal values agree, of any shape; numbers may be off by the tolerance, absolute or relative."""
    assert why_different(expected, answer, TOLERANCE) is None


@pytest.mark.parametrize(
    ("expected", "answer", "words"),
    [
        (3, 4, "4, expected 3"),
        (1000, 1001, "1001, expected 1000"),
        (True, 1, "1, expected True"),
        ("yes", "no", "'no', expected 'yes'"),
        ([1, 2], [1, 2, 3], "3 items, expected 2"),
        ({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.1}]}, ".a[1].b: 2.1, expected 2.0"),
        ({"a": 1, "b": 2}, {"a": 1}, "'b' is missing"),
        ({"a": 1}, {"a": 1, "z": 2}, "'z' is not expected"),
        ({"a": 0.6, "b": 0.3}, {"a": 0.6, "c": 0.3}, "'b' is 0.100000, expected 0.300000"),
        ({"score": 0.0}, {"z": 0.0}, "'score' is missing"),
        (b"\xff", b"\xfe", "expected b'\\xff'"),
        (1.5, None, "None, expected 1.5"),
        (float("nan"), 1.0, "1.0, expected nan"),
    ],
)
def test_different(expected, answer, words):
    """Each kind of difference is told with its place: whole numbers must be equal, and so must shapes."""
    assert words in why_different(expected, answer, TOLERANCE)


def test_a_comparison_of_ones_own():
    """A function of the model's own sees JSON, or bytes where the body is none, and has the last word."""
    sample = Sample(name="one", body=b"", answer=[1, 2])
    compare = lambda answer, expected: None if sorted(answer) == expected else f"{answer!r} is out"  # noqa: E731
    assert sample.why_wrong(b"[2, 1]", compare=compare) is None
    assert sample.why_wrong(b"\xff", compare=compare) == "b'\\xff' is out"


@pytest.mark.parametrize(("body", "right"), [(b"positive", True), (b'"positive"', True), (b"negative", False)])
def test_a_text_is_sent_without_quotes(body, right):
    """TorchServe sends a handler's text as it is; an expected text is that text, with or without JSON's quotes."""
    assert (Sample(name="one", body=b"", answer="positive").why_wrong(body) is None) is right
    assert Sample(name="one", body=b"", answer="12").why_wrong(b"12") is None


@pytest.mark.parametrize(
    ("expected", "answer", "words"),
    [
        ([0.5] * 9, [0.5004] * 9, None),
        ([0.5] * 9, [0.5] * 8 + [0.6], "[8]: 0.6, expected 0.5"),
        ([0.5] * 9, [0.5] * 8, "8 items, expected 9"),
        ([0.5, math.nan], [0.5, math.nan], None),
        ([0.5, math.nan], [math.nan, 0.5], "[0]: nan, expected 0.5"),
        ([0.5, 0.5], [math.inf, 0.5], "[0]: inf, expected 0.5"),
        ([math.inf, 0.5], [-math.inf, 0.5], "[0]: -inf, expected inf"),
        ([math.inf, 0.5], [math.inf, 0.5], None),
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3], [1, 2, 4], "[2]: 4, expected 3"),
        ([1, 1], [1, True], "[1]: True, expected 1"),
        ([1, 0], [True, False], "[0]: True, expected 1"),
        ([1.0, 2.0], [1, 2], None),
        (["a", "b"], ["a", "c"], "[1]: 'c', expected 'b'"),
        ([], [], None),
    ],
)
def test_long_lists_are_compared_as_short_ones(expected, answer, words):
    """Lists of one kind of scalar, which are compared at once, differ where their items differ; a bool is no number."""
    assert why_different(expected, answer, Tolerance(1e-3, 1e-3)) == words
    nested = why_different([expected, "x"], [answer, "x"], Tolerance(1e-3))
    assert (nested is None) is (words is None)
