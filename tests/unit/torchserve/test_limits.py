"""Errors of size name the setting that they are about."""

from __future__ import annotations

import pytest

from pytest_torchserve.torchserve.limits import explain

LOG = "CorruptedFrameException: Message size exceed limit: 7000045 Consider increasing the 'max_response_size'"


@pytest.mark.parametrize(
    ("errors", "log", "words"),
    [
        (["HTTP 413"], "", ["max_request_size"]),
        (["HTTP 500"], LOG, ["max_response_size"]),
        (["HTTP 413", "HTTP 500"], LOG, ["max_request_size", "max_response_size"]),
        (["HTTP 500"], "Worker died.", []),
        (["HTTP 503"], LOG, []),
        (["timed out"], LOG, ["--ts-response-timeout"]),
        ([], LOG, []),
    ],
)
def test_the_setting_is_named(errors, log, words):
    """A 413 is about requests; a worker that TorchServe ended is about answers only where its log says so."""
    found = explain(errors, log)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))
