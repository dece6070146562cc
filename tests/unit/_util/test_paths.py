"""Paths of every kind, wherever a user may name one: what cannot be used is one clear message."""

from __future__ import annotations

import os
import sys

import pytest

from pytest_torchserve._util import paths
from pytest_torchserve.compare import baseline
from pytest_torchserve.errors import OptionError
from pytest_torchserve.plugin import archive_values, options
from pytest_torchserve.torchserve import interpreter, own_models, properties
from pytest_torchserve.torchserve.settings import ServerSettings

ODD = {
    "long name": ("a" * 5_000, "File name too long"),
    "long path": ("a/" * 5_000, "File name too long"),
    "circle of links": ("circle", "Too many levels of symbolic links"),
    "NUL": ("a\0b", "null"),
    "half of a character": ("a\ud800b", "surrogates not allowed"),
    "below a file": ("file/x", "Not a directory"),
    "nothing": ("gone", "no such file"),
    "nobody's home": ("~no-such-user/x", "no such file"),
}


@pytest.fixture(params=ODD.values(), ids=ODD)
def odd(request, tmp_path, monkeypatch):
    """A path that cannot be used, and words of the reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    return request.param


def refused(call, why):
    """Assert that a call is refused in words, in a message of bounded length."""
    with pytest.raises(OptionError) as caught:
        call()
    assert why in caught.value.found
    assert len(str(caught.value)) < 1_000
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    assert "\0" not in str(caught.value)
    assert str(caught.value).encode()


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("key", ["metrics_config", "keystore", "plugins_path"])
def test_in_a_config(odd, tmp_path, key, absolute):
    """A setting that names such a path is refused, and is no content to record."""
    path, why = odd
    text = f"{tmp_path}/{path}" if absolute else path
    refused(lambda: properties.in_place({key: text}, tmp_path), "no /" if why == "no such file" else why)
    assert properties.content_of(key, text, tmp_path) == ""
    assert properties.unmeasured({key: text}) == []


def test_a_place_for_workflows(odd, tmp_path):
    """A folder that TorchServe makes itself need not be there, but must be possible."""
    path, why = odd
    if why == "no such file":
        assert properties.in_place({"workflow_store": path}, tmp_path) == {"workflow_store": f"{tmp_path}/{path}"}
    else:
        refused(lambda: properties.in_place({"workflow_store": path}, tmp_path), why)


def test_as_an_option(odd, tmp_path):
    """An option that names such a path is refused."""
    path, why = odd
    refused(lambda: properties.read(paths.resolved(path)), why[1:])
    refused(lambda: ServerSettings(config=baseline.config_file(f"config:{path}")).timeouts, why[1:])
    refused(lambda: interpreter.find(paths.at_home(path), "--ts-python"), "")
    refused(lambda: own_models.find([paths.at_home(path)]), why)
    refused(lambda: archive_values.samples(path), why)
    refused(lambda: options.check_folder(path), "no such folder" if why == "no such file" else why)
    refused(lambda: baseline.parse(path, tmp_path), "")
    refused(lambda: baseline.parse(f"python:{path}", tmp_path), "")


def test_a_place_to_write_to(odd):
    """A place that is not there yet may be written to; an impossible one is refused before anything is measured."""
    path, why = odd
    if why == "no such file":
        options.check_place("--ts-report", paths.resolved(path))
    else:
        refused(lambda: options.check_place("--ts-report", paths.resolved(path)), why)


def test_a_folder_is_no_file(tmp_path):
    """A folder in place of a file is told, too."""
    refused(lambda: properties.read(tmp_path), "Is a directory")
    assert properties.content_of("metrics_config", ".", tmp_path) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_entered(tmp_path):
    """A folder of someone else's is told, too."""
    (tmp_path / "closed").mkdir(mode=0)
    refused(lambda: properties.in_place({"keystore": "closed/x"}, tmp_path), "Permission denied")


@pytest.mark.parametrize("text", ["", " ", "config:", "config: ", "python:", "python: "])
def test_a_baseline_without_a_name(tmp_path, text):
    """An empty name would mean the working folder, which nobody means."""
    refused(lambda: baseline.parse(text, tmp_path), repr(text))
    if text.startswith("config:"):
        refused(lambda: baseline.config_file(text), repr(text))


def test_a_path_at_home(monkeypatch, tmp_path):
    """`~` is the user's folder; a path is shown in one line."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.at_home("~/a") == tmp_path / "a"
    assert paths.shown("a\nb") == "'a\\nb'"
    assert paths.is_file(paths.resolved(sys.executable))
