"""The options, read as one frozen `Config`."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_torchserve import conditions
from pytest_torchserve._util import paths
from pytest_torchserve.config import PACE_PER_S, Config
from pytest_torchserve.errors import InputError, OptionError
from pytest_torchserve.measure import Budget
from pytest_torchserve.plugin import archive_values, option_table, option_values
from pytest_torchserve.report.recovery import Recovery
from pytest_torchserve.torchserve import settings

CONFIG_KEY: pytest.StashKey[Config] = pytest.StashKey()
RECOVERY_KEY: pytest.StashKey[Recovery] = pytest.StashKey()


def of(config: pytest.Config) -> Config:
    """Return the options of this session, read at the first call.

    Raises:
        pytest.UsageError: an option's value cannot be used.
    """
    if CONFIG_KEY not in config.stash:
        try:
            config.stash[CONFIG_KEY] = read(config)
        except OptionError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[CONFIG_KEY]


def complete(config: pytest.Config, *, measures: bool, compares: bool) -> Config:
    """Return the options, completed by values that are needed only when something will be measured.

    Args:
        measures: whether samples are needed.
        compares: whether any cell can be compared with the baseline; else the baseline is not resolved.

    Raises:
        OptionError, InputError: TS_DATA names no folder; the baseline cannot be used.
    """
    told = replace(of(config), conditions=conditions.now())
    if measures:
        check_folder(told.data)
    if compares and told.baseline_named is not None and not told.checks_only:
        told = replace(told, baseline=option_values.resolved(config, told.baseline_named))
    config.stash[CONFIG_KEY] = told
    return told


def check_folder(data: Path | str | None) -> None:
    """Refuse a folder of samples that does not exist."""
    if data and not paths.is_dir(Path(data)):
        why = paths.why_absent(Path(data))
        raise OptionError(
            wanted=f"a folder of samples at {paths.shown(data)} (--ts-data or TS_DATA)",
            found="no such folder" if why in (None, paths.NOTHING_THERE) else why,
            do="name a folder that holds cifar10/CLASS/IMAGE or imagenet/CLASS/IMAGE files, or leave the option out",
        )


def check_place(option: str, path: Path) -> None:
    """Refuse a place to write to at which nothing can be."""
    why = paths.why_absent(path)
    if why not in (None, paths.NOTHING_THERE):
        raise OptionError(
            wanted=f"a place to write to ({option})", found=f"{paths.shown(path)}: {why}", do="name another place"
        )


def checks_only(config: pytest.Config) -> bool:
    """Return whether pytest-benchmark measures nothing: --benchmark-disable."""
    disabled, enabled = (config.getoption(f"benchmark_{name}", default=False) for name in ("disable", "enable"))
    return bool(disabled and not enabled)


def skips(config: pytest.Config) -> bool:
    """Return whether pytest-benchmark skips every benchmark: --benchmark-skip without --benchmark-only."""
    skip, only = (config.getoption(f"benchmark_{name}", default=False) for name in ("skip", "only"))
    return bool(skip and not only)


def stores_nothing(config: pytest.Config) -> bool:
    """Return whether a session compares and saves nothing, however much it runs."""
    return checks_only(config) or skips(config)


def recovered(config: pytest.Config) -> Recovery | None:
    """Return the journal that this session recovers, read at the first call; None for a session that measures.

    Raises:
        OptionError: it cannot be read.
    """
    path = config.getoption("ts_recover")
    if path is not None and RECOVERY_KEY not in config.stash:
        try:
            config.stash[RECOVERY_KEY] = Recovery.of(Path(path))
        except InputError as error:
            raise OptionError(wanted=f"{error.wanted} (--ts-recover)", found=error.found, do=error.do) from error
    return config.stash[RECOVERY_KEY] if path is not None else None


def _root(config: pytest.Config) -> Path:
    """Return the folder for what is written: pytest's root, but for archives measured in a folder without a project.

    There pytest takes the value of an option it does not know yet, as in `--ts-mar FILE`, for a test's path, and may
    choose a root above the folder.
    """
    alone = config.inipath is None and (config.getoption("ts_mar") or config.getoption("ts_suite"))
    return config.invocation_params.dir if alone else config.rootpath


def read(config: pytest.Config) -> Config:
    """Read the options as one `Config`.

    Raises:
        OptionError: an option's value cannot be used.
    """
    value = {option.key: option.value(config, checks_only=checks_only(config)) for option in option_table.TABLE}
    for option in option_table.TABLE:  # in the table's order: of two bad values always the same is named
        if option.positive and value[option.key] is not None:
            option_values.positive(option.name, value[option.key])
    option_values.ports([value["ts_inference_port"], value["ts_management_port"]])
    data = value["ts_data"] or os.environ.get("TS_DATA")
    check_folder(value["ts_data"])  # TS_DATA is checked only where it is used
    config_file = paths.resolved(value["ts_config"]) if value["ts_config"] else None
    server = settings.ServerSettings(
        config=config_file,
        jvm_args=value["ts_jvm_args"],
        worker_env=settings.parse_worker_env(value["ts_worker_env"]),
        inference_port=value["ts_inference_port"],
        management_port=value["ts_management_port"],
        response_timeout_s=value["ts_response_timeout"],
        startup_timeout_s=value["ts_startup_timeout"],
    )
    option_values.check(server)
    baseline_named, baseline_server = option_values.compared(config, server)
    for name in ("report", "journal", "model-store"):
        check_place(f"--ts-{name}", Path(value[f"ts_{name.replace('-', '_')}"] or "."))
    recovery = recovered(config)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    root = _root(config)
    journal = value["ts_journal"] or root / ".benchmarks" / "journal" / f"{stamp}-{os.getpid()}.jsonl"
    return Config(
        weights=value["ts_weights"],
        data=paths.resolved(data) if data else None,
        forget=value["ts_forget"],
        batch_sizes=option_values.whole_numbers("--ts-batch-sizes", value["ts_batch_sizes"]),
        budget=Budget(
            processes=value["ts_processes"],
            cell_seconds=value["ts_cell_seconds"],
            init_rounds=value["ts_init_rounds"],
            capacity_seconds=value["ts_capacity_seconds"],
            slo_s=value["ts_slo_ms"] / 1e3,
            seed=value["ts_seed"],
            baseline_seconds=value["ts_baseline_seconds"],
            baseline_processes=option_values.processes(value["ts_baseline_processes"]),
        ),
        pace_seconds=value["ts_requests"] / PACE_PER_S,
        schedules=option_values.schedules(value["ts_loads"], value["ts_load_seconds"], value["ts_seed"]),
        batchings=option_values.batchings(value["ts_batching"]),
        workers=option_values.whole_numbers("--ts-workers", value["ts_workers"]),
        **archive_values.of_archives(config),
        engine=option_values.engine(config),
        attach=option_values.attach(config),
        baseline_named=recovery.environment.get("baseline") if recovery else baseline_named,
        baseline_minutes=value["ts_baseline_minutes"],
        baseline_server=baseline_server,
        rules=option_values.rules(config),
        server=server,
        store=Path(value["ts_model_store"] or root / "model_store"),
        journal=None if checks_only(config) or recovery else Path(journal),
        checks_only=checks_only(config),
        keep=value["ts_keep"],
        require_gpu=value["ts_require_gpu"],
        options=option_table.choosing(config),
        recovered=recovery.environment if recovery else None,
        report=Path(value["ts_report"]).absolute() if value["ts_report"] else None,
    )
