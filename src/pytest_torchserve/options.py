"""The option table, and what it says as one frozen `Config`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve import settings
from pytest_torchserve.config import Config
from pytest_torchserve.errors import OptionError
from pytest_torchserve.measure import Effort

if TYPE_CHECKING:
    import pytest

_QUICK = {
    "ts_processes": 1,
    "ts_batch_sizes": "1,16",
    "ts_init_rounds": 1,
    "ts_cell_seconds": 5.0,
    "ts_requests": 32,
}
_USUAL = {
    "ts_processes": 3,
    "ts_batch_sizes": "1,4,16",
    "ts_init_rounds": 3,
    "ts_cell_seconds": 20.0,
    "ts_requests": 100,
}

_PORTS = 1 << 16

# option, keywords for addoption; the defaults of _USUAL and _QUICK stand in the help.
_TABLE: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--ts-quick",
        {"action": "store_true", "help": "one process, batches 1 and 16, one init round, 5 s a cell"},
    ),
    (
        "--ts-data",
        {"metavar": "DIR", "help": "samples: DIR/cifar10/CLASS/*, DIR/imagenet/CLASS/* (or TS_DATA)"},
    ),
    (
        "--ts-weights",
        {
            "choices": ["auto", "pretrained", "seeded"],
            "default": "auto",
            "help": "auto: what is on disk, else seeded",
        },
    ),
    ("--ts-batch-sizes", {"metavar": "N,N", "help": "batch sizes of the handle cells (default 1,4,16)"}),
    (
        "--ts-processes",
        {"type": int, "metavar": "N", "help": "worker processes a handle cell samples (default 3)"},
    ),
    ("--ts-cell-seconds", {"type": float, "metavar": "S", "help": "budget of a handle cell (default 20)"}),
    (
        "--ts-init-rounds",
        {"type": int, "metavar": "N", "help": "workers started for an init cell (default 3)"},
    ),
    ("--ts-requests", {"type": int, "metavar": "N", "help": "requests of a pace cell, 10/s (default 100)"}),
    (
        "--ts-require-gpu",
        {"action": "store_true", "help": "a missing GPU fails the gpu tests instead of skipping"},
    ),
    ("--ts-keep", {"action": "store_true", "help": "keep the server's logs and temporary files"}),
    ("--ts-config", {"metavar": "FILE", "help": "a TorchServe config.properties, merged with ours"}),
    ("--ts-jvm-args", {"default": "", "metavar": "ARGS", "help": "arguments for TorchServe's JVM"}),
    (
        "--ts-worker-env",
        {
            "action": "append",
            "default": [],
            "metavar": "NAME=VALUE",
            "help": "a variable for the workers; repeatable",
        },
    ),
    ("--ts-inference-port", {"type": int, "default": 0, "metavar": "PORT", "help": "default: a free one"}),
    ("--ts-management-port", {"type": int, "default": 0, "metavar": "PORT", "help": "default: a free one"}),
    ("--ts-model-store", {"metavar": "DIR", "help": "where archives are made (default: model_store)"}),
    (
        "--ts-journal",
        {"metavar": "FILE", "help": "every run as a line of JSON (default: in .benchmarks/journal)"},
    ),
)


def add(parser: pytest.Parser) -> None:
    """Add the options to pytest's parser."""
    group = parser.getgroup("torchserve", "performance of models served with TorchServe")
    for name, keywords in _TABLE:
        group.addoption(name, **keywords)


def read(config: pytest.Config) -> Config:
    """The options as one value.

    Raises:
        OptionError: an option's value cannot be used.
    """
    usual = _QUICK if config.getoption("ts_quick") else _USUAL

    def value(name: str) -> Any:
        given = config.getoption(name)
        return usual[name] if given is None else given

    for name in ("ts_processes", "ts_init_rounds", "ts_cell_seconds", "ts_requests"):
        _positive("--" + name.replace("_", "-"), value(name))
    ports = [config.getoption(name) for name in ("ts_inference_port", "ts_management_port")]
    _ports(ports)
    data = config.getoption("ts_data") or os.environ.get("TS_DATA")
    if data and not Path(data).is_dir():
        raise OptionError(
            wanted=f"a folder of samples at {data} (--ts-data or TS_DATA)",
            found="no such folder",
            do="name a folder that holds cifar10/CLASS/IMAGE or imagenet/CLASS/IMAGE files, or leave the option out",
        )
    properties = config.getoption("ts_config")
    if properties:
        settings.read_properties(Path(properties))  # an unreadable file is a usage error, now
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    journal = (
        config.getoption("ts_journal") or config.rootpath / ".benchmarks" / "journal" / f"{stamp}-{os.getpid()}.jsonl"
    )
    return Config(
        weights=config.getoption("ts_weights"),
        data=Path(data).resolve() if data else None,
        batch_sizes=_batch_sizes(value("ts_batch_sizes")),
        effort=Effort(
            processes=value("ts_processes"),
            cell_seconds=value("ts_cell_seconds"),
            init_rounds=value("ts_init_rounds"),
            pace_requests=value("ts_requests"),
        ),
        server=settings.ServerSettings(
            config=Path(properties).resolve() if properties else None,
            jvm_args=config.getoption("ts_jvm_args"),
            worker_env=settings.parse_worker_env(config.getoption("ts_worker_env")),
            inference_port=config.getoption("ts_inference_port"),
            management_port=config.getoption("ts_management_port"),
        ),
        store=Path(config.getoption("ts_model_store") or config.rootpath / "model_store"),
        journal=Path(journal),
        keep=config.getoption("ts_keep"),
        require_gpu=config.getoption("ts_require_gpu"),
    )


def _ports(ports: list[int]) -> None:
    """Two different ports, or 0 for any."""
    explicit = [port for port in ports if port]
    if not all(0 < port < _PORTS for port in explicit) or len(set(explicit)) != len(explicit):
        raise OptionError(
            wanted=f"--ts-inference-port and --ts-management-port, two different ones from 1 to {_PORTS - 1}",
            found=" and ".join(map(str, ports)),
            do="give other numbers, or leave them out: free ports are then chosen",
        )


def _positive(option: str, number: float) -> None:
    if not number > 0:
        raise OptionError(wanted=f"{option} above 0", found=f"{number:g}", do="give a larger number")


def _batch_sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
        raise OptionError(
            wanted="--ts-batch-sizes as whole numbers from 1, each once, with commas between",
            found=repr(text),
            do="write for example --ts-batch-sizes=1,4,16",
        )
    return sizes
