"""Archives of one's own: read in every format, refused with a reason, packed again with another entry point."""

from __future__ import annotations

import json
import tarfile
import zipfile
from dataclasses import replace

import pytest
import yaml

from pytest_torchserve.errors import ArchiveError, OptionError
from pytest_torchserve.inputs import own
from pytest_torchserve.model import Model
from pytest_torchserve.torchserve import archive, own_models, wrap
from pytest_torchserve.torchserve.timeouts import WantedTimeouts

CONFIG = "# a comment\nbatchSize: 8\nmaxBatchDelay: 20\nminWorkers: 2\nrate: 1e-05\nsince: 2024-02-29\nwords: größer\n"
FILES = {"h.py": "def handle(data, context): ...\n", "c.yaml": CONFIG, "deep/er/x.bin": "\x00x", "w.onnx": "w"}


def manifest(**changes):
    """Return a manifest as torch-model-archiver writes it."""
    model = {"modelName": "m", "handler": "h.py", "configFile": "c.yaml", "serializedFile": "w.onnx"}
    return {"createdOn": "then", "runtime": "python", "model": {**model, **changes}, "archiverVersion": "0.12.0"}


def pack(path, told=None, files=FILES, kind="zip"):
    """Write an archive in one of TorchServe's formats, and return it."""
    entries = {**files, wrap.MANIFEST: json.dumps(manifest() if told is None else told)}
    folder = path.parent / f"{path.name}.unpacked" / "m" if kind != "folder" else path
    for name, text in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if kind == "tgz":
        with tarfile.open(path, "w:gz") as file:
            file.add(folder, arcname="m")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in entries:
                file.write(folder / name, name)
    return path


@pytest.mark.parametrize(("name", "kind"), [("m.mar", "zip"), ("m.tar.gz", "tgz"), ("m", "folder")])
def test_everything_is_passed_through(tmp_path, name, kind):
    """Every file is copied as it is, whatever the format; manifest and config are kept for the handler."""
    wrap.wrap(pack(tmp_path / name, kind=kind), "cpu", tmp_path / "made.mar")
    with zipfile.ZipFile(tmp_path / "made.mar") as made:
        assert {entry: made.read(entry).decode() for entry in FILES} == FILES
        told = json.loads(made.read(wrap.MANIFEST))
        assert told["model"] == {**manifest()["model"], "handler": "ts_probe", "configFile": wrap.CONFIG}
        assert {key: value for key, value in told.items() if key != "model"} == {
            key: value for key, value in manifest().items() if key != "model"
        }
        assert json.loads(made.read(wrap.SETTINGS)) == {"model": manifest()["model"]}
        assert set(wrap.packed()) <= set(made.namelist())
        frontend = yaml.safe_load(made.read(wrap.CONFIG))
    # Only what the registration decides is gone; types are as written: YAML takes this number for a text.
    expected = yaml.safe_load(CONFIG)
    assert expected["rate"] == "1e-05"
    for key in wrap.REGISTERED:
        expected.pop(key, None)
    assert frontend == {**expected, "deviceType": "cpu"}


def test_wrapped_twice_is_wrapped_once(tmp_path):
    """An archive of the suite's own store is the archive that it was made of."""
    wrap.wrap(pack(tmp_path / "m.mar"), "cpu", tmp_path / "once.mar")
    wrap.wrap(tmp_path / "once.mar", "cpu", tmp_path / "twice.mar")
    with zipfile.ZipFile(tmp_path / "once.mar") as once, zipfile.ZipFile(tmp_path / "twice.mar") as twice:
        assert {name: once.read(name) for name in once.namelist()} == {
            name: twice.read(name) for name in twice.namelist()
        }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"handler": "gone.py"}, "handler gone.py"),
        ({"handler": "gone:predict"}, "handler gone:predict"),
        ({"serializedFile": "gone.pt"}, "serializedFile gone.pt"),
        ({"modelFile": "net.py"}, "modelFile net.py"),
        ({"configFile": "gone.yaml"}, "configFile gone.yaml"),
    ],
)
def test_what_the_manifest_names_must_be_there(tmp_path, changes, words):
    """A file that the manifest names and the archive lacks is named, before a server is started."""
    with pytest.raises(ArchiveError) as error:
        wrap.wrap(pack(tmp_path / "m.mar", manifest(**changes)), "cpu", tmp_path / "made.mar")
    assert words in error.value.found


