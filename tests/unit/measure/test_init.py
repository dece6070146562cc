"""The phases of a worker's start, with a simulated server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import silent
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.measure import Budget, Context, measure_init
from pytest_torchserve.phase import ABSENCES, INIT_PHASES, Phase

NEEDED = [phase for phase in INIT_PHASES if phase not in ABSENCES]


class Played:
    """A simulated endpoint whose workers report these phases of their start."""

    def __init__(self, cat, make_response, init, fails_at=0):
        self.deployment = Deployment(cat.artifacts.model, "cpu", Batching())
        self.make_response = make_response
        self.init = init
        self.fails_at = fails_at
        self.starts = 0

    def workers(self):
        """Return no workers: none has to be ended."""
        return []

    def scale(self, workers):
        """Start a new process."""
        self.starts += 1
        return 10**18

    def send(self, load, samples, more, clock):
        """Give the first answer of a worker."""
        failure = {"status": 503, "error": "HTTP 503", "failure": Failure.HTTP} if self.starts == self.fails_at else {}
        made = self.make_response(samples[0], pid=self.starts, **failure)
        more([made._replace(head=made.head.replace(b"load_model;dur=5", self.init.encode()))])


@pytest.mark.parametrize("warm_up_ms", [None, 30.0])
def test_a_warm_up_is_stored_where_there_is_one(make_queue, make_response, cat, warm_up_ms):
    """Each worker has one warm-up time; a handler without a warm-up has neither zeros nor an empty phase."""
    init = "load_model;dur=5" + (f", warm_up;dur={warm_up_ms}" if warm_up_ms else "")
    played = Played(cat, make_response, init)
    run = measure_init(played, Context(cat, Budget(init_rounds=3), silent, make_queue(1.0).monitor))
    assert run.wrong == run.invalid == ()
    assert set(run.seconds) == {*NEEDED, *([Phase.WARM_UP] if warm_up_ms else [])}
    assert run.pooled(Phase.WARM_UP) == ([0.03] * 3 if warm_up_ms else [])
    assert run.processes == run.checked == 3


def test_a_failed_start_is_one_of_those_asked(make_queue, make_response, cat):
    """A failed start is counted among all starts, also without golden answers: the two before it were judged, too."""
    cat = replace(cat, samples=tuple(replace(sample, answer=None, label=None) for sample in cat.samples))
    played = Played(cat, make_response, "load_model;dur=5", fails_at=3)
    run = measure_init(played, Context(cat, Budget(init_rounds=3), silent, make_queue(1.0).monitor))
    assert run.invalid == ("requests failed: 1 of 3: HTTP 503 × 1",)
