"""The fixtures that the unit tests and the tests on a real server share."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from fakes import FakeClock, FakeMonitor, FakeServer
from pytest_torchserve.inputs.model_inputs import ModelArtifacts, ModelInputs
from pytest_torchserve.loadgen.response import Failure, Response
from pytest_torchserve.loadgen.schedule import ClosedLoop, FullBatches
from pytest_torchserve.model import Model, Sample

ROOT = Path(__file__).parents[1]


# Tests send it to processes of theirs; a shell's background job, such as CI may be, would have them ignore it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _make_sample(name="one", label="cat"):
    """Return a sample whose answer is a cat with 0.9."""
    return Sample(name=name, body=b"x", answer={"cat": 0.9, "dog": 0.1}, label=label, complete=True)


CAT = _make_sample()


def _make_response(
    sample=None,
    *,
    answer=None,
    status=200,
    error=None,
    pid=7,
    batch=1,
    size=1,
    device="cpu",
    sent_s=0.0,
    scheduled_s=None,
    failure=None,
    handle_ns=None,
    request_id="",
    probed=True,
    done_s=1.0,
    **phases_ms,
):
    """Return a response with the probe's headers; an `answer` of None is the right answer to `make_sample()`."""
    phases_ms = phases_ms or {"preprocess": 1.0, "inference": 2.0, "postprocess": 1.0, "handle": 4.0}
    sent_ns, done_ns = round(sent_s * 1e9), round(done_s * 1e9)
    start_ns, end_ns = handle_ns or (sent_ns, done_ns)
    timing = ", ".join(f"{name};dur={value}" for name, value in phases_ms.items())
    return Response(
        sample=sample or CAT,
        scheduled_ns=sent_ns if scheduled_s is None else round(scheduled_s * 1e9),
        begun_ns=sent_ns,
        sent_ns=sent_ns,
        first_byte_ns=done_ns,
        done_ns=done_ns,
        status=status,
        head=head(
            **{
                "Server-Timing": timing,
                "TS-Probe-Batch": f"id={batch};size={size};pid={pid};device={device};"
                f"start={start_ns};end={end_ns};gpu=0",
                "TS-Probe-Init": "load_model;dur=5, to_device;dur=1, initialize;dur=7",
                "x-request-id": request_id,
            }
        )
        if probed
        else head(),
        body=json.dumps({"cat": 0.9} if answer is None else answer).encode(),
        error=error,
        failure=failure,
    )


def head(**headers):
    """Return the head of a response as it comes over the wire."""
    return "\r\n".join(["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]).encode()


class _Queue:
    """A simulated worker that takes `service_s` for each request, one after the other; a load takes no real time.

    Attributes:
        clock: shows the simulated time that the loads took.
    """

    batch_size = 1
    worker_count = 1
    probed = owned = same_host = True
    monitor = FakeMonitor()

    def __init__(self, make_response, service_s, wrong_above=float("inf"), refused_above=float("inf"), late_s=0.0):
        self._make_response = make_response
        self._service_s = service_s
        self._wrong_above = wrong_above
        self._refused_above = refused_above
        self._late_s = late_s
        self.clock = FakeClock()

    def refuse_above(self, rate_per_s):
        """Refuse every request of a higher rate from now on."""
        self._refused_above = rate_per_s

    def send(self, load, samples, more, clock):
        """Simulate the load: each request waits for the requests before it."""
        if isinstance(load, FullBatches):
            more([self._answer(0.0, 0.0)])
            return
        if isinstance(load, ClosedLoop):
            due_s = [index * self._service_s for index in range(int(load.duration_s / self._service_s))]
            how = {}
        else:
            due_s = [at / 1e9 for at in load.departures_ns()]
            how = {
                "wrong": load.mean_rate_per_s > self._wrong_above,
                "refused": load.mean_rate_per_s > self._refused_above,
            }
        free_s, began_s = 0.0, self.clock.now_s
        for batch, at_s in enumerate(due_s):
            free_s = max(free_s, at_s) + self._service_s
            self.clock.now_s = began_s + free_s
            if not more([self._answer(at_s, free_s, batch=batch, **how)]):
                # As the client does: what was in flight when the load was broken off is given up.
                more(
                    [
                        _make_response(
                            scheduled_s=at_s,
                            sent_s=at_s,
                            done_s=free_s,
                            error="the load was over",
                            failure=Failure.UNANSWERED,
                        )
                    ]
                )
                return

    def _answer(self, at_s, done_s, *, batch=1, wrong=False, refused=False):
        busy = {"status": 503, "error": "HTTP 503", "failure": Failure.HTTP} if refused else {}
        answer = {"dog": 1.0} if wrong else None
        done_s += self._late_s
        return self._make_response(
            scheduled_s=at_s,
            sent_s=at_s + self._late_s,
            done_s=done_s,
            answer=answer,
            batch=batch,
            handle_ns=(round((done_s - self._service_s) * 1e9), round(done_s * 1e9)),
            **busy,
        )

    def log_offset(self):
        """Return 0: there is no log."""
        return 0

    def frontend_times(self, log_offset, wanted):
        """Return no times: there is no log."""
        return {}


@pytest.fixture(autouse=True)
def _sessions_of_their_own(monkeypatch):
    """Hide xdist's variables: a session that a test starts must not take itself for a worker of ours."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_queue():
    """`make_queue(service_s, wrong_above=…, refused_above=…, late_s=…)` returns a simulated worker."""
    return lambda service_s, **more: _Queue(_make_response, service_s, **more)


@pytest.fixture
def server():
    """`server(answer, greeting=…, tls=…)` starts a fake server on loopback; all are closed after the test."""
    started = []

    def start(*args, **kwargs):
        started.append(FakeServer(*args, **kwargs))
        return started[-1]

    yield start
    for fake in started:
        fake.close()


@pytest.fixture
def cat():
    """The inputs of a model whose one sample is a cat."""
    model = Model(name="cat", handler="x", reference=None, dataset="cifar10")
    return ModelInputs(ModelArtifacts(model, None, None, "seeded"), (CAT,), "synthetic")


@pytest.fixture
def make_response():
    """`make_response(sample=None, answer=None, pid=7, batch=1, size=1, handle=4.0, …)` returns a response."""
    return _make_response


@pytest.fixture
def make_sample():
    """`make_sample(name, label)` returns a sample."""
    return _make_sample


@pytest.fixture
def handlers(monkeypatch):
    """Import files of the folders of handlers and networks, as they lie together in an archive."""
    for folder in ("handlers", "models"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return importlib.import_module


@pytest.fixture
def suite(pytester, monkeypatch):
    """A repository in a folder of its own, for tests of the suite, with two models of this repository's catalogue."""
    monkeypatch.delenv("TS_DATA", raising=False)
    # Kept folders must not pile up in /tmp; and the workers' sockets need a short path.
    folder = tempfile.mkdtemp(prefix="suite-")
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    pytester.makeconftest(
        """
        from models.catalogue import NOOP, RESNET56
        def pytest_torchserve_models(config):
            return [NOOP, RESNET56]
        """
    )
    yield pytester
    shutil.rmtree(folder, ignore_errors=True)
