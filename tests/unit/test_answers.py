"""Answers that no right model gives: nested without end, numbers beyond a float. Each is told wrong, in words."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from pytest_torchserve import json_text
from pytest_torchserve.answers import Tolerance, largest_distance, parse, why_different
from pytest_torchserve.compare.agreement import Agreement
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import answers_file, requests
from pytest_torchserve.model import Sample

HUGE = 10**400
TOLERANCE = Tolerance(1e-3, 1e-3)


def nested(depth, kind="list"):
    """Return a JSON text of this many lists or objects, each within the other."""
    opening, closing = {"list": ("[", "]"), "object": ('{"a":', "}")}[kind]
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("depth", [json_text.DEEPEST + 1, 500, 5_000, 200_000])
def test_an_answer_nested_too_deeply_is_wrong(kind, depth):
    """However deep an answer is nested, it is told wrong, whatever was expected; equal bytes are equal all the same."""
    body = nested(depth, kind)
    assert parse(body) == body
    for expected in ([[1]], {"a": 1}, 1, "a"):
        assert f"deeper than {json_text.DEEPEST}" in Sample("one", b"", expected).why_wrong(body)
    labels = Sample("one", b"", {"a": 0.6, "b": 0.4}, complete=True)
    assert f"deeper than {json_text.DEEPEST}" in labels.why_wrong(body)
    assert Sample("one", b"", parse(body)).why_wrong(body) is None
    assert Sample("one", b"", parse(body)).why_wrong(body + b" ") is not None


@pytest.mark.parametrize("kind", ["list", "object"])
def test_the_deepest_answer_is_compared(kind):
    """An answer as deep as is read is compared value by value, and so are two arms' answers."""
    body = nested(json_text.DEEPEST, kind)
    sample = Sample("one", b"", parse(body))
    assert sample.why_wrong(body) is None
    assert sample.why_wrong(body.replace(b"1", b"2")).endswith(": 2, expected 1")
    agreement = Agreement(Tolerance(3.0))
    agreement.take("baseline", 1, "one", body.replace(b"1", b"1.0"))
    agreement.take("candidate", 1, "one", body.replace(b"1", b"2.5"))
    assert (agreement.differing, agreement.largest_distance) == (0, 1.5)


def test_brackets_in_a_text_are_no_depth():
    """Brackets that stand in a text, or side by side, nest nothing."""
    for value in ("[" * 500, [[]] * 500, [{"a": [1]}] * 500):
        assert parse(json.dumps(value).encode()) == value


def test_a_number_too_long_is_not_read():
    """Python reads no whole number of thousands of digits: such an answer is wrong, and the reason says why."""
    assert "JSON that is not read: " in Sample("one", b"", 1).why_wrong(b"1" * 5000)


@pytest.mark.parametrize(
    ("expected", "answer", "words"),
    [
        (HUGE, HUGE, None),
        (HUGE, HUGE + 1, "expected 1000"),
        (0.5, HUGE, "expected 0.5"),
        (0.5, -HUGE, "expected 0.5"),
        (math.inf, HUGE, "expected inf"),
        (math.nan, HUGE, "expected nan"),
        ([0.5, 0.5], [0.5, HUGE], "[1]: 1000"),
        ({"a": 0.6, "b": 0.4}, {"a": 0.6, "b": HUGE}, ".b: 1000"),
        ({"a": 0.6, "b": HUGE}, {"a": 0.6, "b": HUGE}, None),
    ],
    ids=itertools.count(),
)
def test_numbers_beyond_a_float(expected, answer, words):
    """A whole number that no float can hold is close to itself alone, in every place of an answer and either way."""
    for one, other in ((expected, answer), (answer, expected)):
        why = why_different(one, other, TOLERANCE)
        assert why is None if words is None else why
        assert largest_distance(one, other) < 2
    if words:
        assert words in why_different(expected, answer, TOLERANCE)


@pytest.mark.parametrize(
    ("golden", "answer", "words"),
    [
        ({"a": 0.6, "b": 0.4}, {"a": HUGE}, "'a' is 1000"),
        ({"a": 0.6, "b": 0.4}, {"b": HUGE, "a": 0.6}, "top label 'b', golden 'a'"),
        ({"a": 0.6, "b": 0.4}, {"a": 0.6, "b": -HUGE}, "'b' is -1000"),
        ({"a": HUGE, "b": 0.4}, {"b": 0.4}, "top label 'b', golden 'a'"),
        ({"a": HUGE, "b": 0.4}, {"a": HUGE, "b": 0.4}, None),
    ],
    ids=itertools.count(),
)
def test_labels_beyond_a_float(golden, answer, words):
    """Such a number as a label's value is wrong, or right where the golden value is the same."""
    why = Sample("one", b"", golden, complete=True).why_wrong(json.dumps(answer).encode(), Tolerance(1e-2, 1e-2))
    assert why is None if words is None else words in why


@pytest.mark.parametrize("form", ["FILE.answer.json", "requests.jsonl", "answers.json"])
@pytest.mark.parametrize("depth", [json_text.DEEPEST + 1, 5_000])
def test_an_expected_answer_nested_too_deeply(tmp_path, form, depth):
    """An expected answer that no response could equal is refused before anything is measured."""
    answer, place = nested(depth).decode(), tmp_path / "requests"
    place.mkdir()
    (place / "one").write_bytes(b"1")
    asked = [Sample("one", b"1", None)]
    if form == "FILE.answer.json":
        (place / "one.answer.json").write_text(answer)
    elif form == "requests.jsonl":
        place = tmp_path / form
        place.write_text(f'{{"text": "1", "answer": {answer}}}\n')
    else:
        answers_file.write(tmp_path / form, [Sample("one", b"1", "HERE")])
        text = (tmp_path / form).read_text()
        (tmp_path / form).write_text(text.replace('"HERE"', answer))
    with pytest.raises(InputError, match=f"deeper than {json_text.DEEPEST}|recursion depth exceeded"):
        answers_file.read(tmp_path / form, asked) if form == "answers.json" else requests.read(place)


def test_the_deepest_expected_answer_is_read(tmp_path):
    """What can be compared can be recorded and expected."""
    deepest = Sample("one", b"1", parse(nested(json_text.DEEPEST)))
    answers_file.write(tmp_path / "answers.json", [deepest])
    (found,) = answers_file.read(tmp_path / "answers.json", [Sample("one", b"1", None)])
    assert found.answer == deepest.answer


def test_a_text_that_is_no_unicode(tmp_path):
    """JSON may name half of a character: such a text is compared, recorded, and told so that any file can hold it."""
    half, other = json.loads('"\\ud800"'), json.loads('"\\udfff"')
    sample = Sample("one", b"1", half)
    assert sample.why_wrong(b'"\\ud800"') is None
    assert sample.why_wrong(b'"\\udfff"').encode()
    assert why_different({half: 1}, {half: 2}, TOLERANCE).encode()
    assert why_different({half: 1}, {other: 1}, TOLERANCE).encode()
    answers_file.write(tmp_path / "answers.json", [sample])
    (found,) = answers_file.read(tmp_path / "answers.json", [Sample("one", b"1", None)])
    assert found.answer == half
