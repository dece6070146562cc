"""Files of expected answers: written from a trusted run, and put to the requests that they belong to."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_torchserve.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_torchserve.model import Sample

_FORMAT = 1


def write(path: Path, samples: Sequence[Sample]) -> None:
    """Write the requests' answers by the requests' names; bytes as base64."""
    answers = {sample.name: _plain(sample.answer) for sample in samples if sample.answer is not None}
    text = json.dumps({"format": _FORMAT, "answers": answers}, indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _plain(answer: Any) -> dict[str, Any]:
    if isinstance(answer, bytes):
        return {"base64": base64.b64encode(answer).decode()}
    return {"json": answer}


def read(path: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the requests with the answers that the file expects.

    Raises:
        InputError: the file cannot be read, or has no answer for one of the requests.
    """
    do = "make it from a trusted archive and these requests: tsperf record-answers"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["answers"]
        answers = {name: _answer(entry) for name, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            wanted=f"expected answers in {path}", found=f"{type(error).__name__}: {error}", do=do
        ) from error
    missing = [sample.name for sample in samples if sample.name not in answers and sample.answer is None]
    if missing:
        raise InputError(
            wanted=f"an answer for each of {len(samples)} requests in {path}",
            found=f"none for {missing[0]}" + (f" and {len(missing) - 1} others" if len(missing) > 1 else ""),
            do=do,
        )
    return tuple(replace(sample, answer=answers.get(sample.name, sample.answer)) for sample in samples)


def _answer(entry: dict[str, Any]) -> Any:
    return base64.b64decode(entry["base64"]) if "base64" in entry else entry["json"]
