"""The values of the options' texts; a text that cannot be used is an `OptionError` with a clear message."""

from __future__ import annotations

import math
import os
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve._util import plain_numbers
from pytest_torchserve.compare import baseline
from pytest_torchserve.compare.comparison import Rules
from pytest_torchserve.config import Attach, LocustConfig
from pytest_torchserve.deployment import Batching
from pytest_torchserve.errors import OptionError
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.arrivals import ConstantRate, OpenLoop, Poisson, Ramp
from pytest_torchserve.loadgen.schedule import ClosedLoop
from pytest_torchserve.measure.cell import FEWEST_SAMPLES
from pytest_torchserve.plugin import archive_values
from pytest_torchserve.torchserve import properties, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_torchserve.compare.baseline import Baseline
    from pytest_torchserve.loadgen.schedule import TimedSchedule
    from pytest_torchserve.torchserve.settings import ServerSettings

PORTS = 1 << 16

MOST_TRAFFIC = 1_000_000
"""The highest rate and the largest number of users of a load: no machine sends as much."""

_SHOWN = 80
_RAMP = re.compile(rf"\s*({plain_numbers.NUMBER})\s*-\s*({plain_numbers.NUMBER})\s*")


def schedules(text: str, duration_s: float, seed: int) -> tuple[TimedSchedule, ...]:
    """Return the loads that a text such as `closed:4,constant:10,poisson:50,ramp:5-50` names.

    Raises:
        OptionError: the text cannot be read.
    """
    found: list[TimedSchedule] = []
    for part in text.split(","):
        kind, _, numbers = part.strip().partition(":")
        try:
            found.append(_KINDS[kind][1](numbers, duration_s, seed))
        except (ValueError, KeyError) as error:
            raise OptionError(
                wanted=f"--ts-loads as {', '.join(usage for usage, _ in _KINDS.values())}, each number above 0, "
                f"at most {MOST_TRAFFIC}",
                found=_shown(part),
                do="write for example --ts-loads=closed:4,constant:10,poisson:50",
            ) from error
    for part, schedule in zip(text.split(","), found, strict=True):
        if isinstance(schedule, OpenLoop) and next(iter(schedule.departures_ns()), None) is None:
            raise OptionError(
                wanted="--ts-loads of which at least one request leaves",
                found=f"{part.strip()!r}: within {duration_s:g} s none does (--ts-load-seconds, --ts-seed={seed})",
                do="give a longer --ts-load-seconds, or a higher rate",
            )
    return tuple(dict.fromkeys(found))


def _rate(text: str) -> float:
    """Return a rate above 0; ValueError for any other text."""
    number = plain_numbers.number(text, MOST_TRAFFIC)
    if not number:
        raise ValueError(text)
    return number


def _closed(number: str, duration_s: float, _: int) -> TimedSchedule:
    return ClosedLoop(plain_numbers.whole(number, 1, MOST_TRAFFIC), duration_s)


def _constant(rate: str, duration_s: float, _: int) -> TimedSchedule:
    return ConstantRate(_rate(rate), duration_s)


def _poisson(rate: str, duration_s: float, seed: int) -> TimedSchedule:
    return Poisson(_rate(rate), duration_s, seed)


def _ramp(rates: str, duration_s: float, _: int) -> TimedSchedule:
    ends = _RAMP.fullmatch(rates)
    if ends is None:
        raise ValueError(rates)
    return Ramp(_rate(ends[1]), _rate(ends[2]), duration_s)


_KINDS: dict[str, tuple[str, Callable[[str, float, int], TimedSchedule]]] = {
    "closed": ("closed:USERS", _closed),
    "constant": ("constant:RATE", _constant),
    "poisson": ("poisson:RATE", _poisson),
    "ramp": ("ramp:FROM-TO", _ramp),
}
"""The kinds of load: how each is written, and what reads its numbers."""


def _shown(value: str | float) -> str:
    """Return an option's value as a message shows it, a long one cut off."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def engine(config: pytest.Config) -> LocustConfig | None:
    """Return Locust's configuration; None where this process itself sends the traffic."""
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
    return LocustConfig(config.getoption("ts_load_workers"), master)


def attach(config: pytest.Config) -> Attach | None:
    """Return the external server to measure; None where the suite starts a server itself."""
    url, model = config.getoption("ts_url"), config.getoption("ts_url_model")
    management, requests = config.getoption("ts_management_url"), config.getoption("ts_samples")
    if not url:
        given = [name for name, value in (("url-model", model), ("management-url", management)) if value]
        if requests and not config.getoption("ts_mar") and not config.getoption("ts_recover"):
            raise OptionError(
                wanted="--ts-mar or --ts-url with --ts-samples", found="neither", do="say what to send the requests to"
            )
        if given:
            raise OptionError(
                wanted=f"--ts-url with --ts-{given[0]}", found="no --ts-url", do="add --ts-url=http://HOST:PORT"
            )
        return None
    if not model:
        raise OptionError(wanted="--ts-url-model with --ts-url", found="none", do="name the model to ask there")
    return Attach(
        address=Address.parse(url, os.environ.get("TS_INFERENCE_KEY", "")),
        management=Address.parse(management, os.environ.get("TS_MANAGEMENT_KEY", "")) if management else None,
        model=model,
        samples=archive_values.samples(requests),
    )


