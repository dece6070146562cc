"""The other clients: the command that runs each, the parser of its report, and where to get it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clients.ours import cpu_s
from pytest_torchserve.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_torchserve.loadgen.address import Address
    from pytest_torchserve.model import Sample

_HERE = Path(__file__).parent
_GRACE_S = 60
_MORE_THAN_ANY = 1_000_000
_LUA = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "{content_type}"
wrk.headers["Authorization"] = "Bearer {key}"
file:close()
"""


@dataclass(frozen=True, slots=True)
class Target:
    """The request that every client sends, in the forms that the clients need."""

    address: Address
    path: str
    content_type: str
    body: Path
    lua: Path

    @classmethod
    def write(cls, folder: Path, address: Address, path: str, sample: Sample) -> Target:
        """Write the body and wrk's script as files in `folder`."""
        body, lua = folder / "body", folder / "post.lua"
        body.write_bytes(sample.body)
        lua.write_text(_LUA.format(body=body, content_type=sample.content_type, key=address.key), encoding="utf-8")
        return cls(address, path, sample.content_type, body, lua)

    @property
    def url(self) -> str:
        """The URL to POST to."""
        return self.address.url + self.path

    @property
    def authorization(self) -> str:
        """The authorization header as `ab` and `hey` take it."""
        return f"Authorization: Bearer {self.address.key}"

    def environment(self) -> dict[str, str]:
        """Return the environment for the clients that are programs in this folder."""
        told = {"PATH": self.path, "BODY": str(self.body), "KEY": self.address.key, "TYPE": self.content_type}
        return {**os.environ, **{f"BENCH_{name}": value for name, value in told.items()}}


class Report(NamedTuple):
    """The figures that a client reports of its run.

    `refused` counts responses other than 200 and requests without a response. `cpu_s` is the processor time of sending;
    None where the client does not report it: then the time of its whole process counts, the start included.
    """

    per_s: float
    requests: int
    refused: int
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """A client other than ours: a Python module where `module` is set, else a program on PATH."""

    name: str
    get_it: str
    command: Callable[[Target, int, int], list[str]]
    read: Callable[[str], Report]
    module: bool = False

    def present(self) -> bool:
        """Return whether the client is installed."""
        return bool(importlib.util.find_spec(self.name) if self.module else shutil.which(self.name))

    def version(self) -> str | None:
        """Return the client's version, as the client prints it; hey and the raw socket have none."""
        if self.module:
            return metadata.version(self.name)
        flag = {"wrk": "-v", "ab": "-V"}.get(self.name)
        if flag is None:
            return None
        told = subprocess.run([self.name, flag], capture_output=True, text=True, check=False)
        return (told.stdout or told.stderr).splitlines()[0]


def run(client: Client, target: Target, connections: int, duration_s: int) -> dict[str, float]:
    """Run a client once; return its figures.

    Raises:
        MeasurementError: the run failed, or not every response was a 200.
    """
    before_s = cpu_s(resource.RUSAGE_CHILDREN)
    ended = _ended(client, client.command(target, connections, duration_s), target, duration_s + _GRACE_S)
    used_s = cpu_s(resource.RUSAGE_CHILDREN) - before_s
    told = f"{ended.stdout[-1500:]}\n{ended.stderr[-1500:]}".strip()
    try:
        report = client.read(ended.stdout)
    except (ValueError, KeyError, IndexError) as error:
        raise _failed(
            client, f"exit code {ended.returncode}, a report that cannot be read ({error!r}): {told}"
        ) from error
    if ended.returncode or report.refused or not report.requests:
        raise _failed(client, f"exit code {ended.returncode}, {report}: {told}")
    cpu_us = (used_s if report.cpu_s is None else report.cpu_s) / report.requests * 1e6
    return {"per_s": report.per_s, "requests": report.requests, "cpu_us": cpu_us}


