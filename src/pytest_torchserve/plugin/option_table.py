"""Every option in one row: its name, help, type and defaults, as `pytest --help` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


@dataclass(frozen=True, slots=True)
class Option:
    """An option.

    Attributes:
        name: the option as typed.
        help: the text of the help; the default is added.
        flag: whether the option takes no value.
        repeatable: whether the option may be given several times.
        metavar: the placeholder of the value in the help.
        type: the function that makes a value of the text.
        choices: the only allowed values.
        default: the value where the option is not given.
        quick: the default under --ts-quick; None for `default`.
        check: the default under --benchmark-disable, which checks quickly that everything works; None for `quick`.
        positive: whether the value must be above 0.
    """

    name: str
    help: str
    flag: bool = False
    repeatable: bool = False
    metavar: str | None = None
    type: Callable[[str], Any] | None = None
    choices: tuple[str, ...] = ()
    default: Any = None
    quick: Any = None
    check: Any = None
    positive: bool = False

    @property
    def key(self) -> str:
        """The option's name in pytest's configuration."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def not_given(self) -> Any:
        """The value in pytest's configuration where none is given: None where the default depends on other options."""
        return False if self.flag else None if self.quick is not None else self.default

    def add(self, group: Any) -> None:
        """Add the option to a group of pytest's parser."""
        if self.flag:
            group.addoption(self.name, action="store_true", help=self.help)
            return
        shown = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        usual = "" if self.choices or not self.default else f" (default {shown})".replace("%", "%%")
        keywords: dict[str, Any] = {"help": self.help + usual, "default": self.not_given}
        if self.choices:
            keywords["choices"] = self.choices
        if self.metavar is not None:
            keywords["metavar"] = self.metavar
        if self.type is not None:
            keywords["type"] = self.type
        if self.repeatable:
            keywords["action"] = "append"
        group.addoption(self.name, **keywords)

    def value(self, config: pytest.Config, *, checks_only: bool) -> Any:
        """Return the option's value in this session."""
        given = config.getoption(self.key)
        if given is not None:
            return given
        quick = self.default if self.quick is None else self.quick
        if checks_only:
            return quick if self.check is None else self.check
        return quick if config.getoption("ts_quick") else self.default


