"""The management API's client, against a fake HTTP server on loopback."""

from __future__ import annotations

import pytest

from fakes import http
from pytest_torchserve.deployment import Batching
from pytest_torchserve.errors import ManagementError
from pytest_torchserve.torchserve.management import Management


@pytest.fixture
def answering(server):
    """`answering(status, headers, body)` starts a server that answers so; returns a client and the server."""
    clients = []

    def start(status, headers, body):
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        fake = server(lambda request: http(body, f"{status} Whatever", extra))
        clients.append(Management(fake.address.url, "secret"))
        return clients[-1], fake

    yield start
    for client in clients:
        client.close()


def asked(fake):
    """Return the method and the path of each request that came."""
    return [(line.split()[0], line.split()[1].partition("?")[0]) for line in (r.line for r in fake.requests)]


CALLS = {
    ("POST", "/models"): lambda client: client.register("m", "m.mar", Batching()),
    ("PUT", "/models/m"): lambda client: client.scale("m", 1, timeout_s=5),
    ("GET", "/models/m"): lambda client: client.describe("m"),
    ("DELETE", "/models/m"): lambda client: client.unregister("m"),
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
@pytest.mark.parametrize(
    ("status", "place"), [(302, "https://login.example/"), (307, "/models"), (308, "http://127.0.0.1:1/models")]
)
def test_a_redirect_is_not_followed(answering, call, status, place):
    """A redirect is a failed request and its error says where the redirect leads."""
    client, fake = answering(status, {"Location": place}, "[{}]")
    with pytest.raises(ManagementError, match=f"found: HTTP {status} to {place}\n") as caught:
        CALLS[call](client)
    assert caught.value.status == status
    assert client.url in caught.value.do
    assert asked(fake) == [call]


@pytest.mark.parametrize(("status", "body"), [(304, ""), (300, "[{}]"), (404, '{"message": "Model not found: m"}')])
def test_any_other_status_is_an_error_too(answering, status, body):
    """Any other status is an error, with the server's own words if there are any."""
    client, _ = answering(status, {}, body)
    with pytest.raises(ManagementError, match=f"found: HTTP {status}: ") as caught:
        client.describe("m")
    assert ("Model not found: m" in caught.value.found) is (status == 404)


def test_a_page_is_no_answer(answering):
    """A login page with status 200 is reported as a page and no JSON."""
    client, _ = answering(200, {"Content-Type": "text/html"}, "<!doctype html><title>Log in</title>")
    with pytest.raises(ManagementError, match=r"HTTP 200 and no JSON: '<!doctype html>"):
        client.describe("m")


def test_what_it_says_is_returned(answering):
    """A description of a model is returned as the server gives it."""
    client, _ = answering(200, {}, '[{"batchSize": 4}]')
    assert client.describe("m") == {"batchSize": 4}
