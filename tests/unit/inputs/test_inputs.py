"""Weights, samples and their cache: found, made or refused, with a reason."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache, samples, weights
from pytest_torchserve.model import Weights

CONTENT = b"the published weights"
PREFIX = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """An empty cache folder of the test's own, without torch hub's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def published():
    """`published(content)` serves the content on loopback and returns the catalogue's entry for it."""
    servers = []

    def publish(content, name=f"net-{PREFIX}.pth"):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                """Log nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Weights(file=name, source=f"http://127.0.0.1:{server.server_port}/{name}")

    yield publish
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_data_folder_comes_first(tmp_path, own_cache):
    """Weights in DATA/weights are preferred to those in torch hub's cache."""
    entry = Weights(file=f"net-{PREFIX}.pth", source="http://127.0.0.1:9/never")
    hub = own_cache / "torch" / "hub" / "checkpoints"
    for folder in (tmp_path / "data" / "weights", hub):
        folder.mkdir(parents=True)
        (folder / entry.file).write_bytes(CONTENT)
    assert weights.find(entry, "auto", tmp_path / "data") == tmp_path / "data" / "weights" / entry.file
    assert weights.find(entry, "auto", None) == hub / entry.file


def test_auto_does_not_wait(published):
    """With `auto`, weights that are not on disk are seeded, even if they could be downloaded."""
    assert weights.find(published(CONTENT), "auto", None) is None


def test_seeded_takes_nothing(tmp_path):
    """With `seeded`, published weights are not taken, even if they are on disk."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"net-{PREFIX}.pth").write_bytes(CONTENT)
    assert weights.find(Weights(file=f"net-{PREFIX}.pth", source=""), "seeded", tmp_path) is None


def test_pretrained_downloads_once(published, own_cache):
    """A download is checked, kept in the suite's cache, and found there afterwards, also with `auto`."""
    entry = published(CONTENT)
    path = weights.find(entry, "pretrained", None)
    assert path.read_bytes() == CONTENT
    assert weights.find(Weights(file=entry.file, source="http://127.0.0.1:9/gone"), "auto", None) == path
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == [entry.file]


def test_a_wrong_hash_is_refused(published, tmp_path):
    """A file whose hash is not the one in its name is never used, whether it was downloaded or found."""
    with pytest.raises(InputError, match=rf"(?s)begins with {PREFIX}.*has [0-9a-f]{{64}}"):
        weights.find(published(b"something else"), "pretrained", None)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"net-{PREFIX}.pth").write_bytes(b"cut sho")
    with pytest.raises(InputError, match="begins with"):
        weights.find(Weights(file=f"net-{PREFIX}.pth", source=""), "auto", tmp_path)


def test_a_failed_download_says_where_to_put_the_file(published):
    """The error names what was wanted, why the download failed, and what to do."""
    with pytest.raises(InputError, match=r"(?s)the download failed: 404.*put the file into DIR/weights"):
        weights.find(published(None), "pretrained", None)


def test_pretrained_without_any_is_refused():
    """With `pretrained`, a model whose catalogue entry names no weights is refused."""
    with pytest.raises(InputError, match="the catalogue names none"):
        weights.find(None, "pretrained", None)


def make_folder(base, classes):
    """Create class-named folders of small images; return the folder that holds them."""
    for name, count in classes.items():
        (base / name).mkdir(parents=True)
        for index in range(count):
            (base / name / f"{index}.png").write_bytes(b"png")
    return base


def test_classes_take_turns(tmp_path):
    """The first n files hold as many classes as n allows; files that are no images are ignored."""
    make_folder(tmp_path / "cifar10", {"cat": 3, "dog": 1, "emu": 2})
    (tmp_path / "cifar10" / "cat" / "notes.txt").write_text("no image")
    found = samples.find("cifar10", tmp_path)
    assert found.classes == ("cat", "dog", "emu", "cat", "emu", "cat")
    assert found.source == "folder"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: (path / "cifar10" / "cat").mkdir(parents=True)])
def test_an_unusable_data_folder(tmp_path, make):
    """A data folder that is missing or without images is refused with an error that says how to arrange the files."""
    make(tmp_path)
    wanted = tmp_path if (tmp_path / "cifar10").exists() else tmp_path / "nowhere"
    with pytest.raises(InputError, match=r"wanted: (image files|a folder of samples)"):
        samples.find("cifar10", wanted)


def test_synthetic_images(tmp_path):
    """Without the data set, 32×32 PNGs and photograph-sized JPEGs are made.

    All images differ, and are the same each time.
    """
    small, large = samples.find("cifar10", tmp_path), samples.find("imagenet", None)
    assert (small.source, large.source) == ("synthetic", "synthetic")
    assert len({path.read_bytes() for path in small.paths}) == 64
    assert small.paths[0].read_bytes().startswith(b"\x89PNG")
    assert large.paths[0].read_bytes().startswith(b"\xff\xd8")
    assert 20_000 < large.paths[0].stat().st_size < 200_000
    assert samples.image(5, (32, 32)) == samples.image(5, (32, 32)) != samples.image(6, (32, 32))


TORCHVISION = """
class CIFAR10:
    classes = ["airplane", "cat"]
    def __init__(self, root, train, download):
        assert not train and not download
    def __len__(self): return 4
    def __getitem__(self, index):
        from PIL import Image
        return Image.new("RGB", (32, 32), (index, 0, 0)), index % 2
"""


def test_torchvisions_cifar10(tmp_path, monkeypatch):
    """The test images of a CIFAR10 that torchvision has on disk are sent as PNG files."""
    (tmp_path / "fake" / "torchvision").mkdir(parents=True)
    (tmp_path / "fake" / "torchvision" / "__init__.py").write_text("")
    (tmp_path / "fake" / "torchvision" / "datasets.py").write_text(TORCHVISION)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    root = tmp_path / "data"
    (root / "cifar-10-batches-py").mkdir(parents=True)
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(b"x")
    found = samples.find("cifar10", root)
    assert found.source == "torchvision"
    assert found.classes == ("airplane", "cat", "airplane", "cat")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found.paths)


def test_keys_tell_parts_apart(tmp_path):
    """Lists of parts that are equal when joined have different keys, and so do files with different contents."""
    assert cache.key(["ab", "c"]) != cache.key(["a", "bc"])
    file = tmp_path / "x"
    file.write_text("1")
    before = cache.key([file])
    file.write_text("2")
    assert cache.key([file]) != before
