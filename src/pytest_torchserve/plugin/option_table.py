"""Every option's name, help and default: what `pytest --help` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

QUICK = {
    "ts_processes": 1,
    "ts_batch_sizes": "1,16",
    "ts_init_rounds": 1,
    "ts_cell_seconds": 5.0,
    "ts_requests": 32,
    "ts_load_seconds": 5.0,
    "ts_capacity_seconds": 8.0,
    "ts_baseline_seconds": 20.0,
}
USUAL = {
    "ts_processes": 3,
    "ts_batch_sizes": "1,4,16",
    "ts_init_rounds": 3,
    "ts_cell_seconds": 20.0,
    "ts_requests": 100,
    "ts_load_seconds": 10.0,
    "ts_capacity_seconds": 30.0,
    "ts_baseline_seconds": 120.0,
}

CHECK = {
    **QUICK,
    "ts_batch_sizes": "1,4,16",
    "ts_cell_seconds": 0.5,
    "ts_requests": 8,
    "ts_load_seconds": 1.0,
    "ts_capacity_seconds": 2.0,
}
"""Under --benchmark-disable: enough to see that everything works."""

# option, keywords for addoption; the defaults of USUAL and QUICK stand in the help.
TABLE: tuple[tuple[str, dict[str, Any]], ...] = (
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
        "--ts-baseline",
        {
            "metavar": "WHAT",
            "help": "hold init and handle against this: a folder of .mar files, a git revision, or python:VENV",
        },
    ),
    (
        "--ts-baseline-config",
        {"metavar": "FILE", "help": "the baseline server's config.properties (default: that of --ts-config)"},
    ),
    (
        "--ts-baseline-worker-env",
        {
            "action": "append",
            "metavar": "NAME=VALUE",
            "help": "a variable for the baseline's workers, instead of those of --ts-worker-env; repeatable",
        },
    ),
    ("--ts-baseline-seconds", {"type": float, "metavar": "S", "help": "budget of a compared cell (default 120)"}),
    (
        "--ts-baseline-processes",
        {
            "type": int,
            "default": 8,
            "metavar": "N",
            "help": "worker processes that a compared cell samples at most; each is one sample (default %(default)s)",
        },
    ),
    (
        "--ts-min-effect",
        {"default": "2%", "metavar": "X", "help": "changes below this are ignored (default 2%%)"},
    ),
    (
        "--ts-max-regression",
        {"metavar": "X", "help": "a regression beyond this fails the session (default: same as --ts-min-effect)"},
    ),
    ("--ts-strict", {"action": "store_true", "help": "an inconclusive verdict fails the session, too"}),
    (
        "--ts-compare-across",
        {"action": "store_true", "help": "let --benchmark-compare compare runs of different environments"},
    ),
    ("--ts-report", {"metavar": "DIR", "help": "write index.html, summary.md and results.csv into this folder"}),
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
    for name, keywords in TABLE:
        group.addoption(name, **keywords)


def given(config: pytest.Config) -> list[str]:
    """Return the names of the options that have another value than their default."""
    usual: dict[str, Any] = {
        name: keywords.get("default", False if keywords.get("action") == "store_true" else None)
        for name, keywords in TABLE
    }
    found = {name: config.getoption(name.lstrip("-").replace("-", "_")) for name in usual}
    return [name for name, value in found.items() if value != usual[name]]
