"""Requests to send as they are: a file, a folder of files, or a .jsonl with a request in each line."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve import json_text
from pytest_torchserve.errors import InputError
from pytest_torchserve.model import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWER = ".answer.json"
"""`FILE.answer.json` beside a file holds the answer expected for it."""

_CONTENT_TYPES = {".json": "application/json", ".txt": "text/plain", ".csv": "text/csv"}
_BINARY = "application/octet-stream"
_BODIES = ("json", "text", "base64", "file", "multipart")
_FURTHER = ("name", "content_type", "headers", "answer")
_OURS = ("host", "content-type", "content-length", "authorization", "connection", "transfer-encoding")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*")
_SHOWN = 80


def read(place: Path) -> tuple[Sample, ...]:
    """Return the requests of a file, a folder (hidden files left out) or a .jsonl.

    A line of a .jsonl is an object with one of `json`, `text`, `base64`, `file` (a path relative to the .jsonl) and
    `multipart` (field → text, or field → {"file": …, "content_type": …}) as its body, and perhaps `content_type`,
    `headers`, `answer` (the expected one: a JSON value) and `name`.

    Raises:
        InputError: there is nothing to send, or a line or an answer cannot be read.
    """
    try:
        samples = tuple(_samples(place))
    except OSError as error:
        raise InputError(
            wanted=f"requests to send at {place}", found=str(error), do="name a place that can be read"
        ) from error
    if not samples:
        raise InputError(
            wanted=f"requests to send in {place}", found="none", do="name a file, a folder of files, or a .jsonl"
        )
    twice = [name for name, count in Counter(sample.name for sample in samples).items() if count > 1]
    if twice:
        raise InputError(
            wanted=f"requests of different names in {place}", found=f"{twice[0]!r} twice", do="leave `name` out"
        )
    return samples


def _samples(place: Path) -> Iterator[Sample]:
    if place.suffix.lower() == ".jsonl" and place.is_file():
        yield from _lines(place)
    elif place.is_dir():
        yield from (_sample(path, path.relative_to(place).as_posix()) for path in _files(place))
    else:
        yield _sample(place, place.name)


def _files(folder: Path) -> list[Path]:
    """Return the files to send, in every sub-folder; those that a file manager or git leaves are hidden."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(ANSWER))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _sample(path: Path, name: str) -> Sample:
    return Sample(
        name=name,
        body=path.read_bytes(),
        answer=_answer(path.with_name(path.name + ANSWER)),
        content_type=_CONTENT_TYPES.get(path.suffix.lower(), _BINARY),
    )


def _answer(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json_text.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(
            wanted=f"the expected answer as JSON in {path}",
            found=str(error),
            do="write the answer that the model must give, or remove the file",
        ) from error


def _lines(place: Path) -> Iterator[Sample]:
    try:
        lines = place.read_text(encoding="utf-8").split("\n")  # not `splitlines`: a JSON text may hold other separators
    except UnicodeDecodeError as error:
        raise InputError(wanted=f"UTF-8 in {place}", found=str(error), do="write it anew as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _request(json.loads(line), place.parent, f"{place.name}:{number}")
            except (ValueError, TypeError, OSError, AttributeError, KeyError, RecursionError) as error:
                raise InputError(
                    wanted=f"in line {number} of {place} an object with one of {', '.join(_BODIES)}, and perhaps "
                    + ", ".join(_FURTHER),
                    found=f"{error}, in {line[:_SHOWN]}",
                    do='write for example {"json": {"text": "…"}, "answer": {"label": 1}}',
                ) from error


def _request(line: Mapping[str, Any], folder: Path, name: str) -> Sample:
    """Return the request of one line of a .jsonl."""
    kinds = [kind for kind in _BODIES if kind in line]
    odd = sorted(line.keys() - {*_BODIES, *_FURTHER})
    if len(kinds) != 1 or odd:
        raise ValueError(f"unknown key {odd[0]!r}" if odd else f"{len(kinds)} bodies")
    body, content_type = _body(kinds[0], line[kinds[0]], folder)
    if json_text.is_deeper(line.get("answer")):
        raise ValueError(f"an answer nested deeper than {json_text.DEEPEST}")
    headers = {str(key): str(value) for key, value in line.get("headers", {}).items()}
    bad = [key for key, value in headers.items() if key.lower() in _OURS or not _HEADER.fullmatch(f"{key}: {value}")]
    if bad:
        raise ValueError(f"header {bad[0]!r} cannot be set")
    content_type = line.get("content_type", content_type)
    if not isinstance(content_type, str) or not _HEADER.fullmatch(f"X: {content_type}"):
        raise ValueError(f"content_type {content_type!r} cannot be sent")
    return Sample(
        name=str(line.get("name", name)),
        body=body,
        answer=line.get("answer"),
        content_type=content_type,
        headers=headers,
    )


def _body(kind: str, value: Any, folder: Path) -> tuple[bytes, str]:
    """Return a body and its usual content type."""
    if kind == "json":
        return json.dumps(value, ensure_ascii=False).encode(), "application/json"
    if kind == "text":
        return value.encode(), "text/plain"
    if kind == "base64":
        return base64.b64decode(value, validate=True), _BINARY
    if kind == "file":
        return (folder / value).read_bytes(), _CONTENT_TYPES.get(Path(value).suffix.lower(), _BINARY)
    return _multipart(value, folder)


def _multipart(fields: Mapping[str, Any], folder: Path) -> tuple[bytes, str]:
    from urllib3 import encode_multipart_formdata  # noqa: PLC0415 - slow, and rarely needed

    parts: list[tuple[str, Any]] = []
    for field, value in fields.items():
        if isinstance(value, dict):
            path = folder / value["file"]
            parts.append((field, (path.name, path.read_bytes(), value.get("content_type", _BINARY))))
        else:
            parts.append((field, str(value)))
    # A boundary of its own choosing would differ from run to run, and equal requests would not be equal.
    return encode_multipart_formdata(parts, boundary="pytest-torchserve-part-boundary")