def _ended(client: Client, command: list[str], target: Target, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run the command of a client to its end; return the finished process."""
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        return subprocess.run(command, **streams, check=False, env=target.environment(), timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise _failed(client, f"no end after {timeout_s:.0f} s: {error.stdout!r}") from error


def _failed(client: Client, found: str) -> MeasurementError:
    return MeasurementError(
        wanted=f"a run of {client.name} with nothing but answers of 200",
        found=found,
        do="see what the client says; leave it off PATH to measure without it",
    )


def _number(pattern: str, text: str, default: float | None = None) -> float:
    """Return the number in the pattern's group, or the default; raise ValueError where there is neither."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is not None:
        return float(found[1])
    if default is None:
        raise ValueError(pattern)
    return default


def _wrk(target: Target, connections: int, duration_s: int) -> list[str]:
    return ["wrk", "-t1", f"-c{connections}", f"-d{duration_s}s", "-s", str(target.lua), target.url]


def _read_wrk(text: str) -> Report:
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = _number(r"Non-2xx or 3xx responses: (\d+)", text, 0) + sum(map(int, errors.groups() if errors else ()))
    return Report(_number(r"^Requests/sec:\s+([\d.]+)", text), int(_number(r"(\d+) requests in", text)), int(refused))


def _ab(target: Target, connections: int, duration_s: int) -> list[str]:
    # -n after -t, which also means 50,000 requests. -l: a head may differ in length from the first head.
    command = ["ab", "-k", "-l", "-c", str(connections), "-t", str(duration_s), "-n", str(_MORE_THAN_ANY)]
    return [*command, "-p", str(target.body), "-T", target.content_type, "-H", target.authorization, target.url]


def _read_ab(text: str) -> Report:
    requests = int(_number(r"^Complete requests:\s+(\d+)", text))
    # A client that opens a new connection for each request cannot be compared with the others.
    reconnected = requests - int(_number(r"^Keep-Alive requests:\s+(\d+)", text))
    refused = int(_number(r"^Failed requests:\s+(\d+)", text) + _number(r"^Non-2xx responses:\s+(\d+)", text, 0))
    return Report(_number(r"^Requests per second:\s+([\d.]+)", text), requests, refused + reconnected)


def _hey(target: Target, connections: int, duration_s: int) -> list[str]:
    command = ["hey", "-c", str(connections), "-z", f"{duration_s}s", "-m", "POST", "-D", str(target.body)]
    # No other client requests compressed responses.
    command += ["-disable-compression", "-T", target.content_type, "-H", target.authorization]
    return [*command, target.url]


def _read_hey(text: str) -> Report:
    by_status = {status: int(count) for status, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", text)}
    _, _, errors = text.partition("Error distribution:")
    refused = sum(by_status.values()) - by_status.get("200", 0) + sum(map(int, re.findall(r"\[(\d+)\]\t", errors)))
    return Report(_number(r"Requests/sec:\s+([\d.]+)", text), by_status.get("200", 0), refused)


def _locust(target: Target, connections: int, duration_s: int) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(_HERE / "locustfile.py"), "--headless", "--only-summary"]
    # Locust's run time begins with its imports, which take most of a second: hence one second more.
    command += ["-u", str(connections), "-r", str(connections), "-t", f"{duration_s + 1}s", "-H", target.address.url]
    return [*command, "--json", "--loglevel", "ERROR"]


def _read_locust(text: str) -> Report:
    (entry,) = json.loads(text)
    counted, refused = entry["num_requests"], entry["num_failures"]
    return Report(counted / (entry["last_request_timestamp"] - entry["start_time"]), counted, refused)


def _requests(target: Target, connections: int, duration_s: int) -> list[str]:
    shorter_s = max(1, duration_s - 1)  # the result is far from a tie: a shorter run is enough
    return [sys.executable, str(_HERE / "with_requests.py"), target.url, str(connections), str(shorter_s)]


def _raw_socket(target: Target, connections: int, duration_s: int) -> list[str]:
    return [sys.executable, str(_HERE / "raw_socket.py"), target.url, str(connections), str(duration_s)]


def _read_json(text: str) -> Report:
    return Report(**json.loads(text))


CLIENTS = (
    Client("wrk", "apt install wrk", _wrk, _read_wrk),
    Client("ab", "apt install apache2-utils", _ab, _read_ab),
    Client("hey", "apt install hey, or go install github.com/rakyll/hey@latest", _hey, _read_hey),
    Client("locust", "pip install locust", _locust, _read_locust, module=True),
    Client("requests", "pip install requests", _requests, _read_json, module=True),
)

RAW_SOCKET = Client("raw socket", "", _raw_socket, _read_json)
"""No competitor, but the upper limit of a client in Python."""
