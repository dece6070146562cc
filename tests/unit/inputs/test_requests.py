"""Requests of any kind: files, folders, lines of a .jsonl; and files of expected answers."""

from __future__ import annotations

import json

import pytest

from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import answers_file, own, requests
from pytest_torchserve.inputs.model_inputs import ModelInputs
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.encoding import encode
from pytest_torchserve.model import Model, Sample


def test_a_folder(tmp_path):
    """Files of every sub-folder are sent, in order; what a file manager or git leaves is passed over."""
    for name in ("b.JSON", "sub/a.png", ".DS_Store", "sub/.gitkeep", "b.JSON.answer.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"n": 1}')
    found = requests.read(tmp_path)
    assert [(sample.name, sample.content_type, sample.answer) for sample in found] == [
        ("b.JSON", "application/json", {"n": 1}),
        ("sub/a.png", "application/octet-stream", None),
    ]


def test_a_single_file(tmp_path):
    """A single file is a single request."""
    (tmp_path / "one.txt").write_text("hello")
    (sample,) = requests.read(tmp_path / "one.txt")
    assert (sample.body, sample.content_type) == (b"hello", "text/plain")


def test_lines(tmp_path):
    """A line is a request: JSON, text, base64, a file, or a form with files, perhaps with headers and an answer."""
    (tmp_path / "x.bin").write_bytes(b"\x00\xff")
    lines = [
        {"json": {"text": "größer"}, "headers": {"X-Tenant": "a"}, "answer": [1, 2.5], "name": "first"},
        {"text": "plain"},
        {"base64": "AP8="},
        {"file": "x.bin", "content_type": "image/png"},
        {"multipart": {"data": {"file": "x.bin", "content_type": "image/png"}, "k": 3}},
    ]
    (tmp_path / "r.jsonl").write_text("".join(f"{json.dumps(line)}\n\n" for line in lines))
    found = requests.read(tmp_path / "r.jsonl")
    assert [sample.name for sample in found] == ["first", *(f"r.jsonl:{n}" for n in (3, 5, 7, 9))]
    assert json.loads(found[0].body) == {"text": "größer"}
    assert (found[0].content_type, found[0].headers, found[0].answer) == (
        "application/json",
        {"X-Tenant": "a"},
        [1, 2.5],
    )
    assert [sample.content_type for sample in found[1:4]] == ["text/plain", "application/octet-stream", "image/png"]
    assert found[2].body == found[3].body == b"\x00\xff"
    assert found[4].content_type.startswith("multipart/form-data; boundary=")
    assert b'name="data"; filename="x.bin"\r\nContent-Type: image/png\r\n\r\n\x00\xff' in found[4].body
    again = requests.read(tmp_path / "r.jsonl")
    assert [sample.body for sample in again] == [sample.body for sample in found]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting"),
        ("3", "line 1"),
        ('{"name": "x"}', "0 bodies"),
        ('{"text": "a", "json": 1}', "2 bodies"),
        ('{"text": "a", "anwser": 1}', "unknown key 'anwser'"),
        ('{"file": "nowhere.bin"}', "nowhere.bin"),
        ('{"base64": "%%"}', "line 1"),
        ('{"text": "a", "headers": {"Host": "x"}}', "header 'Host' cannot be set"),
        ('{"text": "a", "content_type": null}', "content_type None cannot be sent"),
        ('{"multipart": {"image": {"path": "x"}}}', "'file'"),
        ('{"text": "a", "headers": {"X": "a\\r\\nY: b"}}', "header 'X' cannot be set"),
        ('{"json": ' + "[" * 9999 + "]" * 9999 + "}", "recursion"),
    ],
)
def test_a_line_that_cannot_be_read(tmp_path, line, words):
    """The message names file, line and cause."""
    (tmp_path / "r.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"in line 1 of .*r\.jsonl") as error:
        requests.read(tmp_path / "r.jsonl")
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_send(tmp_path, name):
    """A place that is not there, or holds nothing, is one clear message."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="requests to send"):
        requests.read(tmp_path / name)


def test_a_place_that_cannot_be_read(tmp_path):
    """A link that leads nowhere, or to itself, is one clear message."""
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(InputError, match="a place that can be read"):
        requests.read(tmp_path / "loop.jsonl")


def test_headers_are_sent():
    """A request's own headers follow the usual ones."""
    sample = Sample("a", b"x", None, headers={"X-Tenant": "a"})
    assert encode(Address("127.0.0.1", 8080), "/predictions/m", sample).endswith(b"\r\nX-Tenant: a\r\n\r\nx")


def test_answers_come_back(tmp_path):
    """What is written is read: JSON of any shape, and bytes; a request that has an answer keeps it."""
    samples = [Sample("a", b"1", {"x": [1.5]}), Sample("b", b"2", b"\xff"), Sample("c", b"3", None)]
    answers_file.write(tmp_path / "new" / "answers.json", samples)
    asked = [Sample("a", b"1", None), Sample("b", b"2", None), Sample("c", b"3", None), Sample("d", b"4", 7)]
    found = answers_file.read(tmp_path / "new" / "answers.json", asked)
    assert [(sample.answer, sample.trusted) for sample in found] == [
        ({"x": [1.5]}, True),
        (b"\xff", True),
        (None, False),  # recorded as one that changes: not compared, and not asked again
        (7, True),
    ]


def test_answers_to_other_requests(tmp_path):
    """A request of the same name with another body has no answer there."""
    answers_file.write(tmp_path / "answers.json", [Sample("a", b"1", 3)])
    with pytest.raises(InputError, match="none to a, or one to another body"):
        answers_file.read(tmp_path / "answers.json", [Sample("a", b"2", None)])


def test_separators_inside_a_text_and_names_that_come_twice(tmp_path):
    """A line ends at a newline alone; two requests of one name could not be told apart."""
    lines = [{"text": "a\u2028b\x0cc"}, {"text": "d"}]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    assert [sample.body.decode() for sample in requests.read(tmp_path / "r.jsonl")] == ["a\u2028b\x0cc", "d"]
    (tmp_path / "r.jsonl").write_text('{"text": "a", "name": "x"}\n{"text": "b", "name": "x"}\n')
    with pytest.raises(InputError, match="'x' twice"):
        requests.read(tmp_path / "r.jsonl")


@pytest.mark.parametrize("text", ["", "[]", '{"answers": {"a": 3}}', '{"answers": {"z": {"json": 1}}}'])
def test_answers_that_do_not_fit(tmp_path, text):
    """A file that is no file of answers, or has none for a request, is one message that says how to make it."""
    (tmp_path / "answers.json").write_text(text)
    with pytest.raises(InputError, match="record-answers"):
        answers_file.read(tmp_path / "answers.json", [Sample("a", b"1", None)])


def test_how_many_are_different():
    """The number of different bodies is known: a handler that caches looks fast where they are few."""
    samples = tuple(Sample(str(n), bytes([n % 3]), None) for n in range(9))
    assert ModelInputs(own.artifacts(Model("m"), None), samples, "requests").distinct_bodies == 3


@pytest.mark.parametrize(("handler", "body"), [("image_classifier", b"\xff\xd8"), ("text_classifier", b"The")])
def test_a_stock_handler_tells_what_it_wants(handler, body):
    """Without requests, a stock handler gets images or texts."""
    found = own.inputs(own.artifacts(Model("m", handler=handler), None), None)
    assert found.samples_source == "synthetic"
    assert found.samples[0].body.startswith(body)


def test_nobody_knows_what_to_send(tmp_path):
    """For a handler of one's own, a clear request for requests."""
    with pytest.raises(InputError, match="--ts-samples"):
        own.inputs(own.artifacts(Model("m", handler=tmp_path / "h.py"), None), None)
