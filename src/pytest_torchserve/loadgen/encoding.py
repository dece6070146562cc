"""The bytes of a prediction request: the same headers in the same order for every client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.model import Sample


def headers(address: Address, sample: Sample) -> dict[str, str]:
    """Return the headers of a request for one sample."""
    found = {
        "Host": address.authority,
        "Content-Type": sample.content_type,
        "Content-Length": str(len(sample.body)),
    }
    if address.key:
        found["Authorization"] = f"Bearer {address.key}"
    return {**found, **sample.headers}


def encode(address: Address, path: str, sample: Sample) -> bytes:
    """Return the whole request, ready to write."""
    lines = [f"{name}: {value}" for name, value in headers(address, sample).items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode("latin-1") + sample.body
