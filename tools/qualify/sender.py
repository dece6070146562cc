"""Benchmark of our client against other clients: `python tools/qualify/sender.py`, or `make bench-sender`.

On one TorchServe, in one run, wrk, ab, hey, Locust and requests send the same bytes to the `noop` model, each right
beside our client, in an order drawn anew for every round. The result is the median over the rounds of ours ÷ theirs,
taken within a round: other load on the machine affects both. Then come our client's processor time, its schedule delay,
the share of a latency that it attributes, and the memory and time that a hundred thousand responses take. Writes
build/bench/sender.json and prints a table. A figure that misses its target is no failure; a figure that could not be
measured is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients import ROOT, memory, others, ours, report, rounds, service
from clients.rounds import CONNECTIONS, OURS

from models.catalogue import NOOP, RESNET56
from pytest_torchserve import environment
from pytest_torchserve.errors import SuiteError
from pytest_torchserve.torchserve import java

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM_UP_AT = 16  # connections: the more requests, the sooner the JVM has compiled their code
WARM_UP_MOST_S = 30.0
WARM_UP_RUNS = 10
PUNCTUAL_PER_S, PUNCTUAL_S = 500.0, 10.0
PACE_PER_S, PACE_S = 10.0, 10.0
BATCH_SIZES = (1, 16)
SEED = 1


def blocks(names: Sequence[str], draw: random.Random) -> list[list[str]]:
    """Return the order of one round: wrk between two runs of ours, each other client beside one run of ours.

    Four runs of ours serve six other clients: X ours wrk ours X, X ours X and X ours, these blocks in random order.
    """
    rest = draw.sample([name for name in names if name != "wrk"], k=len(set(names) - {"wrk"}))
    middle = [OURS, "wrk", OURS] if "wrk" in names else [OURS]
    found = [[*rest[0:1], *middle, *rest[1:2]]]
    found += [[rest[at], OURS, *rest[at + 1 : at + 2]] for at in range(2, len(rest), 2)]
    draw.shuffle(found)
    return found


def compare(noop: service.Deployed, target: others.Target, clients: dict[str, others.Client], options: Any) -> list:
    """Return every run of every round, in the order in which the runs were made."""
    draw, found = random.Random(SEED), []  # noqa: S311 - an order, no secret
    for number in range(1, options.rounds + 1):
        for connections in CONNECTIONS:
            blocks_made = [
                [_run(name, noop, target, clients, connections, options.seconds) for name in block]
                for block in blocks(list(clients), draw)
            ]
            found.append({"round": number, "connections": connections, "blocks": blocks_made})
            told = "  ".join(f"{run['client']} {run['per_s']:.0f}" for block in blocks_made for run in block)
            print(f"round {number}/{options.rounds}, {connections:2} connections, requests/s: {told}", flush=True)
    return found


def _run(name, noop, target, clients, connections, duration_s) -> dict[str, Any]:
    """Run one client once; return its figures."""
    if name == OURS:
        tally = ours.closed_loop(noop, connections, duration_s)
        return {"client": OURS, **tally._asdict(), "cpu_us": tally.cpu_us}
    return {"client": name, **others.run(clients[name], target, connections, duration_s)}


def versions(clients: dict[str, others.Client]) -> dict[str, Any]:
    """Return the version of everything that takes part; None for a program that does not print its version."""
    found: dict[str, Any] = {name: client.version() for name, client in clients.items()}
    ours_use = {name: environment.version(name) for name in ("uvloop", "httptools")}
    return found | ours_use | environment.software() | {"java": java.find().version}


def schedule_delay(noop: service.Deployed) -> dict[str, Any]:
    """Return the schedule delay of our client, and before and after it that of a timer that sends nothing."""
    bare = [ours.bare_schedule_delay(PUNCTUAL_PER_S, PUNCTUAL_S)]
    found: dict[str, Any] = {**ours.schedule_delay(noop, PUNCTUAL_PER_S, PUNCTUAL_S)}
    bare.append(ours.bare_schedule_delay(PUNCTUAL_PER_S, PUNCTUAL_S))
    return found | {"bare_p99_ms": [made["p99_ms"] for made in bare]}


def attributed(running: service.Service) -> dict[str, dict[str, Any]]:
    """Return the latency breakdown of resnet56 at each batch size, one deployment after the other."""
    found = {}
    for batch_size in BATCH_SIZES:
        deployed = running.deploy(RESNET56, batch_size)
        found[str(batch_size)] = ours.attributed(deployed, PACE_PER_S, PACE_S)
        deployed.endpoint.close()
    return found


def measure(clients: dict[str, others.Client], options: Any) -> dict[str, Any]:
    """Measure everything on one server."""
    with tempfile.TemporaryDirectory() as folder, service.running(Path(folder)) as running:
        noop = running.deploy(NOOP, 1).with_one_sample()
        target = others.Target.write(Path(folder), running.server.address, noop.endpoint.path, noop.inputs.samples[0])
        windows = ours.warm_up(noop, WARM_UP_AT, min(WARM_UP_MOST_S, WARM_UP_RUNS * options.seconds))
        print(f"warmed up, requests/s: {', '.join(f'{per_s:.0f}' for per_s in windows)}", flush=True)
        made = compare(noop, target, clients, options)
        punctual = schedule_delay(noop)
        kept = memory.measure(noop)
        explained = attributed(running)
    return {
        "warm_up_per_s": windows,
        "medians": {name: rounds.medians(made, name) for name in (OURS, *clients)},
        "schedule_delay": punctual,
        "attributed": explained,
        "memory": kept,
        "rounds": made,
    }


def summarised(details: dict[str, Any], missing: list[str]) -> dict[str, Any]:
    """Return the figures with a target or an interval, and under `details` all that they are computed from."""
    largest = details["memory"]["sizes"][-1]
    return {
        **{f"throughput_vs_{client.name}": rounds.against(details["rounds"], client.name) for client in others.CLIENTS},
        "intervals": {
            client.name: rounds.certain(details["rounds"], client.name)
            for client in (*others.CLIENTS, others.RAW_SOCKET)
        },
        "bounds": {client.name: rounds.bounds(details["rounds"], client.name) for client in others.CLIENTS},
        "cpu_us_per_request": max(made["cpu_us"] for made in details["medians"][OURS].values()),
        "schedule_delay_p99_ms": details["schedule_delay"]["p99_ms"],
        "attributed_share_p50": {size: found["attributed_p50"] for size, found in details["attributed"].items()},
        "mb_per_100k_responses": largest["rss_mb"] * 1e5 / largest["responses"],
        "missing": missing,
        "details": details,
    }


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=2, help="of each client's run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="in which every client runs (default %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "sender.json", help="the figures")
    options = parser.parse_args()
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are whole numbers from 1")
    return options


def main() -> None:
    """Measure the clients that are installed, and name those that are missing."""
    options, start_s = arguments(), time.monotonic()
    clients = {client.name: client for client in others.CLIENTS if client.present()}
    clients[others.RAW_SOCKET.name] = others.RAW_SOCKET
    absent = [client for client in others.CLIENTS if client.name not in clients]
    for client in absent:
        print(f"{client.name} is not here, and is left out; to get it: {client.get_it}", flush=True)
    try:
        details = measure(clients, options)
    except SuiteError as error:
        raise SystemExit(str(error)) from error
    details |= {
        "versions": versions(clients),
        "machine": {**environment.machine(), "cpus": os.cpu_count()},
        "seconds": options.seconds,
        "rounds_made": options.rounds,
        "took_s": time.monotonic() - start_s,
    }
    found = summarised(details, [client.name for client in absent])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(report.text(found))
    print(f"\n{options.out} holds every measurement; it took {details['took_s']:.0f} s")


if __name__ == "__main__":
    main()
