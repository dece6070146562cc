"""The cache: where it lies, and what names its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_torchserve.compare import revision
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache, weights
from pytest_torchserve.model import Weights


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of the test's own; the working folder is another one."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.mark.parametrize("value", [None, "", "relative", "./relative", "~/cache", " "])
def test_a_relative_place_is_ignored(home, monkeypatch, value):
    """A relative XDG_CACHE_HOME is ignored, as the XDG specification says: it would be another one in each folder."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache.folder() == home / ".cache" / "pytest-torchserve"
    if not value:
        assert weights.places(None)[0] == home / ".cache" / "torch" / "hub" / "checkpoints"
    assert list(Path().iterdir()) == []


def test_an_absolute_place(tmp_path, monkeypatch):
    """The cache lies where XDG_CACHE_HOME says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache.folder("weights") == tmp_path / "mine" / "pytest-torchserve" / "weights"
    assert cache.folder("weights").is_dir()


@pytest.mark.parametrize(
    ("place", "why"),
    [("file", "Not a directory"), ("file/x", "Not a directory"), ("a" * 5_000, "File name too long")],
)
def test_a_place_that_cannot_be_a_folder(tmp_path, monkeypatch, place, why):
    """A file in the place of the cache is told in one message, with the variable that names it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    with pytest.raises(InputError, match=rf"XDG_CACHE_HOME[\s\S]*found: {why}"):
        cache.folder()


@pytest.mark.parametrize("part", ["revisions", "weights", ""])
def test_a_file_within_the_cache(home, tmp_path, part, monkeypatch):
    """A file in the place of one of the cache's folders is told likewise, whatever needs that folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    file = tmp_path / "mine" / "pytest-torchserve" / part
    file.parent.mkdir(parents=True)
    file.touch()
    needs = {
        "revisions": lambda: revision.place_of("0" * 40, []),
        "weights": lambda: weights.find(Weights(file="w-12.pth", source="http://127.0.0.1:9/w"), "pretrained", None),
        "": cache.folder,
    }
    with pytest.raises(InputError, match=rf"a folder at {file} [\s\S]*found: "):
        needs[part]()


@pytest.mark.parametrize("name", [b"plain", "größe".encode(), b"\xe9t\xe9", b"\xff\xfe", b"a\nb"])
def test_names_of_every_kind(tmp_path, name):
    """A file is known by its name and content, whatever bytes its name has; so is a name alone."""
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"content")
    other = tmp_path / "other"
    other.write_bytes(b"content")
    assert cache.key([path]) == cache.key([path]) != cache.key([other])
    assert cache.key([path.name]) != cache.key([other.name])


def test_keys_stay():
    """What is in a user's cache is found again: keys of names that are UTF-8 are those of the releases before."""
    assert cache.key(["größe", b"\xff"]) == "f063870add05"


def test_half_of_a_character():
    """A text that no encoding holds has a key, too."""
    assert cache.key(["\ud800"]) != cache.key(["\udc80"])
