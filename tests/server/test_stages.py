"""Where time goes: a delay that is planted on the way of a request is found in its stage, and in no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_torchserve.loadgen.arrivals import Poisson
from pytest_torchserve.model import Model

sys.path.append(str(Path(__file__).parents[2] / "tools" / "qualify"))
from batcher import agreement
from planted_delays import STAGES, measure

SERVED = Path(__file__).parents[1] / "served"
SIZE = 4


MODEL = Model(name="planted", handler=SERVED / "planted.py", reference=SERVED / "nothing.py", dataset="cifar10")


@pytest.fixture(scope="module")
def shares(ts_deploy):
    """Return the shares of the delay in each stage, by place."""
    return measure(ts_deploy(MODEL, batch_size=SIZE, max_batch_delay_ms=1000), SIZE, rounds=3, batches=5)


@pytest.mark.parametrize("place", STAGES)
def test_a_planted_delay_is_found_in_its_stage(shares, place):
    """Nine tenths of 20 ms at least are in the stage of their place, and a quarter at most in any other."""
    found = shares[place]
    assert found[STAGES[place]] >= 0.9, found
    assert {stage: share for stage, share in found.items() if stage != STAGES[place] and abs(share) > 0.25} == {}


def test_queue_and_fill_wait_are_those_of_the_batcher(ts_deploy, ts_inputs):
    """Under random arrivals each request waits as in a simulation of the batcher that has the same arrivals.

    Nine tenths of the batches at least have the same size; queue and fill wait differ by a quarter at most.
    """
    endpoint = ts_deploy(MODEL, batch_size=SIZE, max_batch_delay_ms=50)
    told = agreement(endpoint, ts_inputs(MODEL).samples, Poisson(150, 5.0), 0.05)
    waits_s = told["queue mean_s"] + told["fill wait mean_s"]
    assert told["batches_alike"] >= 0.9, told
    assert told["queue apart_s"] + told["fill wait apart_s"] <= 0.25 * waits_s, told
