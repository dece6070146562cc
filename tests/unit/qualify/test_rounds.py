"""The results of the rounds of the client's benchmark, and its report of missed targets."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "tools" / "qualify"))

from clients import memory, report, rounds


def made(*speeds: dict[str, float]) -> list[dict]:
    """Return rounds at each connection count; in each, every client runs right beside a run of ours."""
    return [
        {
            "connections": connections,
            "blocks": [
                [
                    {"client": "ours", "per_s": of_round["ours"], "cpu_us": 90.0},
                    {"client": name, "per_s": of_round[name], "cpu_us": 120.0},
                ]
                for name in of_round
                if name != "ours"
            ],
        }
        for of_round in speeds
        for connections in rounds.CONNECTIONS
    ]


def test_a_client_is_compared_with_the_runs_beside_it():
    """The mean of our runs right before and after a client counts; a run further away does not count."""
    block = [
        {"client": client, "per_s": per_s}
        for client, per_s in (("ours", 90), ("wrk", 100), ("ours", 110), ("hey", 55), ("ours", 1000))
    ]
    assert dict(rounds.ratios(block)) == {"wrk": 1.0, "hey": pytest.approx(555 / 55)}


def test_the_ratio_is_the_median_of_the_rounds_with_an_interval():
    """A disturbed round moves neither ratio nor interval far; a client that did not run has neither."""
    ratios = [1.0, 1.1, 1.2, 1.3, 9.0]
    told = made(*({"ours": ratio * 100, "ab": 100.0} for ratio in ratios))
    assert rounds.against(told, "ab")["4"] == pytest.approx(1.2)
    low, high = rounds.certain(told, "ab")["4"]
    assert low < 1.2 < high
    assert math.sqrt(low * high) == pytest.approx(math.prod(ratios) ** (1 / 5))
    assert rounds.against(told, "hey") == rounds.certain(told, "hey") == {"1": None, "4": None, "16": None}


def test_too_few_rounds_have_no_interval():
    """Two rounds do not show how far the next round would lie from them."""
    told = made({"ours": 1.0, "ab": 1.0}, {"ours": 1.1, "ab": 1.0})
    assert rounds.certain(told, "ab")["1"] is None


def test_what_costs_next_to_nothing_is_compared_in_the_same_round():
    """Each client is compared with wrk and the raw socket in the same round; neither of these with itself."""
    told = made({"ours": 1.0, "wrk": 100.0, "raw socket": 80.0, "locust": 160.0})
    found = rounds.bounds(told, "locust")["16"]
    assert {cheap: made["median"] for cheap, made in found.items()} == {"wrk": 0.625, "raw socket": 0.5}
    assert list(rounds.bounds(told, "wrk")["16"]) == ["raw socket"]
    assert found["raw socket"]["interval"] is None
    among = made(*({"ours": 1.0, "raw socket": speed, "ab": 100.0} for speed in (80.0, 85.0, 90.0, 95.0, 100.0)))
    low, high = rounds.bounds(among, "ab")["1"]["raw socket"]["interval"]
    assert low < 0.9 < high


def found(ratio: float, late_ms: float) -> dict:
    """Return a whole result, in which ours ÷ ab is `ratio` and our client is `late_ms` late."""
    told = made(*[{"ours": 100 * ratio, "ab": 100.0, "raw socket": 100.0}] * 5)
    return {
        "throughput_vs_ab": rounds.against(told, "ab"),
        "intervals": {"ab": rounds.certain(told, "ab")},
        "bounds": {"ab": {}},
        "cpu_us_per_request": 90.0,
        "schedule_delay_p99_ms": late_ms,
        "attributed_share_p50": {"1": 0.999},
        "mb_per_100k_responses": 88.0,
        "details": {
            "medians": {name: rounds.medians(told, name) for name in ("ours", "ab", "raw socket")},
            "schedule_delay": {"bare_p99_ms": [0.5, 2.5]},
            "memory": {"off_the_line": {"rss_mb": 0.01, "send_s": 0.02, "check_cpu_s": 0.03}},
        },
    }


@pytest.mark.parametrize(
    ("ratio", "late_ms", "missed"),
    [(1.1, 0.3, []), (0.9, 0.3, ["throughput ÷ that of ab"]), (1.1, 3.0, ["schedule delay at 500/s, p99"])],
    ids=["reached", "slower", "late"],
)
def test_a_missed_target_is_named(ratio, late_ms, missed):
    """A missed target is named, beside the limits of the machine: a timer at its worst, and bare system calls."""
    lines = report.text(found(ratio, late_ms)).splitlines()
    (timer,) = [line for line in lines if "timer that sends nothing" in line]
    (raw_socket,) = [line for line in lines if "of the raw socket" in line]
    assert "2.500 ms" in timer
    assert "120.0 µs" in raw_socket
    ours = [line for line in lines if line not in (timer, raw_socket)]
    assert [line.split("  ")[0] for line in ours if line.endswith("MISSED")] == missed


def test_what_does_not_grow_in_a_straight_line_is_seen():
    """Linear growth with an offset lies on the line; growth with the square does not."""
    rows = [{"responses": size, "line": 3e-6 * size - 2, "square": size**2} for size in memory.SIZES]
    assert memory.off_the_line(rows, "line") == pytest.approx(0.0)
    assert memory.off_the_line(rows, "square") > 0.1