@pytest.mark.parametrize("handler", ["image_classifier", "h", "h.py:handle", "folder/h.py", "h:handle"])
def test_handlers_under_every_name(tmp_path, handler):
    """A stock handler, and a file of the archive in each way that a manifest may name it."""
    wrap.wrap(pack(tmp_path / "m.mar", manifest(handler=handler)), "cpu", tmp_path / "made.mar")


def test_time_outs_go_into_the_frontends_config(tmp_path):
    """Time-outs that the user asks for are in the config that the frontend reads, and not in the handler's own."""
    wrap.wrap(pack(tmp_path / "m.mar"), "cpu", tmp_path / "made.mar", WantedTimeouts({"responseTimeout": 7}))
    with zipfile.ZipFile(tmp_path / "made.mar") as file:
        assert yaml.safe_load(file.read(wrap.CONFIG))["responseTimeout"] == 7
        own = json.loads(file.read(wrap.SETTINGS))["model"]["configFile"]
        assert "responseTimeout" not in file.read(own).decode()


def test_another_runtime(tmp_path):
    """An archive for another runtime than Python cannot hold the probe."""
    with pytest.raises(ArchiveError, match="found: one for LSP"):
        wrap.wrap(pack(tmp_path / "m.mar", {**manifest(), "runtime": "LSP"}), "cpu", tmp_path / "made.mar")


@pytest.mark.parametrize(
    ("told", "files"),
    [
        ({"runtime": "python"}, FILES),
        ([], FILES),
        (manifest(), {**FILES, "c.yaml": "a: [1"}),
        (manifest(), {**FILES, "c.yaml": "- 1\n"}),
    ],
)
def test_a_manifest_or_config_that_cannot_be_used(tmp_path, told, files):
    """A manifest without a model, and a config that is no mapping, are one message each."""
    with pytest.raises(ArchiveError, match="wanted: a manifest with a model"):
        wrap.wrap(pack(tmp_path / "m.mar", told, files), "cpu", tmp_path / "made.mar")


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 cut"])
def test_no_archive(tmp_path, content):
    """A file that is no archive is told as such, with the formats that there are."""
    (tmp_path / "m.mar").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"a \.mar, a \.tar\.gz or a folder"):
        wrap.wrap(tmp_path / "m.mar", "cpu", tmp_path / "made.mar")


def test_a_zip_without_a_manifest(tmp_path):
    """A zip file of something else has no manifest."""
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(ArchiveError, match=r"no MAR-INF/MANIFEST\.json"):
        wrap.wrap(tmp_path / "m.mar", "cpu", tmp_path / "made.mar")


def test_found_in_files_and_folders(tmp_path):
    """Files, folders of archives and unpacked archives are found, each once; other files are not."""
    one, two = pack(tmp_path / "one.mar"), pack(tmp_path / "two.tar.gz", kind="tgz")
    three = pack(tmp_path / "three", kind="folder")
    (tmp_path / "notes.txt").write_text("")
    assert own_models.find([tmp_path, one, three]) == [one, three, two]


