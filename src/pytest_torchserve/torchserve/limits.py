"""TorchServe's limits of size: which setting an error is about, where TorchServe's answer does not name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_torchserve.loadgen.response import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

_REQUEST = "a request was larger than max_request_size (6553500 bytes where --ts-config sets no other)"
_RESPONSE = (
    "an answer was larger than max_response_size (6553500 bytes where --ts-config sets no other), and TorchServe ended "
    "the worker"
)
_TIMEOUT = "requests were given up without an answer: --ts-response-timeout=SECONDS waits longer"


def explain(errors: Iterable[str], log: str) -> list[str]:
    """Return the settings that failed requests are about, in words.

    Args:
        errors: the kinds of failed requests, such as `HTTP 413` or `timed out`.
        log: the frontend's log.
    """
    kinds = set(errors)
    found = [_REQUEST] if "HTTP 413" in kinds else []
    found += [_TIMEOUT] if Failure.TIMEOUT in kinds else []
    # The client is told "Worker died."; only the frontend's log names the setting.
    return found + ([_RESPONSE] if "HTTP 500" in kinds and "max_response_size" in log else [])
