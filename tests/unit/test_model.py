"""What counts as a right answer, and that everything else does not."""

from __future__ import annotations

import json

import pytest

from pytest_torchserve.model import Sample, Weights, why_wrong

SAMPLE = Sample(name="one", body=b"", answer={"cat": 0.6, "dog": 0.3, "emu": 0.1})


def verdict(answer):
    """The reason for an answer that is given as an object."""
    return why_wrong(json.dumps(answer).encode(), SAMPLE)


@pytest.mark.parametrize("answer", [{"cat": 0.6}, {"cat": 0.6004, "dog": 0.2996}, {"dog": 0.3, "cat": 0.6}])
def test_right(answer):
    """The top label and values within the tolerance; how many labels are given, and their order, are free."""
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
    """A body that is no JSON is shown."""
    assert "not JSON: b'<html>" in why_wrong(b"<html>oops", SAMPLE)


def test_swapped_answers_are_both_wrong():
    """Two samples whose answers differ by more than the tolerance: swapping them is seen at both."""
    other = Sample(name="two", body=b"", answer={"cat": 0.58, "dog": 0.32, "emu": 0.1})
    assert why_wrong(json.dumps(other.answer).encode(), SAMPLE)
    assert why_wrong(json.dumps(SAMPLE.answer).encode(), other)


def test_published_weights_promise_their_hash():
    """Torch hub's convention: the name ends in the hash's beginning."""
    assert Weights(file="densenet161-8d451a50.pth", source="").sha256_prefix == "8d451a50"
