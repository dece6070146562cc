"""One request's outcome."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_torchserve.model import Sample


class Failure(StrEnum):
    """The kinds of what can go wrong with a request; the words that go with it are in `Response.error`."""

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
"""After these an answer's head may not be whole."""


_OK, _REDIRECT, _CLIENT_ERROR = 200, 300, 400
_PLACE_LENGTH = 200


def parse_headers(head: bytes) -> dict[str, str]:
    """Return the headers of an answer's head, names in lower case."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    return {name.lower(): value.strip() for name, value in pairs}


def why_refused(status: int, head: bytes) -> str | None:
    """Return in words why a whole answer of this status is a failed request; None for a status of 200 to 299.

    A redirect is not followed, and its words say where it leads: a server that sends one wants another address, or a
    login, and the page there is no prediction.
    """
    if _OK <= status < _REDIRECT:
        return None
    place = parse_headers(head).get("location") if _REDIRECT <= status < _CLIENT_ERROR else None
    return f"HTTP {status} to {place[:_PLACE_LENGTH]}" if place else f"HTTP {status}"


class Response(NamedTuple):
    """What became of one request. A failure is data: `error` says what, and nothing is raised.

    A named tuple, and its headers unparsed: one is made for every request while others are waiting, and a
    hundred thousand are kept.

    Attributes:
        sample: what was sent.
        scheduled_ns: when it should have left; latency counts from here in an open loop.
        begun_ns: when the sender took it up; before it, the sender itself was late.
        sent_ns: when its bytes were written; a connection may have had to be opened first.
        first_byte_ns: when the first byte of the answer was seen; 0 where none was.
        done_ns: when the answer was complete, or the request was given up.
        status: the HTTP status; 0 where none came.
        head: the answer's status line and headers, as they came.
        body: the answer's body.
        error: what went wrong in words, or None. An answer whose status is not one of 200 to 299 is an error, too.
        failure: its kind, or None.

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

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, names in lower case; read anew at each call."""
        return parse_headers(self.head)

    @property
    def latency_s(self) -> float:
        """Seconds from when it should have left to the end of its answer."""
        return (self.done_ns - self.scheduled_ns) / 1e9

    @property
    def kind(self) -> str | None:
        """The failure as it is counted: an HTTP error with its status."""
        return f"HTTP {self.status}" if self.failure is Failure.HTTP else self.failure
