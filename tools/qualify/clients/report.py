"""The figures as text: a table of clients, then each target and whether it was reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clients.rounds import CHEAP, RAW_SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "throughput_vs_"
_WRK_SHARE = 0.95
_CPU_US = 100.0
_LATE_MS = 1.0
_ATTRIBUTED = 0.99
_KEPT_MB = 200.0
_OFF_THE_LINE = 0.05
_GROWN = {"memory": "rss_mb", "time to send": "send_s", "CPU to check": "check_cpu_s"}


def text(found: dict[str, Any]) -> str:
    """Return the whole report."""
    return "\n".join(["", *_table(found), "", *_verdicts(found), "", *_intervals(found), "", *_bounds(found)])


def _table(found: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each connection count: requests/s, and in brackets ours ÷ theirs."""
    medians = found["details"]["medians"]
    names = [key.removeprefix(_PREFIX) for key in found if key.startswith(_PREFIX)]
    yield "requests/s, medians (ours ÷ theirs, median over rounds)"
    yield f"{'connections':>11} {'ours':>7}" + "".join(f"{name:>16}" for name in names)
    for connections, own in medians["ours"].items():
        cells = []
        for name in names:
            ratio = found[_PREFIX + name][connections]
            told = "missing" if ratio is None else f"{medians[name][connections]['per_s']:.0f} ({ratio:.2f})"
            cells.append(f"{told:>16}")
        yield f"{connections:>11} {own['per_s']:>7.0f}" + "".join(cells)


def _verdicts(found: dict[str, Any]) -> Iterator[str]:
    for what, value, target, reached in _figures(found):
        yield f"{what:<44} {value:>26}   {target:<10} {'reached' if reached else 'MISSED'}"


def _intervals(found: dict[str, Any]) -> Iterator[str]:
    """Yield the confidence intervals of the ratios: the rounds of one run differ, and so would the next run."""
    yield "ours ÷ theirs, 95% interval over the rounds, at each connection count"
    for name, by_connections in found["intervals"].items():
        told = ["too few" if made is None else "{:.2f}-{:.2f}".format(*made) for made in by_connections.values()]
        yield f"{name:<20}" + "".join(f"{words:>14}" for words in told)


def _bounds(found: dict[str, Any]) -> Iterator[str]:
    """Yield the throughput of the cheap clients ÷ that of each other client.

    A cheap client does next to nothing. Where even a cheap client is slower than another client, cost is not the
    reason.
    """
    yield "by comparison (raw socket: Python's system calls alone, nothing parsed, kept or checked), 95% interval"
    for name, by_connections in found["bounds"].items():
        for cheap in CHEAP:
            told = [_bound(made[cheap]) for made in by_connections.values() if cheap in made]
            if told:
                yield f"{f'{cheap} ÷ {name}':<20}" + "".join(f"{words:>18}" for words in told)


def _bound(made: dict[str, Any]) -> str:
    """Return a ratio and its confidence interval as text."""
    around = "too few" if made["interval"] is None else "{:.2f}-{:.2f}".format(*made["interval"])
    return f"{made['median']:.2f} {around}"


def _figures(found: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield each figure: its name, its value, its target, and whether the target was reached."""
    for key in (key for key in found if key.startswith(_PREFIX)):
        values = [ratio for ratio in found[key].values() if ratio is not None]
        if values:
            wrk = key == _PREFIX + "wrk"
            reached = min(values) >= _WRK_SHARE if wrk else min(values) > 1
            told = " ".join(f"{value:.3f}" for value in values)
            yield (
                f"throughput ÷ that of {key.removeprefix(_PREFIX)}",
                told,
                f"≥ {_WRK_SHARE}" if wrk else "> 1",
                reached,
            )
    cpu_us, late_ms = found["cpu_us_per_request"], found["schedule_delay_p99_ms"]
    yield "CPU per request, checked, most of the three", f"{cpu_us:.1f} µs", f"≤ {_CPU_US:.0f} µs", cpu_us <= _CPU_US
    raw_socket_us = max(made["cpu_us"] for made in found["details"]["medians"][RAW_SOCKET].values())
    yield (
        "  of the raw socket, which checks nothing",
        f"{raw_socket_us:.1f} µs",
        f"≤ {_CPU_US:.0f} µs",
        raw_socket_us <= _CPU_US,
    )
    yield "schedule delay at 500/s, p99", f"{late_ms:.3f} ms", f"≤ {_LATE_MS:g} ms", late_ms <= _LATE_MS
    bare_ms = max(found["details"]["schedule_delay"]["bare_p99_ms"])
    yield "  of a timer that sends nothing, p99", f"{bare_ms:.3f} ms", f"≤ {_LATE_MS:g} ms", bare_ms <= _LATE_MS
    for size, share in found["attributed_share_p50"].items():
        what = f"latency attributed, resnet56, batch {size}, p50"
        yield what, f"{share:.2%}", f"≥ {_ATTRIBUTED:.0%}", share >= _ATTRIBUTED
    kept_mb = found["mb_per_100k_responses"]
    yield "memory of 100,000 responses", f"{kept_mb:.0f} MB", f"< {_KEPT_MB:.0f} MB", kept_mb < _KEPT_MB
    for what, key in _GROWN.items():
        off = found["details"]["memory"]["off_the_line"][key]
        yield f"  {what}, off a straight line by at most", f"{off:.1%}", f"≤ {_OFF_THE_LINE:.0%}", off <= _OFF_THE_LINE
