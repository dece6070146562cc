"""The check of an answer against the golden one: right answers pass, all others are rejected."""

from __future__ import annotations

import json

import pytest

from pytest_torchserve.model import Sample, Weights, why_wrong

SAMPLE = Sample(name="one", body=b"", answer={"cat": 0.6, "dog": 0.3, "emu": 0.1})


def verdict(answer):
    """Return why an answer, given as an object, is wrong; None where it is right."""
    return why_wrong(json.dumps(answer).encode(), SAMPLE)


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
    assert "not JSON: b'<html>" in why_wrong(b"<html>oops", SAMPLE)


def test_swapped_answers_are_both_wrong():
    """Two answers that differ by more than the tolerance are both wrong when they are swapped."""
    other = Sample(name="two", body=b"", answer={"cat": 0.58, "dog": 0.32, "emu": 0.1})
    assert why_wrong(json.dumps(other.answer).encode(), SAMPLE)
    assert why_wrong(json.dumps(SAMPLE.answer).encode(), other)


def test_published_weights_promise_their_hash():
    """The file name ends in the first characters of the hash, as torch hub's names do."""
    assert Weights(file="densenet161-8d451a50.pth", source="").sha256_prefix == "8d451a50"