@pytest.mark.parametrize("name", ["nowhere.mar", "empty"])
def test_nothing_found(tmp_path, name):
    """A place without an archive is a usage error."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="--ts-mar"):
        own_models.find([tmp_path / name])


def test_what_an_archive_says_of_itself(tmp_path):
    """Its own batching and workers are known, whether it streams, and which requests are its own."""
    samples = tmp_path / "samples"
    (samples / "b").mkdir(parents=True)
    (samples / "a.jsonl").write_text('{"text": "1"}\n')
    stream = {**FILES, "h.py": "send_intermediate_predict_response\n", "c.yaml": "x: 1\n"}
    archives = [pack(tmp_path / "a.mar"), pack(tmp_path / "b.mar", files=stream), pack(tmp_path / "c d.mar")]
    (tmp_path / "broken.mar").write_bytes(b"")
    a, b, c, broken = own_models.models([*archives, tmp_path / "broken.mar"], samples, None)
    assert (a.as_configured.batching.batch_size, a.as_configured.workers, a.as_configured.device) == (8, 2, None)
    assert (b.as_configured, a.streams, b.streams) == (None, False, True)
    assert (a.samples, b.samples, c.samples) == (samples / "a.jsonl", samples / "b", None)
    assert (c.name, broken.name) == ("c_d", "broken")
    assert own_models.fault(a) is None
    assert "a model archive in" in str(own_models.fault(broken))
    assert "requests to send to c_d" in str(own_models.fault(c))  # told before anything starts


def test_a_name_with_a_space_has_its_samples(tmp_path):
    """Requests lie under the archive's own name, or under the model's."""
    (tmp_path / "samples" / "c d").mkdir(parents=True)
    (tmp_path / "samples" / "e_f.jsonl").write_text("")
    c, e = own_models.models([pack(tmp_path / "c d.mar"), pack(tmp_path / "e f.mar")], tmp_path / "samples", None)
    assert (c.samples, e.samples) == (tmp_path / "samples" / "c d", tmp_path / "samples" / "e_f.jsonl")


def test_what_a_catalogues_entry_says_of_itself(tmp_path):
    """An entry's config and handler say the same of batching and streaming as an archive's do."""
    (tmp_path / "h.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("send_intermediate_predict_response\n")
    mine = own_models.described(Model("m", handler=tmp_path / "h.py", config={"batchSize": 8}))
    assert (mine.as_configured.batching.batch_size, mine.streams, mine.one_at_a_time) == (8, False, False)
    helped = Model("m", handler=tmp_path / "h.py", extra_files=(tmp_path / "helper.py",))
    assert own_models.described(helped).streams
    assert own_models.described(Model("m", handler="text_classifier")).one_at_a_time
    assert own_models.described(replace(mine, as_configured=None, config={"asyncCommunication": True})).one_at_a_time
    assert "in the config of m" in str(own_models.fault(replace(helped, config={"where": tmp_path})))
    assert "no path" in str(own_models.fault(Model("m", handler=tmp_path / "h.py", samples=3)))


def test_two_of_one_name(tmp_path):
    """Two archives of one name are refused, and both are named."""
    (tmp_path / "x").mkdir()
    archives = [pack(tmp_path / "M.mar"), pack(tmp_path / "x" / "m.mar")]
    with pytest.raises(OptionError, match=r"M\.mar and .*x/m\.mar"):
        own_models.models(archives, None, None)


def test_a_link_has_the_models_name(tmp_path):
    """A link into a store of blobs is named as the link, and is found once with its target."""
    (tmp_path / "blobs").mkdir()
    pack(tmp_path / "blobs" / "0a1b.mar")
    (tmp_path / "mine.mar").symlink_to("blobs/0a1b.mar")
    found = own_models.find([tmp_path / "mine.mar", tmp_path / "blobs"])
    assert [path.name for path in found] == ["mine.mar"]


def test_requests_that_all_models_share(tmp_path):
    """A folder without an entry of any model's name holds the requests of each."""
    (tmp_path / "samples").mkdir()
    archives = [pack(tmp_path / "a.mar"), pack(tmp_path / "b.mar")]
    assert {model.samples for model in own_models.models(archives, tmp_path / "samples", None)} == {
        tmp_path / "samples"
    }


def test_an_encrypted_archive(tmp_path):
    """An archive that zipfile cannot read is one message, whatever zipfile raises."""
    path = pack(tmp_path / "m.mar")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of encryption, in each header
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="encrypted"):
        wrap.wrap(path, "cpu", tmp_path / "made.mar")


@pytest.mark.parametrize("function", ["", ":predict"])
def test_a_catalogue_entry_is_packed(tmp_path, function):
    """A handler file, or a function of one, is packed with the content of its folders and its config."""
    (tmp_path / "serve.py").write_text("def predict(data, context): ...\n")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.txt").write_text("a")
    extra, config = (tmp_path / "tokenizer",), {"rate": 1e-05}
    model = Model("m", handler=f"{tmp_path / 'serve.py'}{function}", extra_files=extra, config=config)
    made = archive.build(own.artifacts(model, None), "cpu", tmp_path / "store")
    with wrap.opened(made.path) as root:
        _, entry, told = wrap.original(root, made.path)
        assert {"serve.py", "vocab.txt"} <= {name for name, _ in wrap.files(root)}
    assert (entry["handler"], told) == (f"serve{function}" if function else "serve.py", config)
