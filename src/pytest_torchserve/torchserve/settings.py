"""The server's settings: the suite's, the user's, and those of the suite's that take precedence."""

from __future__ import annotations

import contextlib
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_torchserve._util import mask
from pytest_torchserve.errors import OptionError, PortTakenError
from pytest_torchserve.torchserve import properties, request_log
from pytest_torchserve.torchserve.properties import GRPC_PORTS, HOST, PORTS, read
from pytest_torchserve.torchserve.timeouts import WantedTimeouts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LOG_CONFIG = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration shutdownHook="disable">
  <Appenders>
    <File name="model_log" fileName="{logs}/model_log.log"><PatternLayout pattern="%d{{ISO8601}} %t %m%n"/></File>
    <File name="ts_log" fileName="{logs}/ts_log.log"><PatternLayout pattern="%d{{ISO8601}} [%-5p] %t %c - %m%n"/></File>
    <File name="requests" fileName="{logs}/{file}">
      <RegexFilter regex="{wanted}" onMatch="ACCEPT" onMismatch="DENY"/><PatternLayout pattern="{pattern}"/>
    </File>
  </Appenders>
  <Loggers>
    <!-- INFO: a worker's traceback comes through this logger at that level -->
    <Logger name="MODEL_LOG" level="info" additivity="false"><AppenderRef ref="model_log"/></Logger>
    <!-- a request's way through the frontend: see request_log -->
    <Logger name="TS_METRICS" level="info" additivity="false"><AppenderRef ref="requests"/></Logger>
    <Logger name="org.pytorch.serve.wlm.BatchAggregator" level="info" additivity="false">
      <AppenderRef ref="requests"/><AppenderRef ref="ts_log" level="warn"/>
    </Logger>
    <Logger name="org.pytorch.serve.wlm.Model" level="trace" additivity="false">
      <AppenderRef ref="requests"/><AppenderRef ref="ts_log" level="warn"/>
    </Logger>
    <Logger name="io.netty" level="error"/>
    <Root level="warn"><AppenderRef ref="ts_log"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The server settings that the user can give.

    Attributes:
        config: a TorchServe config.properties whose lines are merged with the suite's.
        jvm_args: arguments for the frontend's JVM.
        worker_env: environment variables for the workers. The whole server has them, the JVM included.
        inference_port, management_port: explicit ports; 0 lets the operating system choose.
        response_timeout_s: how long TorchServe waits for a worker's answer, and a sender for TorchServe's; None for the
            time-out of the archive or of `config`.
        startup_timeout_s: how long TorchServe waits until a worker is ready; None likewise.
    """

    config: Path | None = None
    jvm_args: str = ""
    worker_env: Mapping[str, str] = field(default_factory=dict, repr=False)  # a traceback may show this object
    inference_port: int = 0
    management_port: int = 0
    response_timeout_s: float | None = None
    startup_timeout_s: float | None = None

    @property
    def timeouts(self) -> WantedTimeouts:
        """The time-outs that the user asks for."""
        properties = read(self.config) if self.config else {}
        return WantedTimeouts.of(self.response_timeout_s, self.startup_timeout_s, properties)

    def record(self) -> dict[str, object]:
        """Return the settings for `machine_info`, which decide whether two runs are alike; secrets are masked."""
        return {
            "config": self._config_record() if self.config else {},
            "jvm_args": mask.inside(self.jvm_args),
            "worker_env": mask.values(self.worker_env),
        }

    def _config_record(self) -> dict[str, str]:
        """Return the config's settings; a file of settings is recorded by its content, wherever it lies."""
        assert self.config is not None  # noqa: S101 - the caller has checked
        found = mask.values(read(self.config))
        return {name: properties.content_of(name, value, self.config.parent) or value for name, value in found.items()}


def parse_worker_env(pairs: list[str]) -> dict[str, str]:
    """Return `["NAME=VALUE", …]` as a mapping."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise OptionError(
                wanted="--ts-worker-env NAME=VALUE",
                found=repr(mask.pair(pair)),
                do="write the variable's name, an equals sign and its value, as in OMP_NUM_THREADS=1",
            )
        found[name] = value
    return found


def _holder(port: int) -> str:
    """Return the process that listens on a port, in words for the error message."""
    import psutil  # noqa: PLC0415 - for a message only

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return f"process {connection.pid}"
    return "another process"


def choose_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Choose a free port for each of the server's listeners; keep the ports of `wanted` that are not 0.

    All sockets are held open until the last is bound, so that no port is given out twice.

    Raises:
        PortTakenError: an explicitly wanted port is in use.
    """
    chosen = {}
    with contextlib.ExitStack() as held:
        for name in (*PORTS, *GRPC_PORTS):
            port = wanted.get(name, 0)
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError as error:
                raise PortTakenError(
                    wanted=f"port {port} on {HOST} for TorchServe's {name}",
                    found=f"{error.strerror or error}; held by {_holder(port)}",
                    do="stop that process, name another port, or leave the option out: a free port is then chosen",
                ) from error
            chosen[name] = listener.getsockname()[1]
    return chosen


def log_config(logs: Path) -> str:
    """Return a lean log4j2 configuration that writes files under `logs` and nothing to the console."""
    return _LOG_CONFIG.format(logs=logs, file=request_log.FILE, wanted=request_log.WANTED, pattern=request_log.PATTERN)
