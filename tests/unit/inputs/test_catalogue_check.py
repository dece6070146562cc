"""An entry of the catalogue is checked before anything starts, and every fault is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs.catalogue_check import check
from pytest_torchserve.model import Model, Weights


@pytest.fixture
def entry(tmp_path):
    """A faultless entry whose handler is a function."""
    (tmp_path / "h.py").write_text("from elsewhere import handle as other\ndef predict(data, context): ...\n")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.txt").write_text("a")
    return Model("mine", handler=f"{tmp_path / 'h.py'}:predict", extra_files=(tmp_path / "tokenizer",))


def test_faultless(entry):
    """A function handler, a stock handler, and published weights that are not on disk are no faults."""
    check(entry)
    check(replace(entry, handler=str(entry.handler).replace("predict", "other")))  # imported: TorchServe finds it, too
    check(Model("stock", handler="image_classifier", weights=Weights("x-12345678.pt", "https://example.org")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "my model"}, "'my model'"),
        ({"name": ""}, "name"),
        ({"handler": ""}, "neither a handler nor an archive"),
        ({"handler": "/nowhere/h.py"}, "no handler file /nowhere/h.py"),
        ({"network": "net.py"}, "no file"),
        ({"reference": "ref.py"}, "no file"),
        ({"weights": "w.pt"}, "no file"),
        ({"samples": "s"}, "no file or folder"),
        ({"mar": "m.mar"}, "no archive"),
    ],
)
def test_faults(entry, tmp_path, change, words):
    """Each fault is told by the name of what is missing."""
    kinds = {"network", "reference", "weights", "samples", "mar"}
    change = {key: tmp_path / value if key in kinds else value for key, value in change.items()}
    with pytest.raises(InputError) as error:
        check(replace(entry, **change))
    assert words in error.value.found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 3}, "samples is 3"),
        ({"weights": 1.5}, "weights is 1.5"),
        ({"extra_files": (None,)}, "extra_files holds None"),
    ],
)
def test_what_is_no_path(entry, change, words):
    """A value of another kind is told as any fault, and does not end the session."""
    with pytest.raises(InputError) as error:
        check(replace(entry, **change))
    assert words in error.value.found


def test_a_text_is_a_path(tmp_path):
    """Every path may be written as text, as the handler may; one extra file needs no tuple."""
    model = Model("mine", handler="h.py", samples="a.jsonl", weights="w.pt", extra_files="x.txt")
    assert (model.samples, model.weights, model.extra_files) == (Path("a.jsonl"), Path("w.pt"), (Path("x.txt"),))


def test_a_function_that_is_not_there(entry):
    """`file.py:entry` must name a function of the file."""
    with pytest.raises(InputError, match="no function forecast in"):
        check(replace(entry, handler=str(entry.handler).replace("predict", "forecast")))


def test_every_fault_at_once(entry, tmp_path):
    """Two faults are two parts of one message."""
    with pytest.raises(InputError) as error:
        check(replace(entry, network=tmp_path / "a.py", extra_files=(tmp_path / "b.txt",)))
    assert error.value.found.count(";") == 1


def test_two_files_of_one_name(entry, tmp_path):
    """In an archive all files lie side by side, a folder's content too."""
    (tmp_path / "vocab.txt").write_text("b")
    with pytest.raises(InputError, match=r"two files called vocab\.txt"):
        check(replace(entry, extra_files=(*entry.extra_files, tmp_path / "vocab.txt")))
