"""A TorchServe that the suite starts on loopback in its own folder, and stops with everything it started."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve._util import mask
from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.errors import ServerDiedError, ServerError, WorkerStartError
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.frontend_times import FrontendTimes
from pytest_torchserve.torchserve import process, properties, request_log, settings
from pytest_torchserve.torchserve.management import Management

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from pytest_torchserve.torchserve.java import Java

START_TIMEOUT_S = 120.0
KEY_FILE = "key_file.json"  # where TorchServe writes its tokens
_ATTEMPTS = 3
_TAIL_LINES = 60
_FRONTEND_TIMES_S = 2.0


class Server:
    """An owned TorchServe: `start`, then `address` and `management`; `stop` at the end.

    Args:
        python: the interpreter whose TorchServe is started; None for this process's own.

    Attributes:
        java: the Java that the server runs on.
        python: the interpreter whose TorchServe runs.
        store: the server's model store.
        unable: archives of which a worker could not start, and why.
        overridden: the user's properties and worker variables that the suite's own replaced, each with the reason.
        unmeasured: what cannot be measured with the user's properties, in words.
        settings: the settings that the server was started with, by name; empty before `start`.
        wanted: the user's settings.
    """

    def __init__(self, java: Java, store: Path, wanted: settings.ServerSettings, *, python: Path | None = None) -> None:
        self.java = java
        self.store = store.resolve()
        self.unable: dict[Path, WorkerStartError] = {}
        self.overridden: dict[str, str] = {}
        self.unmeasured: list[str] = []
        self.settings: dict[str, str] = {}
        self.wanted = wanted
        self.python = Path(python or sys.executable)
        self._process = process.SupervisedProcess()
        self.address = Address(properties.HOST, 0)
        self.management = Management("")

    @property
    def folder(self) -> Path:
        """The server's temporary directory: logs, keys, sockets, unpacked models."""
        return self._process.folder

    @property
    def pid(self) -> int:
        """The process id of the launcher, whose process group is the whole server."""
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it is healthy.

        Another process may take a free port before TorchServe binds it; then other ports are tried, but never
        instead of an explicit port.

        Raises:
            PortTakenError: an explicit port is in use.
            ServerError: the server ended, or was not healthy in time; the message holds the end of its log.
        """
        process.remove_stale_folders()
        self.store.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            ports = settings.choose_ports(
                {
                    "inference_address": self.wanted.inference_port,
                    "management_address": self.wanted.management_port,
                }
            )
            self._launch(ports)
            wait_until(functools.partial(self._settled, ports), timeout_s=START_TIMEOUT_S)
            if self._healthy(ports):
                break
            tail, code = self.log_tail(), self._process.exit_code()
            if attempt < _ATTEMPTS and re.search(r"BindException|Address already in use", tail):
                self._process.stop()
                self._process = process.SupervisedProcess()
                continue
            self._process.keep()
            raise ServerError(
                wanted=f"a healthy TorchServe within {START_TIMEOUT_S:.0f} s",
                found=(f"it ended with exit code {code}" if code is not None else "it does not answer /ping")
                + f"; the end of its log:\n{tail}",
                do=f"read the logs in {self.folder}; --ts-config, --ts-jvm-args and --ts-worker-env change it",
            )
        keys = self._keys()
        self.address = Address(properties.HOST, ports["inference_address"], keys["inference"])
        self.management = Management(Address(properties.HOST, ports["management_address"]).url, keys["management"])

    def _launch(self, ports: dict[str, int]) -> None:
        folder = self.folder
        logs = folder / "logs"
        logs.mkdir()
        wanted = self.wanted
        merged, self.overridden = properties.merged(wanted.config, wanted.jvm_args, ports, self.store)
        self.settings = merged
        self.unmeasured = properties.unmeasured(merged)
        config = folder / "config.properties"
        config.write_text(properties.as_text(merged), encoding="utf-8")
        # The supervisor, which outlives this process, removes the server's secrets from a folder that stays.
        kept = {config.name: properties.as_text(mask.values(merged)), KEY_FILE: None}
        log_config = folder / "log4j2.xml"
        log_config.write_text(settings.log_config(logs), encoding="utf-8")
        command = [
            str(self.python),
            "-m",
            "ts.model_server",
            "--start",
            "--foreground",
            "--ncs",
            "--enable-model-api",
        ]
        command += [
            "--model-store",
            str(self.store),
            "--ts-config",
            str(config),
            "--log-config",
            str(log_config),
        ]
        self._process.start(command, self._environment(logs), kept)

    def _environment(self, logs: Path) -> dict[str, str]:
        """Return the server's environment.

        The suite's variables replace the user's where isolation needs it; `overridden` names them.
        """
        env = {name: value for name, value in os.environ.items() if name != "TS_CONFIG_FILE"}
        wanted = dict(self.wanted.worker_env)
        if "PYTHONPATH" in wanted and env.get("PYTHONPATH"):
            wanted["PYTHONPATH"] += os.pathsep + env["PYTHONPATH"]  # before, not instead of, what is there
        ours = {
            "TMPDIR": str(self.folder),
            "TEMP": str(self.folder),
            "LOG_LOCATION": str(logs),
            "METRICS_LOCATION": str(logs),
            "JAVA_HOME": str(self.java.home),
        }
        # TorchServe runs `python` and `torchrun` from PATH: those of the environment that serves.
        env["PATH"] = os.pathsep.join([str(self.python.parent), env.get("PATH", os.defpath)])
        self.overridden |= dict.fromkeys(sorted(set(wanted) & set(ours)), "a folder of this server's own")
        return env | wanted | ours

    def _settled(self, ports: dict[str, int]) -> bool:
        return self._process.exit_code() is not None or self._healthy(ports)

    def _healthy(self, ports: dict[str, int]) -> bool:
        """Return whether inference and management both answer with the server's tokens. `/ping` needs one, too."""
        import requests  # noqa: PLC0415 - 0.1 s, not to be paid when tests are only collected

        try:
            keys = self._keys()
            with requests.Session() as session:
                session.trust_env = False
                for name, path, key in (
                    ("management_address", "/models", keys["management"]),
                    ("inference_address", "/ping", keys["inference"]),
                ):
                    url = Address(properties.HOST, ports[name]).url + path
                    if not session.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=5).ok:
                        return False
        except (
            OSError,
            ValueError,
            KeyError,
        ):  # RequestException is an OSError; the key file may be half written
            return False
        return True

    def _keys(self) -> dict[str, str]:
        """Return the tokens that the server wrote into its working directory."""
        written = json.loads((self.folder / KEY_FILE).read_text(encoding="utf-8"))
        return {name: entry["key"] for name, entry in written.items()}

    def differences(self, candidate: Server) -> list[str]:
        """Return in words the settings that differ between this server, a baseline's, and the candidate's.

        Ports and files that are each server's own are left out.
        """
        ours = (*properties.PORTS, *properties.GRPC_PORTS)
        mine, theirs = (
            {
                key: properties.content_of(key, value, server.folder) or mask.value(key, value)
                for key, value in server.settings.items()
                if key not in ours
            }
            for server in (self, candidate)
        )
        keys = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        words = [f"{key}: {mine.get(key, 'unset')} → {theirs.get(key, 'unset')}" for key in keys]
        return [f"settings, baseline → candidate: {'; '.join(words)}"] if words else []

    def notes(self) -> list[str]:
        """Return in words which settings of the user's are overridden, by reason, and what cannot be measured."""
        names: dict[str, list[str]] = {}
        for name, why in self.overridden.items():
            names.setdefault(why, []).append(name)
        return [f"overridden: {', '.join(found)}: {why}" for why, found in names.items()] + self.unmeasured

    def alive(self) -> bool:
        """Return whether the server's process still runs."""
        return self._process.exit_code() is None

    def why_died(self, timeout_s: float = 0.0) -> ServerDiedError | None:
        """Return why the server has ended by itself, with the end of its log; None while it runs.

        Args:
            timeout_s: how long to wait for its end, which follows that of the JVM at once.
        """
        if not wait_until(lambda: not self.alive(), timeout_s=timeout_s):
            return None
        code = self._process.exit_code()
        return ServerDiedError(
            wanted="a TorchServe that runs until its last cell has been measured",
            found=f"it ended by itself, its launcher with exit code {code}; the end of its log:\n{self.log_tail()}",
            do=f"read the logs in {self.folder}; where the kernel ended it for want of memory, `dmesg` says so",
        )

    def keep(self) -> None:
        """Leave the folder behind when the server stops."""
        self._process.keep()

    def stop(self) -> None:
        """End the server and everything it started."""
        self.management.close()
        self._process.stop()

    def request_log_size(self) -> int:
        """Return the size of the frontend's request log in bytes."""
        return _size(self.folder / "logs" / request_log.FILE)

    def frontend_times(self, start: int, wanted: AbstractSet[str]) -> dict[str, FrontendTimes]:
        """Return the frontend's times by request id, from byte `start` of the request log on.

        Args:
            wanted: the ids to wait for, though not for long: the last line about a request is written after the
                response has left.
        """
        path, found = self.folder / "logs" / request_log.FILE, dict[str, FrontendTimes]()

        def whole() -> bool:
            found.update(request_log.read(path, start))
            return wanted <= found.keys()

        wait_until(whole, timeout_s=_FRONTEND_TIMES_S)
        return found

    def frontend_log(self, start: int = 0) -> str:
        """Return the frontend's log, from byte `start` on."""
        return _read(self.folder / "logs" / "ts_log.log", start)

    def frontend_log_size(self) -> int:
        """Return the size of the frontend's log, in bytes."""
        return _size(self.folder / "logs" / "ts_log.log")

    def model_log(self, start: int = 0) -> str:
        """Return the workers' output, from byte `start` on."""
        return _read(self.folder / "logs" / "model_log.log", start)

    def model_log_size(self) -> int:
        """Return the size of the workers' output in bytes."""
        return _size(self.folder / "logs" / "model_log.log")

    def log_tail(self) -> str:
        """Return the last lines of each log: the launcher's and JVM's, the frontend's, the workers'."""
        names = ("console.log", "logs/ts_log.log", "logs/model_log.log")
        parts = [(name, mask.echoes(_read(self.folder / name)).splitlines()[-_TAIL_LINES:]) for name in names]
        return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in parts if lines)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path, start: int = 0) -> str:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
