"""Where time goes, proven on a real TorchServe: `make bench-stages`.

A pytest session of one test: it plants 20 ms at each place on the way of a request, with one full batch in flight, and
says in which stage they are found; then it compares queue and fill wait under load with a simulation of the batcher.
Writes build/bench/stages.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
from batcher import agreement
from planted_delays import STAGES, measure

from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.model import Model

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "bench" / "stages.json"
SERVED = ROOT / "tests" / "served"
MODEL = Model(name="planted", handler=SERVED / "planted.py", reference=SERVED / "nothing.py", dataset="cifar10")
SIZE = 4
DELAY_MS = 50
IN_ITS_STAGE = 0.95
ELSEWHERE = 0.02
RATES = (40, 120, 180)


def test_stages(ts_deploy: Any, ts_inputs: Any) -> None:
    """Measure, print and write."""
    found = measure(ts_deploy(MODEL, batch_size=SIZE, max_batch_delay_ms=1000), SIZE, rounds=12, batches=10)
    endpoint, samples = ts_deploy(MODEL, batch_size=SIZE, max_batch_delay_ms=DELAY_MS), ts_inputs(MODEL).samples
    waits = {str(rate): agreement(endpoint, samples, Poisson(rate, 20.0), DELAY_MS / 1e3) for rate in RATES}
    print(f"\n{'20 ms planted':<26} {'stage':<12} {'found there':>11}  most in any other")
    worst = {}
    for place, shares in found.items():
        own = STAGES[place].value
        other = max((share for share in shares.items() if share[0] != own), key=lambda share: abs(share[1]))
        worst[place] = round(abs(other[1]), 4)
        print(f"{place:<26} {own:<12} {shares[own]:>11.3f}  {other[1]:.3f} ({other[0]})")
    for rate, told in waits.items():
        print(f"{rate}/s: " + ", ".join(f"{name} {value:.4g}" for name, value in told.items()))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    planted = {place: shares[STAGES[place].value] for place, shares in found.items()}
    OUT.write_text(
        json.dumps({"planted_delay": planted, "elsewhere": worst, "shares": found, "waits": waits}, indent=1)
    )
    assert min(planted.values()) >= IN_ITS_STAGE  # noqa: S101 - a test
    assert max(worst.values()) <= ELSEWHERE  # noqa: S101 - a test