TABLE: tuple[Option, ...] = (
    Option(
        "--ts-quick",
        "a look: one process, batches 1 and 16, one init round, 4 s a cell, two loads of 5 s, 32 requests of the "
        "constant rate; stock handlers only where -k names them",
        flag=True,
    ),
    Option("--ts-data", "samples: DIR/cifar10/CLASS/*, DIR/imagenet/CLASS/* (or TS_DATA)", metavar="DIR"),
    Option(
        "--ts-weights", "auto: what is on disk, else seeded", choices=("auto", "pretrained", "seeded"), default="auto"
    ),
    Option("--ts-forget", "make weights and golden answers anew, whatever the cache holds", flag=True),
    Option(
        "--ts-batch-sizes",
        "batch sizes of the handle cells",
        metavar="N,N",
        default="1,4,16",
        quick="1,16",
        check="1,4,16",
    ),
    Option(
        "--ts-processes",
        "worker processes a handle cell samples",
        metavar="N",
        type=int,
        default=3,
        quick=1,
        positive=True,
    ),
    Option(
        "--ts-cell-seconds",
        "budget of a handle cell",
        metavar="S",
        type=float,
        default=20.0,
        quick=4.0,
        check=0.5,
        positive=True,
    ),
    Option(
        "--ts-init-rounds", "workers started for an init cell", metavar="N", type=int, default=3, quick=1, positive=True
    ),
    Option(
        "--ts-requests",
        "requests of a pace cell, 10/s",
        metavar="N",
        type=int,
        default=100,
        quick=32,
        check=8,
        positive=True,
    ),
    Option(
        "--ts-loads",
        "traffic of the load cells: closed:USERS, constant:RATE, poisson:RATE, ramp:FROM-TO",
        metavar="KIND:N,…",
        default="closed:4,constant:10,poisson:10",
        quick="closed:4,poisson:10",
        check="closed:4,constant:10,poisson:10",
    ),
    Option(
        "--ts-load-seconds",
        "how long a load's requests leave",
        metavar="S",
        type=float,
        default=10.0,
        quick=5.0,
        check=1.0,
        positive=True,
    ),
    Option(
        "--ts-batching",
        "batch size and max batch delay of load and capacity cells",
        metavar="SIZE/MS,…",
        default="16/100",
    ),
    Option("--ts-workers", "numbers of workers of load and capacity cells", metavar="N,N", default="1"),
    Option("--ts-seed", "of random arrivals", metavar="N", type=int, default=1),
    Option(
        "--ts-slo-ms",
        "latency goal: of capacity cells, and of a load's goodput",
        metavar="MS",
        type=float,
        default=250.0,
        positive=True,
    ),
    Option(
        "--ts-capacity-seconds",
        "budget of the search of one capacity cell",
        metavar="S",
        type=float,
        default=600.0,
        quick=60.0,
        check=30.0,
        positive=True,
    ),
    Option(
        "--ts-load-engine",
        "what sends load and capacity traffic: this process, or Locust's master and workers",
        choices=("builtin", "locust"),
        default="builtin",
    ),
    Option(
        "--ts-load-workers", "processes of --ts-load-engine=locust", metavar="N", type=int, default=2, positive=True
    ),
    Option("--ts-load-master", "listen here for Locust workers that are started elsewhere", metavar="HOST:PORT"),
    Option(
        "--ts-url",
        "measure a TorchServe that someone else runs; keys: TS_INFERENCE_KEY, TS_MANAGEMENT_KEY",
        metavar="URL",
    ),
    Option("--ts-management-url", "its management address, to read batch size and workers", metavar="URL"),
    Option("--ts-url-model", "the model to ask there", metavar="NAME"),
    Option("--ts-suite", "collect the suite of the installed package, for the models of your conftest.py", flag=True),
    Option(
        "--ts-mar",
        "measure this archive of your own (.mar, .tar.gz, unpacked, or a folder of them), unmodified; repeatable",
        repeatable=True,
        metavar="PLACE",
    ),
    Option(
        "--ts-samples",
        "requests to send to --ts-mar or --ts-url: a file, a folder (FILE.answer.json: what must come back), a .jsonl",
        metavar="PLACE",
    ),
    Option("--ts-answers", "expected answers for --ts-samples, as `tsperf record-answers` writes them", metavar="FILE"),
    Option(
        "--ts-tolerance",
        "how far numbers of an answer may be off: absolute/relative (default 0.001/0.001 on a CPU)",
        metavar="ABS/REL",
    ),
    Option(
        "--ts-python",
        "serve with the TorchServe of this environment or interpreter, and its workers' packages",
        metavar="VENV",
    ),
    Option(
        "--ts-baseline",
        "hold the cells against this: a folder of .mar files, a git revision, python:VENV (another "
        "TorchServe) or config:FILE (another config.properties)",
        metavar="WHAT",
    ),
    Option(
        "--ts-baseline-worker-env",
        "a variable for the baseline's workers, instead of those of --ts-worker-env; repeatable",
        repeatable=True,
        metavar="NAME=VALUE",
    ),
    Option(
        "--ts-baseline-seconds",
        "budget of a compared cell",
        metavar="S",
        type=float,
        default=120.0,
        quick=20.0,
        positive=True,
    ),
    Option(
        "--ts-baseline-minutes",
        "budget of all compared cells but capacities together: cells that are decided end early, and leave their time "
        "to others",
        metavar="MIN",
        type=float,
        positive=True,
    ),
    Option(
        "--ts-baseline-processes",
        "worker processes that a compared cell samples at most; each is one sample",
        metavar="N",
        type=int,
        default=8,
    ),
    Option("--ts-min-effect", "changes below this are ignored", metavar="X", default="2%"),
    Option(
        "--ts-max-regression",
        "a regression beyond this fails the session (default: same as --ts-min-effect)",
        metavar="X",
    ),
    Option("--ts-strict", "an inconclusive verdict fails the session, too", flag=True),
    Option("--ts-compare-across", "let --benchmark-compare compare runs of different environments", flag=True),
    Option("--ts-report", "write index.html, summary.md and results.csv into this folder", metavar="DIR"),
    Option("--ts-require-gpu", "a missing GPU fails the gpu tests instead of skipping", flag=True),
    Option("--ts-keep", "keep the server's logs and temporary files", flag=True),
    Option("--ts-config", "a TorchServe config.properties, merged with the settings of the suite", metavar="FILE"),
    Option(
        "--ts-response-timeout",
        "seconds that TorchServe waits for a worker's answer, and a sender for TorchServe's "
        "(default: the archive's own, the config's, or 120)",
        metavar="SECONDS",
        type=float,
        positive=True,
    ),
    Option(
        "--ts-startup-timeout",
        "seconds until a worker must be ready (default: the archive's own, the config's, or 120)",
        metavar="SECONDS",
        type=float,
        positive=True,
    ),
    Option("--ts-jvm-args", "arguments for TorchServe's JVM", metavar="ARGS", default=""),
    Option(
        "--ts-worker-env", "a variable for the workers; repeatable", repeatable=True, metavar="NAME=VALUE", default=[]
    ),
    Option("--ts-inference-port", "default: a free one", metavar="PORT", type=int, default=0),
    Option("--ts-management-port", "default: a free one", metavar="PORT", type=int, default=0),
    Option("--ts-model-store", "where archives are made (default: model_store)", metavar="DIR"),
    Option("--ts-recover", "measure nothing: take the runs from this journal (see tsperf recover)", metavar="FILE"),
    Option("--ts-journal", "every run as a line of JSON (default: in .benchmarks/journal)", metavar="FILE"),
)


def add(parser: pytest.Parser) -> None:
    """Add the options to pytest's parser."""
    group = parser.getgroup("torchserve", "performance of models served with TorchServe")
    for option in TABLE:
        option.add(group)


CHOOSING = (
    *(
        "--ts-batch-sizes",
        "--ts-requests",
        "--ts-loads",
        "--ts-load-seconds",
        "--ts-batching",
        "--ts-workers",
        "--ts-seed",
    ),
    *("--ts-slo-ms", "--ts-quick", "--ts-suite", "--ts-mar", "--ts-samples", "--ts-answers", "--ts-min-effect"),
    *("--ts-max-regression", "--ts-strict", "--ts-url", "--ts-url-model"),
)
"""The options that say which cells there are, and how they are judged; none holds a secret."""


def choosing(config: pytest.Config) -> tuple[str, ...]:
    """Return the given options of `CHOOSING` and `-k`, as they would be typed; none with a user's name in a URL."""
    found: list[str] = []
    for option in TABLE:
        value = config.getoption(option.key)
        if option.name in CHOOSING and value != option.not_given:
            values = value if option.repeatable else [value]
            found += [option.name if option.flag else f"{option.name}={one}" for one in values]
    keyword = config.getoption("keyword", "")
    return (*(one for one in found if "@" not in one), *([f"-k{keyword}"] if keyword else []))


def given(config: pytest.Config) -> list[str]:
    """Return the names of the options that have another value than their default."""
    return [option.name for option in TABLE if config.getoption(option.key) != option.not_given]
