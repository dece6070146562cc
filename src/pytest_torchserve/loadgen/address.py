"""The address that prediction requests are sent to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from pytest_torchserve._util import mask
from pytest_torchserve.errors import OptionError

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A server's host and port, its access token ('' for none), and whether it uses TLS."""

    host: str
    port: int
    key: str = ""
    tls: bool = False

    @classmethod
    def parse(cls, url: str, key: str = "") -> Self:
        """Read `http://host:port` or `https://host`.

        Raises:
            OptionError: `url` is not such a URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise OptionError(
                wanted="a server's address, http://HOST:PORT or https://HOST:PORT",
                found=repr(mask.inside(url)),
                do="give scheme, host and port, and no path",
            )
        return cls(parts.hostname, port or _DEFAULT_PORTS[parts.scheme], key, tls=parts.scheme == "https")

    @property
    def url(self) -> str:
        """The address as a URL, without the key."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as in a Host header; an IPv6 address stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
