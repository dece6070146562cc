"""Files of expected answers: written from a trusted run, and put to the requests that they belong to."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_torchserve import json_text
from pytest_torchserve.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_torchserve.model import Sample

_FORMAT = 1
_AROUND = 4
"""The objects around an answer in the file."""


def write(path: Path, samples: Sequence[Sample]) -> None:
    """Write the requests' answers by the requests' names, bytes as base64; None for an answer that changes."""
    answers = {sample.name: {"request": _hash(sample), "answer": _plain(sample.answer)} for sample in samples}
    text = json.dumps({"format": _FORMAT, "answers": answers}, indent=1, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half of a character, which UTF-8 cannot hold, becomes `\udXXX`: JSON's own way to write it.
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def _hash(sample: Sample) -> str:
    return hashlib.sha256(sample.body).hexdigest()[:12]


def _plain(answer: Any) -> dict[str, Any] | None:
    if answer is None:
        return None
    if isinstance(answer, bytes):
        return {"base64": base64.b64encode(answer).decode()}
    return {"json": answer}


def read(path: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the requests with the answers that the file expects; a recorded answer that changes is not expected.

    Raises:
        InputError: the file cannot be read, has no answer for one of the requests, or one to another request.
    """
    do = "make it from a trusted archive and these requests: tsperf record-answers"
    try:
        content = json_text.loads(path.read_text(encoding="utf-8"), json_text.DEEPEST + _AROUND)
        found = content["answers"]
        answers = {name: (entry["request"], _answer(entry["answer"])) for name, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            wanted=f"expected answers in {path}", found=f"{type(error).__name__}: {error}", do=do
        ) from error
    unknown = [sample for sample in samples if sample.answer is None]
    missing = [sample.name for sample in unknown if answers.get(sample.name, ("", None))[0] != _hash(sample)]
    if missing:
        raise InputError(
            wanted=f"an answer to each of {len(samples)} requests in {path}",
            found=f"none to {missing[0]}, or one to another body"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            do=do,
        )
    return tuple(
        replace(sample, answer=answers[sample.name][1], trusted=answers[sample.name][1] is not None)
        if sample.answer is None
        else sample
        for sample in samples
    )


def _answer(entry: dict[str, Any] | None) -> Any:
    if entry is None:
        return None
    return base64.b64decode(entry["base64"]) if "base64" in entry else entry["json"]
