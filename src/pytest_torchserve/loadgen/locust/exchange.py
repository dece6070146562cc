"""The exchange of one request for a `Response` like that of the built-in client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import gevent
from geventhttpclient.response import HTTPParseError
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from pytest_torchserve.loadgen.connection import why_unconnected
from pytest_torchserve.loadgen.encoding import headers
from pytest_torchserve.loadgen.locust.client import STAMPS, LocustSession, Stamps
from pytest_torchserve.loadgen.response import Failure, Response, why_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from locust.contrib.fasthttp import ResponseContextManager
    from locust.event import EventHook

    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.model import Sample

_UNANSWERED = "the load was over before it was answered"


class _Times(NamedTuple):
    sample: Sample
    scheduled_ns: int
    begun_ns: int

    def response(
        self, stamps: Stamps, status: int, head: bytes, body: bytes, words: str | None, failure: Failure | None
    ) -> Response:
        """Return the response of a request that ends now.

        A request that was never written counts as sent at its end, as in the built-in client.
        """
        done_ns = time.monotonic_ns()
        sent_ns = stamps.sent_ns or done_ns
        return Response(*self, sent_ns, stamps.first_byte_ns, done_ns, status, head, body, words, failure)


class Destination:
    """A path of a server, and the samples to send there.

    Args:
        address: host, port, token, TLS or not.
        path: what to POST to.
        samples: sent in turn.
        timeout_s: after which a request is given up, counted from `Response.begun_ns`.
        request_event: Locust's request event.
    """

    def __init__(
        self,
        address: Address,
        path: str,
        samples: Sequence[Sample],
        timeout_s: float,
        request_event: EventHook,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._requests = [(sample, headers(address, sample)) for sample in samples]
        self._session = LocustSession(address, request_event, timeout_s)

    @property
    def session(self) -> LocustSession:
        """The Locust client."""
        return self._session

    def ask(self, index: int, scheduled_ns: int, report: Callable[[Response], None]) -> None:
        """Send the load's request number `index` and report its response, also when this greenlet is killed."""
        sample, sample_headers = self._requests[index % len(self._requests)]
        times = _Times(sample, scheduled_ns, time.monotonic_ns())
        stamps = Stamps()
        STAMPS.set(stamps)
        try:
            response = self._exchange(times, sample_headers, stamps)
        except gevent.GreenletExit:
            report(times.response(stamps, 0, b"", b"", _UNANSWERED, Failure.UNANSWERED))
            raise
        report(response)

    def _exchange(self, times: _Times, sample_headers: dict[str, str], stamps: Stamps) -> Response:
        with (
            gevent.Timeout(self._timeout_s),
            self._session.request(
                "POST",
                self._path,
                data=times.sample.body,  # type: ignore[arg-type]  # bytes are accepted too
                headers=sample_headers,
                stream=True,
                catch_response=True,
            ) as answer,
        ):
            body, error = _read(answer)
            status, head = 0 if error else answer.status_code, _head(answer)
            failure, words = self._judge(error, why_refused(status, head), stamps)
            response = times.response(stamps, status, head, body, words, failure)
            # Locust took the time at the headers and, with `_Agent`, treats no status as a failure.
            answer.request_meta["response_time"] = (response.done_ns - response.begun_ns) / 1e6
            answer.request_meta["response_length"] = len(body)
            if words is not None:
                answer.failure(words)
        return response

    def _judge(
        self, error: BaseException | None, refused: str | None, stamps: Stamps
    ) -> tuple[Failure, str] | tuple[None, None]:
        """Return the kind of failure and its words, as `connection.Connection` has them."""
        if error is None:
            return (None, None) if refused is None else (Failure.HTTP, refused)
        if isinstance(error, gevent.Timeout | TimeoutError):
            what = "no answer" if stamps.connected else f"{Failure.TIMEOUT}: no connection"
            return Failure.TIMEOUT, f"{what} within {self._timeout_s:g} s"
        if isinstance(error, HTTPParseError) and not stamps.ended:
            return Failure.MALFORMED, f"{Failure.MALFORMED}: {error!r}"
        if not stamps.connected:
            failure = why_unconnected(error) if isinstance(error, Exception) else Failure.NO_CONNECTION
        else:
            failure = Failure.TRUNCATED if stamps.first_byte_ns else Failure.RESET
        return failure, f"{failure}: {error}"

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


def _read(answer: ResponseContextManager) -> tuple[bytes, BaseException | None]:
    """Return the body and the error before or during reading, if any. geventhttpclient wraps time-outs."""
    error: BaseException | None = getattr(answer, "error", None)
    if error is not None:
        return b"", getattr(error, "original", None) or error
    try:
        return answer.read(), None
    except FAILURE_EXCEPTIONS as broken:
        return b"", broken


def _head(answer: ResponseContextManager) -> bytes:
    """Return status line and headers, put together again; headers of the same name stand together."""
    if not answer.status_code:
        return b""
    parsed = answer.stream
    lines = [f"{parsed.version} {parsed.status_code} {parsed.status_message or ''}"]
    lines += [f"{name}: {value}" for name, value in parsed.items()]
    return "\r\n".join(lines).encode("latin-1")