def batchings(text: str) -> tuple[Batching, ...]:
    """Read `16/100,1/0` as pairs of batch size and max_batch_delay_ms."""
    try:
        pairs = [part.split("/") for part in text.split(",")]
        found = [Batching(plain_numbers.whole(size, 1), plain_numbers.whole(delay_ms)) for size, delay_ms in pairs]
    except ValueError as error:
        raise OptionError(
            wanted="--ts-batching as SIZE/DELAY_MS, with commas between, sizes from 1, "
            f"both at most {plain_numbers.LARGEST}",
            found=_shown(text),
            do="write for example --ts-batching=1/0,16/100",
        ) from error
    return tuple(dict.fromkeys(found))


def fraction(option: str, text: str) -> float:
    """Read `5%` or `0.05`: a share above 0 and below 1."""
    try:
        number = plain_numbers.number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise OptionError(
            wanted=f"{option} as a share of the time, above 0 and below 100%", found=_shown(text), do="write 5% or 0.05"
        )
    return number


def check(server: ServerSettings) -> None:
    """Refuse a config.properties that cannot be read, names a file that is not there, or has no numbers for times."""
    if server.config is not None:
        properties.in_place(properties.read(server.config), server.config.parent)
        _ = server.timeouts


def compared(config: pytest.Config, server: ServerSettings) -> tuple[str | None, ServerSettings]:
    """Return the baseline's name and its server's settings: the candidate's, except those given for the baseline."""
    wanted = config.getoption("ts_baseline")
    needing = ("max_regression", "strict", "baseline_worker_env", "baseline_minutes")
    given = [name for name in needing if config.getoption(f"ts_{name}") and not config.getoption("ts_recover")]
    if wanted is None and given:
        raise OptionError(
            wanted=f"--ts-baseline with --ts-{given[0].replace('_', '-')}",
            found="no --ts-baseline",
            do="say what to compare with, as --ts-baseline=HEAD",
        )
    if wanted is None:
        return None, server
    if config.getoption("ts_baseline_minutes") and config.getoption("ts_baseline_seconds"):
        raise OptionError(
            wanted="--ts-baseline-minutes, for all cells together, or --ts-baseline-seconds, for each",
            found="both",
            do="leave one of them out",
        )
    if config.getoption("ts_url"):
        raise OptionError(
            wanted="--ts-baseline or --ts-url",
            found="both",
            do="leave one out: what someone else runs is left as it is, and cannot be given a second side",
        )
    baseline.check_named(wanted)
    own_env = config.getoption("ts_baseline_worker_env")
    server = replace(server, inference_port=0, management_port=0)  # explicit ports are the candidate's
    if wanted.startswith(baseline.CONFIG):
        server = replace(server, config=baseline.config_file(wanted))
        check(server)
    return wanted, replace(server, worker_env=settings.parse_worker_env(own_env)) if own_env else server


def resolved(config: pytest.Config, wanted: str) -> Baseline:
    """Find the baseline: extract a revision, look into a folder, ask another Python.

    Raises:
        OptionError: there is no such baseline, or settings are given for a baseline without a server of its own.
    """
    found = baseline.parse(wanted, config.rootpath)
    if config.getoption("ts_baseline_worker_env") and not found.has_own_server:
        raise OptionError(
            wanted="--ts-baseline=config:FILE or python:VENV with --ts-baseline-worker-env",
            found=f"--ts-baseline={wanted}, which shares the candidate's server",
            do=f"write --ts-baseline=python:{sys.prefix} to compare this environment with itself under other variables",
        )
    return found


def rules(config: pytest.Config) -> Rules:
    """Return the rules of the verdicts."""
    given = config.getoption("ts_max_regression")
    min_effect = fraction("--ts-min-effect", config.getoption("ts_min_effect"))
    return Rules(
        min_effect=min_effect,
        max_regression=fraction("--ts-max-regression", given) if given else min_effect,
        strict=config.getoption("ts_strict"),
    )


def ports(ports: list[int]) -> None:
    """Check that the ports are valid and differ; 0 stands for any free port."""
    explicit = [port for port in ports if port]
    if not all(0 < port < PORTS for port in explicit) or len(set(explicit)) != len(explicit):
        raise OptionError(
            wanted=f"--ts-inference-port and --ts-management-port, two different ones from 1 to {PORTS - 1}",
            found=" and ".join(map(str, ports)),
            do="give other numbers, or leave them out: free ports are then chosen",
        )


def processes(number: int) -> int:
    """Check that a compared cell samples enough processes for an interval, and return their number."""
    if number < FEWEST_SAMPLES:
        raise OptionError(
            wanted=f"--ts-baseline-processes from {FEWEST_SAMPLES}: fewer have no interval",
            found=str(number),
            do="give a larger number, or leave the option out",
        )
    return number


def positive(option: str, number: float) -> None:
    """Check that an option's number is above 0, and no more than milliseconds that TorchServe can hold."""
    if not 0 < number <= plain_numbers.MOST_SECONDS:
        raise OptionError(
            wanted=f"{option} above 0 and at most {plain_numbers.MOST_SECONDS}",
            found=_shown(number),
            do="give a smaller number" if number > 0 else "give a larger number",
        )


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read `1,4,16` as numbers."""
    try:
        numbers = tuple(plain_numbers.whole(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or len(set(numbers)) != len(numbers):
        raise OptionError(
            wanted=f"{option} as whole numbers from 1, each once, with commas between",
            found=_shown(text),
            do=f"write for example {option}=1,4",
        )
    return numbers
