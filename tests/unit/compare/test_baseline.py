"""The values that --ts-baseline accepts, and the errors for all others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_torchserve.compare import baseline
from pytest_torchserve.errors import InputError, OptionError
from pytest_torchserve.torchserve import archive

CONFTEST = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
from models.catalogue import MODELS

def pytest_torchserve_models(config):
    return MODELS
"""
CATALOGUE = """
from pathlib import Path
from pytest_torchserve import Model, Weights
HERE = Path(__file__).parent
MODELS = [
    Model(name="NAME", handler=HERE / "handler.py", reference=HERE / "reference.py", dataset="cifar10",
          network=HERE / "net.py", weights=Weights("w-12.pth", "https://example.org/w"), config={"a": 1}),
    Model(name="stock", handler="image_classifier", reference=HERE / "reference.py", dataset="imagenet", extra=True),
]
"""


@pytest.fixture
def repository(tmp_path):
    """A git repository: the commits `first` and `second` and the working tree each serve a model of another name."""

    def git(*arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)  # noqa: S607

    git("init", "-q")
    (tmp_path / "models").mkdir()
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name in ("first", "second", "third"):
        (tmp_path / "models" / "catalogue.py").write_text(CATALOGUE.replace("NAME", name))
        if name != "third":
            git("add", ".")
            git("commit", "-qm", name)
            git("tag", name)
    return tmp_path


def test_a_revision_serves_what_it_served(repository):
    """A revision is served with its own catalogue and files; the working tree is neither read nor changed."""
    told = baseline.parse("first", repository)
    assert told.kind == "revision"
    assert told.words.startswith("first (")
    found = baseline.models(told.path)
    assert set(found) == {"first", "stock"}
    model = found["first"]
    assert model.handler == told.path / "models" / "handler.py"
    assert (model.weights.file, dict(model.config), model.extra) == ("w-12.pth", {"a": 1}, False)
    assert (found["stock"].handler, found["stock"].network, found["stock"].extra) == ("image_classifier", None, True)
    assert set(baseline.models(baseline.parse("HEAD", repository).path)) == {"second", "stock"}
    assert "third" in (repository / "models" / "catalogue.py").read_text()


def test_a_folder_within_a_repository_is_enough(repository):
    """A suite in a subfolder of a repository is served from that subfolder of the revision."""
    told = baseline.parse("first", repository / "models")
    assert (told.path / "catalogue.py").is_file()
    assert (told.path.parent / "conftest.py").is_file()


def test_a_revision_that_cannot_be_read_says_why(repository):
    """A revision with a broken catalogue is refused with the catalogue's own error."""
    (repository / "conftest.py").write_text("import no_such_module")
    subprocess.run(
        ["git", "-C", repository, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "x"],  # noqa: S607
        check=True,
    )
    with pytest.raises(InputError, match="no_such_module"):
        baseline.models(baseline.parse("HEAD", repository).path)


def test_archives(tmp_path):
    """The archive that the store last used is taken, else the only one that matches by name.

    A pair archive never matches. Several archives without a record of the last used one are refused.
    """
    with pytest.raises(OptionError, match=r"no \.mar file"):
        baseline.parse(str(tmp_path), tmp_path)
    for name in ("a-cpu-1", "a-cpu-2", "a-cpu-pair-3", "a-gpu-4", "b"):
        (tmp_path / f"{name}.mar").touch()
    assert baseline.parse(str(tmp_path), tmp_path).kind == "archives"
    assert baseline.saved_archive(tmp_path, "a", "gpu").name == "a-gpu-4.mar"
    assert baseline.saved_archive(tmp_path, "b", "cpu").name == "b.mar"
    with pytest.raises(baseline.NoBaselineError, match="an archive of c for cpu"):
        baseline.saved_archive(tmp_path, "c", "cpu")
    with pytest.raises(InputError, match=r"found: a-cpu-1\.mar, a-cpu-2\.mar"):
        baseline.saved_archive(tmp_path, "a", "cpu")
    for named in ("a-cpu-2.mar", "a-cpu-1.mar"):
        archive.current(tmp_path, "a", "cpu").write_text(named)
        assert baseline.saved_archive(tmp_path, "a", "cpu").name == named


def test_a_catalogue_that_prints(repository):
    """The output of a catalogue is ignored."""
    (repository / "conftest.py").write_text("print('hello')\n" + CONFTEST)
    subprocess.run(
        ["git", "-C", repository, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "x"],  # noqa: S607
        check=True,
    )
    assert set(baseline.models(baseline.parse("HEAD", repository).path)) == {"third", "stock"}


def test_another_environment(tmp_path):
    """A Python with TorchServe is accepted; the error for other Pythons quotes the interpreter or the system."""
    told = baseline.parse(f"python:{sys.executable}", tmp_path)
    assert (told.kind, str(told.path)) == ("python", sys.executable)
    with pytest.raises(OptionError, match="No such file"):
        baseline.parse(f"python:{tmp_path}/none", tmp_path)
    bare = tmp_path / "bin" / "python"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(OptionError, match="No package metadata was found for torchserve"):
        baseline.parse(f"python:{tmp_path}", tmp_path)


def test_anything_else_is_refused(repository, tmp_path_factory):
    """The error names all three kinds of baseline; outside a repository it quotes git."""
    with pytest.raises(OptionError, match="'nonsense': no such folder, and git knows no revision"):
        baseline.parse("nonsense", repository)
    with pytest.raises(OptionError, match="not a git repository"):
        baseline.parse("HEAD", tmp_path_factory.mktemp("elsewhere"))
