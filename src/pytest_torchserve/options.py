"""The options, added to pytest's parser and read as one frozen `Config`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve import option_table, option_values, settings
from pytest_torchserve.config import PACE_PER_S, Config
from pytest_torchserve.errors import OptionError
from pytest_torchserve.measure import Effort

if TYPE_CHECKING:
    import pytest


def add(parser: pytest.Parser) -> None:
    """Add the options to pytest's parser."""
    group = parser.getgroup("torchserve", "performance of models served with TorchServe")
    for name, keywords in option_table.TABLE:
        group.addoption(name, **keywords)


def read(config: pytest.Config) -> Config:
    """The options as one value.

    Raises:
        OptionError: an option's value cannot be used.
    """
    usual = option_table.QUICK if config.getoption("ts_quick") else option_table.USUAL

    def value(name: str) -> Any:
        given = config.getoption(name)
        return usual[name] if given is None else given

    for name in (*usual.keys() - {"ts_batch_sizes"}, "ts_slo_ms", "ts_load_workers"):
        number = value(name) if name in usual else config.getoption(name)
        option_values.positive("--" + name.replace("_", "-"), number)
    ports = [config.getoption(name) for name in ("ts_inference_port", "ts_management_port")]
    option_values.ports(ports)
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
    server = settings.ServerSettings(
        config=Path(properties).resolve() if properties else None,
        jvm_args=config.getoption("ts_jvm_args"),
        worker_env=settings.parse_worker_env(config.getoption("ts_worker_env")),
        inference_port=config.getoption("ts_inference_port"),
        management_port=config.getoption("ts_management_port"),
    )
    held_against, baseline_server = option_values.compared(config, server)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    journal = (
        config.getoption("ts_journal") or config.rootpath / ".benchmarks" / "journal" / f"{stamp}-{os.getpid()}.jsonl"
    )
    return Config(
        weights=config.getoption("ts_weights"),
        data=Path(data).resolve() if data else None,
        batch_sizes=option_values.batch_sizes(value("ts_batch_sizes")),
        effort=Effort(
            processes=value("ts_processes"),
            cell_seconds=value("ts_cell_seconds"),
            init_rounds=value("ts_init_rounds"),
            capacity_seconds=value("ts_capacity_seconds"),
            slo_s=config.getoption("ts_slo_ms") / 1e3,
            seed=config.getoption("ts_seed"),
            baseline_seconds=value("ts_baseline_seconds"),
        ),
        pace_seconds=value("ts_requests") / PACE_PER_S,
        loads=option_values.loads(config.getoption("ts_loads"), value("ts_load_seconds"), config.getoption("ts_seed")),
        batchings=option_values.batchings(config.getoption("ts_batching")),
        engine=option_values.engine(config),
        attach=option_values.attach(config),
        baseline=held_against,
        baseline_server=baseline_server,
        rules=option_values.rules(config),
        server=server,
        store=Path(config.getoption("ts_model_store") or config.rootpath / "model_store"),
        journal=Path(journal),
        keep=config.getoption("ts_keep"),
        require_gpu=config.getoption("ts_require_gpu"),
        report=Path(config.getoption("ts_report")).absolute() if config.getoption("ts_report") else None,
    )
