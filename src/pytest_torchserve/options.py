"""The option table, and what it says as one frozen `Config`."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve import load, settings
from pytest_torchserve.address import Address
from pytest_torchserve.config import PACE_PER_S, Attach, Config, Engine
from pytest_torchserve.deployment import Batching
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
    "ts_load_seconds": 5.0,
    "ts_capacity_seconds": 8.0,
}
_USUAL = {
    "ts_processes": 3,
    "ts_batch_sizes": "1,4,16",
    "ts_init_rounds": 3,
    "ts_cell_seconds": 20.0,
    "ts_requests": 100,
    "ts_load_seconds": 10.0,
    "ts_capacity_seconds": 30.0,
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
        "--ts-loads",
        {
            "default": "closed:4,constant:10,poisson:10",
            "metavar": "KIND:N,…",
            "help": "traffic of the load cells: closed:USERS, constant:RATE, poisson:RATE (default %(default)s)",
        },
    ),
    ("--ts-load-seconds", {"type": float, "metavar": "S", "help": "how long a load's requests leave (default 10)"}),
    (
        "--ts-batching",
        {
            "default": "16/100",
            "metavar": "SIZE/MS,…",
            "help": "batch size and max batch delay of load and capacity cells (default %(default)s)",
        },
    ),
    ("--ts-seed", {"type": int, "default": 1, "metavar": "N", "help": "of random arrivals (default 1)"}),
    (
        "--ts-slo-ms",
        {"type": float, "default": 250.0, "metavar": "MS", "help": "latency goal of capacity cells (default 250)"},
    ),
    ("--ts-capacity-seconds", {"type": float, "metavar": "S", "help": "budget of one probed rate (default 30)"}),
    (
        "--ts-load-engine",
        {
            "choices": ["builtin", "locust"],
            "default": "builtin",
            "help": "what sends load and capacity traffic: this process, or Locust's master and workers",
        },
    ),
    (
        "--ts-load-workers",
        {"type": int, "default": 2, "metavar": "N", "help": "processes of --ts-load-engine=locust (default 2)"},
    ),
    (
        "--ts-load-master",
        {"metavar": "HOST:PORT", "help": "listen here for Locust workers that are started elsewhere"},
    ),
    (
        "--ts-url",
        {
            "metavar": "URL",
            "help": "measure a TorchServe that someone else runs; keys: TS_INFERENCE_KEY, TS_MANAGEMENT_KEY",
        },
    ),
    ("--ts-management-url", {"metavar": "URL", "help": "its management address, to read batch size and workers"}),
    ("--ts-url-model", {"metavar": "NAME", "help": "the model to ask there"}),
    (
        "--ts-samples",
        {"metavar": "DIR", "help": "files to send it (FILE.answer.json: what must come back); else the catalogue's"},
    ),
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

    for name in (*usual.keys() - {"ts_batch_sizes"}, "ts_slo_ms", "ts_load_workers"):
        number = value(name) if name in usual else config.getoption(name)
        _positive("--" + name.replace("_", "-"), number)
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
            capacity_seconds=value("ts_capacity_seconds"),
            slo_s=config.getoption("ts_slo_ms") / 1e3,
            seed=config.getoption("ts_seed"),
        ),
        pace_seconds=value("ts_requests") / PACE_PER_S,
        loads=load.parse(config.getoption("ts_loads"), value("ts_load_seconds"), config.getoption("ts_seed")),
        batchings=_batchings(config.getoption("ts_batching")),
        engine=_engine(config),
        attach=_attach(config),
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


def _engine(config: pytest.Config) -> Engine | None:
    """What sends traffic instead of this process; None for this process itself."""
    master = config.getoption("ts_load_master")
    if config.getoption("ts_load_engine") != "locust":
        if master:
            raise OptionError(
                wanted="--ts-load-engine=locust with --ts-load-master",
                found="--ts-load-engine=builtin",
                do="add --ts-load-engine=locust, or leave --ts-load-master out",
            )
        return None
    if master and not re.fullmatch(r"[^:]+:\d+", master):
        raise OptionError(
            wanted="--ts-load-master=HOST:PORT", found=repr(master), do="give the address to listen on, as 0.0.0.0:5557"
        )
    return Engine(config.getoption("ts_load_workers"), master)


def _attach(config: pytest.Config) -> Attach | None:
    """Someone else's server; None for one of our own."""
    url, model = config.getoption("ts_url"), config.getoption("ts_url_model")
    management, samples = config.getoption("ts_management_url"), config.getoption("ts_samples")
    if not url:
        given = [
            name
            for name, value in (("url-model", model), ("management-url", management), ("samples", samples))
            if value
        ]
        if given:
            raise OptionError(
                wanted=f"--ts-url with --ts-{given[0]}", found="no --ts-url", do="add --ts-url=http://HOST:PORT"
            )
        return None
    if not model:
        raise OptionError(wanted="--ts-url-model with --ts-url", found="none", do="name the model to ask there")
    if samples and not Path(samples).is_dir():
        raise OptionError(
            wanted=f"a folder of files at {samples} (--ts-samples)", found="no such folder", do="name one"
        )
    return Attach(
        address=Address.parse(url, os.environ.get("TS_INFERENCE_KEY", "")),
        management=Address.parse(management, os.environ.get("TS_MANAGEMENT_KEY", "")) if management else None,
        model=model,
        samples=Path(samples) if samples else None,
    )


def _batchings(text: str) -> tuple[Batching, ...]:
    """`16/100,1/0` as batch size and max_batch_delay_ms."""
    pairs = [re.fullmatch(r"(\d+)/(\d+)", part.strip()) for part in text.split(",")]
    found = [Batching(int(pair[1]), int(pair[2])) for pair in pairs if pair and int(pair[1])]
    if len(found) < len(pairs):
        raise OptionError(
            wanted="--ts-batching as SIZE/DELAY_MS, with commas between, sizes from 1",
            found=repr(text),
            do="write for example --ts-batching=1/0,16/100",
        )
    return tuple(dict.fromkeys(found))


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
