"""A client of TorchServe's management API, as far as the suite needs it, over `requests`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pytest_torchserve.errors import ManagementError

if TYPE_CHECKING:
    import requests

    from pytest_torchserve.deployment import Batching

_TIMEOUT_S = 30.0
_OK = range(200, 300)
_WORDS = 500


class Management:
    """A client of one server's management API.

    Args:
        url: the API's address, `http://host:port`.
        key: the management token; '' for a server without token authorisation.
    """

    def __init__(self, url: str, key: str = "") -> None:
        import requests  # noqa: PLC0415 - 0.1 s, not to be paid when tests are only collected

        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # loopback must not go through a proxy from the environment
        self._session.verify = os.environ.get("SSL_CERT_FILE") or True
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def _call(self, method: str, path: str, *, doing: str, timeout_s: float = _TIMEOUT_S, **params: object) -> Any:
        import requests  # noqa: PLC0415 - as above

        query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
        try:
            answer = self._session.request(
                method,
                self.url + path,
                params=query,  # type: ignore[arg-type]
                timeout=timeout_s,
                allow_redirects=False,  # a POST would become a GET of another page
            )
        except requests.RequestException as error:
            raise ManagementError(
                0,
                wanted=doing,
                found=f"{type(error).__name__}: {error}",
                do="see whether the server still runs and what its log says",
            ) from error
        if answer.is_redirect:
            raise ManagementError(
                answer.status_code,
                wanted=doing,
                found=f"HTTP {answer.status_code} to {answer.headers['location'][:_WORDS]}",
                do=f"name the management API's own address: {self.url} leads elsewhere, or wants a login",
            )
        if answer.status_code not in _OK:
            raise ManagementError(
                answer.status_code,
                wanted=doing,
                found=_message(answer),
                do="mend what the server says is wrong",
            )
        try:
            return answer.json()
        except ValueError as error:
            raise ManagementError(
                answer.status_code,
                wanted=doing,
                found=f"HTTP {answer.status_code} and no JSON: {answer.text[:_WORDS]!r}",
                do=f"name the management API's own address: at {self.url} something else answers",
            ) from error

    def register(self, name: str, url: str, batching: Batching) -> None:
        """Register an archive without workers. Its own config says how long to wait for them."""
        self._call(
            "POST",
            "/models",
            doing=f"registering {url} as {name}",
            timeout_s=300,
            url=url,
            model_name=name,
            batch_size=batching.batch_size,
            max_batch_delay=batching.max_batch_delay_ms,
            initial_workers=0,
            synchronous=True,
        )

    def scale(self, name: str, workers: int, *, timeout_s: float) -> None:
        """Scale the model to exactly this many workers, and return when it has them."""
        self._call(
            "PUT",
            f"/models/{quote(name)}",
            doing=f"scaling {name} to {workers} workers",
            timeout_s=timeout_s,
            min_worker=workers,
            max_worker=workers,
            synchronous=True,
        )

    def describe(self, name: str) -> dict[str, Any]:
        """Return the server's description of a model: its settings and its `workers`."""
        described: dict[str, Any] = self._call("GET", f"/models/{quote(name)}", doing=f"describing {name}")[0]
        return described

    def unregister(self, name: str) -> None:
        """Remove a model and end its workers."""
        self._call("DELETE", f"/models/{quote(name)}", doing=f"unregistering {name}")

    def models(self) -> list[str]:
        """Return the names of the registered models."""
        listed = self._call("GET", "/models", doing="listing models", limit=1000)
        return [entry["modelName"] for entry in listed["models"]]

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _message(answer: requests.Response) -> str:
    """Return the HTTP status and the server's own message."""
    try:
        words = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        words = answer.text[:_WORDS]
    return f"HTTP {answer.status_code}: {words}"
