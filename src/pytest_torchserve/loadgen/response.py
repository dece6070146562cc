"""The outcome of a request."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_torchserve.model import Sample


class Failure(StrEnum):
    """The kinds of failure of a request; `Response.error` describes the failure in words."""

    UNRESOLVED = "name not resolved"
    REFUSED = "connection refused"
    NO_CONNECTION = "no connection"
    TLS = "TLS handshake failed"
    RESET = "connection lost"
    TRUNCATED = "answer cut short"
    MALFORMED = "not HTTP"
    TIMEOUT = "timed out"
    UNANSWERED = "unanswered at the end"
    HTTP = "HTTP error"


CUT = (Failure.TRUNCATED, Failure.MALFORMED, Failure.TIMEOUT)
"""Failures after which the head of a response may be incomplete."""


_OK, _REDIRECT, _CLIENT_ERROR = 200, 300, 400
_PLACE_LENGTH = 200


def parse_headers(head: bytes) -> dict[str, str]:
    """Return the headers in a response's head, names in lower case."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    return {name.lower(): value.strip() for name, value in pairs}


def why_refused(status: int, head: bytes) -> str | None:
    """Return in words why a complete response of this status is a failed request; None for a status of 200 to 299.

    A redirect is not followed, and its words name the target: the server expects another address, or a login, and
    the page at the target is no prediction.
    """
    if _OK <= status < _REDIRECT:
        return None
    place = parse_headers(head).get("location") if _REDIRECT <= status < _CLIENT_ERROR else None
    return f"HTTP {status} to {place[:_PLACE_LENGTH]}" if place else f"HTTP {status}"


class Response(NamedTuple):
    """The outcome of one request. A failure is data: `error` describes the failure, and nothing is raised.

    A named tuple with unparsed headers saves time and memory: a response is made for every request while other
    requests are waiting, and a hundred thousand responses are kept.

    Attributes:
        sample: the sample that was sent.
        scheduled_ns: when the request should have left; latency counts from here in an open loop.
        begun_ns: when the client took up the request; a delay before this time is the client's own.
        sent_ns: when the write of the request's bytes began; a connection may have had to be opened first.
        first_byte_ns: when the first byte of the response was seen; 0 where none was.
        done_ns: when the response was complete, or the request was given up.
        status: the HTTP status; 0 where none came.
        head: the response's status line and headers, as received.
        body: the response's body.
        error: the failure in words, or None. A status outside 200 to 299 is an error, too.
        failure: the kind of failure, or None.
        arrived_ns: when this machine's kernel had the last byte of the response; 0 where nobody knows.

    All times are `CLOCK_MONOTONIC` nanoseconds, the clock that the probe uses on the same host.
    """

    sample: Sample
    scheduled_ns: int
    begun_ns: int
    sent_ns: int
    first_byte_ns: int
    done_ns: int
    status: int
    head: bytes
    body: bytes
    error: str | None = None
    failure: Failure | None = None
    arrived_ns: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, names in lower case; parsed anew at each access."""
        return parse_headers(self.head)

    @property
    def latency_s(self) -> float:
        """Seconds from when the request should have left to the end of its response."""
        return (self.done_ns - self.scheduled_ns) / 1e9

    @property
    def kind(self) -> str | None:
        """The name under which the failure is counted: for an HTTP error, its status."""
        return f"HTTP {self.status}" if self.failure is Failure.HTTP else self.failure
