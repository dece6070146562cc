"""Traffic through a real TorchServe: the latency breakdown is right, and an attached server is left as it was."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pytest_torchserve import Model
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.loadgen.arrivals import ConstantRate, Poisson
from pytest_torchserve.loadgen.clock import MonotonicClock
from pytest_torchserve.loadgen.locust import LocustEngine
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.loadgen.schedule import FullBatches
from pytest_torchserve.measure.batches import batches
from pytest_torchserve.measure.latency_breakdown import Stage, latency_breakdown, stages

SERVED = Path(__file__).parents[1] / "served"
ROOT = Path(__file__).parents[2]
SLEPT_S = {Stage.PREPROCESS: 0.003, Stage.INFERENCE: 0.020, Stage.POSTPROCESS: 0.001}

LOAD = """
from pytest_torchserve.phase import Phase
def test_load(ts_load_run, ts_store):
    assert ts_load_run.wrong == ()
    ts_store(ts_load_run, Phase.LATENCY)
"""


CAPACITY = """
def test_capacity(ts_capacity_run, ts_store):
    ts_store(ts_capacity_run, Phase.LATENCY)
"""


def plain(name):
    """Return a model without a network, with a handler of `tests/served`."""
    return Model(name=name, handler=SERVED / f"{name}.py", reference=SERVED / "nothing.py", dataset="cifar10")


def put(endpoint, load, samples):
    """Send the load; return all responses with their probe reports, and the frontend times by request id."""
    responses = []

    def more(fresh):
        responses.extend(fresh)
        return not isinstance(load, FullBatches)

    log_offset = endpoint.log_offset()
    endpoint.send(load, samples, more, MonotonicClock())
    pairs = [(response, ProbeReport.of(response)) for response in responses]
    wanted = {report.request_id for _, report in pairs}
    frontend_times = endpoint.frontend_times(log_offset, wanted)
    assert frontend_times.keys() == wanted
    return pairs, frontend_times


def test_the_waterfall_of_a_sleeper(ts_deploy, ts_inputs):
    """Every request has frontend times; the stages are as long as the sleeps; next to nothing is unattributed."""
    model = plain("sleeper")
    endpoint = ts_deploy(model)
    samples = ts_inputs(model).samples
    put(endpoint, FullBatches(1), samples)
    pairs, frontend_times = put(endpoint, ConstantRate(20, 2.0), samples)
    assert len(pairs) == len(frontend_times) == 40
    fall = latency_breakdown(pairs, frontend_times)
    assert fall.caveat == ""
    assert fall.attributed_p50 > 0.99
    rows = [stages(response, report, frontend_times[report.request_id]) for response, report in pairs]
    for stage, slept_s in SLEPT_S.items():
        assert statistics.median(row[stage] for row in rows) >= slept_s
    handled_s = statistics.median(sum(row[stage] for stage in SLEPT_S) for row in rows)
    assert handled_s <= 1.5 * sum(SLEPT_S.values())
    assert all(value >= 0 for row in rows for stage, value in row.items() if stage is not Stage.UNATTRIBUTED)


def test_a_queue_is_told_apart_from_a_batch_that_fills(ts_deploy, ts_inputs):
    """A request that queues, then waits for its batch to fill, has both times.

    Three requests at batch size 2 and a second of work: two leave at once, the third queues, then waits.
    """
    model = plain("napper")
    endpoint = ts_deploy(model, batch_size=2, max_batch_delay_ms=600)
    samples = ts_inputs(model).samples[:3]
    pairs, frontend_times = put(endpoint, FullBatches(3), samples)
    third = max(pairs, key=lambda pair: pair[1].batch)
    row = stages(*third, frontend_times[third[1].request_id])
    assert 0.8 <= row[Stage.QUEUE] / third[1].phases_s["handle"] <= 1.5
    assert 1.0 <= row[Stage.FILL] / 0.6 <= 1.5
    found = batches([report for _, report in pairs], frontend_times, 2)
    assert found.sizes == {1: 1, 2: 1}
    assert found.cut == 1
    assert max(found.fill_wait_s) == pytest.approx(row[Stage.FILL])


def attached(suite, endpoint, tmp_path, *args, key=None, management=True, test=""):
    """Run a session that measures this endpoint as an attached server; return its result and its runs."""
    suite.makepyfile(test_suite=LOAD + test)
    server = endpoint.server
    os.environ["TS_INFERENCE_KEY"] = server.address.key if key is None else key
    os.environ["TS_MANAGEMENT_KEY"] = server.management._session.headers["Authorization"].removeprefix("Bearer ")
    samples = tmp_path / "samples"
    samples.mkdir(exist_ok=True)
    for index in range(3):
        (samples / f"{index}.bin").write_bytes(bytes([index]) * 100)
    told = [f"--ts-url={server.address.url}", f"--ts-url-model={endpoint.name}", f"--ts-samples={samples}"]
    told += [f"--ts-management-url={server.management.url}"] if management else []
    journal = suite.path / "journal"
    journal.unlink(missing_ok=True)
    result = suite.runpytest_subprocess(
        *told, f"--ts-journal={journal}", "--ts-loads=closed:2,constant:20", "--ts-load-seconds=1", *args
    )
    lines = journal.read_text().splitlines() if journal.exists() else []
    return result, [json.loads(line) for line in lines if '"line": "run"' in line]


@pytest.fixture
def keys_aside(monkeypatch):
    """Clear the environment's keys, and restore them after the test."""
    for name in ("TS_INFERENCE_KEY", "TS_MANAGEMENT_KEY"):
        monkeypatch.setenv(name, "")


def test_two_workers_share_a_load(suite):
    """Two workers answer twice as much as one, and both are warm when the load begins.

    A sleeper's answers take nothing of the processor, so that the ratio is that of the workers.
    """
    noop = (ROOT / "handlers" / "noop.py").read_text()
    slow = noop.replace("        return data\n", "        time.sleep(0.02)\n        return data\n")
    suite.makepyfile(slow=slow.replace("import zlib", "import time\nimport zlib"))
    suite.makeconftest(
        f"""
        from dataclasses import replace
        from pathlib import Path
        from models.catalogue import NOOP
        def pytest_torchserve_models(config):
            return [replace(NOOP, name="sleeper", handler=Path({str(suite.path)!r}) / "slow.py")]
        """
    )
    marked = LOAD.replace("def test", '@pytest.mark.ts_models("sleeper")\ndef test')
    suite.makepyfile(test_suite=f"import pytest\n{marked}")
    told = ["--ts-workers=1,2", "--ts-loads=closed:4", "--ts-batching=1/0", "--ts-load-seconds=3"]
    result = suite.runpytest_subprocess("-m", "cpu", *told, f"--ts-journal={suite.path}/journal")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["model * workers *load *", "sleeper * 1 closed4 *", "sleeper * 2 closed4 *"])
    runs = [json.loads(line) for line in (suite.path / "journal").read_text().splitlines() if '"line": "run"' in line]
    assert [(run["cell"], run["workers"], run["processes"]) for run in runs] == [
        ("sleeper-cpu-b1-d0-closed4", 1, 1),
        ("sleeper-cpu-b1-d0-w2-closed4", 2, 2),
    ]
    assert 1.8 <= runs[1]["throughput"] / runs[0]["throughput"] <= 2.4
    shares = [len(seconds) for seconds in runs[1]["seconds"]["latency"].values()]
    assert min(shares) > 0.8 * max(shares)


@pytest.mark.usefixtures("keys_aside")
def test_someone_elses_server(suite, ts_deploy, tmp_path):
    """An attached model is measured (traffic, phases, batch size), and not scaled, registered or stopped."""
    endpoint = ts_deploy(plain("sleeper"), batch_size=2, max_batch_delay_ms=50)
    before, models = endpoint.server.management.describe(endpoint.name), endpoint.server.management.models()
    result, runs = attached(suite, endpoint, tmp_path)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*answers without a FILE.answer.json are only checked for their status*"])
    assert [run["load"] for run in runs] == ["closed2", "constant20"]
    assert all(run["traffic"]["batches"]["configured"] == 2 and run["traffic"]["asked"] for run in runs)
    assert all(run["traffic"]["waterfall"]["one_clock"] for run in runs)
    assert all(not run["traffic"]["waterfall"]["queue_told"] for run in runs)
    after = endpoint.server.management.describe(endpoint.name)
    assert endpoint.server.management.models() == models
    assert [w["pid"] for w in after["workers"]] == [w["pid"] for w in before["workers"]]


class Relay:
    """A listener on the IPv6 loopback that passes every connection on to a port on the IPv4 loopback."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _pass_on(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        """Take no more connections."""
        self._listener.close()


@pytest.mark.usefixtures("keys_aside")
def test_names_and_addresses_of_every_kind(suite, ts_deploy, tmp_path):
    """A name with a space and an umlaut, a model's version, and an IPv6 address are measured as any other."""
    name, asked = "große Wörter", "große Wörter/1.0"
    ours = ts_deploy(plain("sleeper"))
    server = ours.server
    server.management.register(name, ours.archive.path.name, ours.deployment.batching)
    relay = Relay(server.address.port)
    try:
        server.management.scale(name, 1, timeout_s=60)
        endpoint = SimpleNamespace(server=SimpleNamespace(), name=asked)
        endpoint.server.management = server.management
        endpoint.server.address = Address("::1", relay.port, server.address.key)
        result, runs = attached(suite, endpoint, tmp_path)
        result.assert_outcomes(passed=2)
        assert [(run["errors"], run["workers"]) for run in runs] == [({}, 1)] * 2
    finally:
        relay.close()
        server.management.unregister(name)


@pytest.mark.usefixtures("keys_aside")
def test_the_capacity_of_a_sleeper(suite, ts_deploy, tmp_path):
    """With 24 ms of work for each request, one after the other, a goal of 100 ms is crossed below 1/0.024 requests/s.

    The curve is shown, and what was read from it.
    """
    endpoint = ts_deploy(plain("sleeper"))
    search = ("-m", "capacity", "--ts-capacity-seconds=40", "--ts-slo-ms=100")
    result, runs = attached(suite, endpoint, tmp_path, *search, test=CAPACITY)
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*requests/s: there p* crosses the goal*", "*rate/s    s requests*"])
    found = runs[0]["capacity"]
    assert 0.4 / 0.024 <= found["crossing_per_s"] <= 1.05 / 0.024
    assert (found["rate_per_s"] or 0.0) <= found["crossing_per_s"]
    assert len(found["steps"]) >= 2


def locust_pids():
    """Return the process ids of all Locust processes of this package that run now, whoever started them."""
    found = psutil.process_iter(["pid", "cmdline"])
    return {
        p.info["pid"]
        for p in found
        if any("pytest_torchserve.loadgen.locust" in word for word in p.info["cmdline"] or ())
    }


@pytest.mark.usefixtures("keys_aside")
def test_a_session_with_locust(suite, ts_deploy, tmp_path):
    """The option changes the engine only: same cells, same records, same checks, and no process is left running."""
    endpoint = ts_deploy(plain("sleeper"), batch_size=2, max_batch_delay_ms=50)
    before = locust_pids()
    locust = ("--ts-load-engine=locust", "--ts-load-workers=2")
    result, runs = attached(suite, endpoint, tmp_path, *locust)
    result.assert_outcomes(passed=2)
    assert [run["load"] for run in runs] == ["closed2", "constant20"]
    assert runs[1]["traffic"]["asked"] == 20
    assert all(run["errors"] == {} and run["traffic"]["waterfall"]["one_clock"] for run in runs)
    assert locust_pids() <= before


@pytest.mark.usefixtures("keys_aside")
def test_wrong_key(suite, ts_deploy, tmp_path):
    """With a wrong key every request is a counted HTTP 400; the run is INVALID and fails, and nothing is stored."""
    endpoint = ts_deploy(plain("sleeper"), batch_size=2, max_batch_delay_ms=50)
    result, runs = attached(suite, endpoint, tmp_path, "--ts-loads=constant:20", key="nonsense", management=False)
    result.assert_outcomes(failed=1)
    assert runs[0]["errors"] == {"HTTP 400": 20}
    assert runs[0]["validity"] == "INVALID"
    assert "requests failed: 20 of 20: HTTP 400 × 20" in runs[0]["invalid"]


@pytest.mark.usefixtures("keys_aside")
def test_an_archive_without_the_probe(suite, ts_deploy, tmp_path):
    """An archive of torch-model-archiver, without the probe, gives latency only, and the output says so."""
    ours = ts_deploy(plain("sleeper"), batch_size=2, max_batch_delay_ms=50)
    store, management = ours.server.store, ours.server.management
    archiver = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", "stranger", "--version", "1.0"]
    archiver += ["--handler", str(ROOT / "handlers" / "noop.py"), "--export-path", str(store), "--force"]
    subprocess.run(archiver, check=True, capture_output=True)
    try:
        management.register("stranger", "stranger.mar", ours.deployment.batching)
        management.scale("stranger", 1, timeout_s=60)
        ours.name = "stranger"
        result, runs = attached(suite, ours, tmp_path, "--ts-loads=closed:2")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*the answers carry no Server-Timing: latency only*"])
        assert runs[0]["traffic"]["waterfall"]["probed"] is False
        assert runs[0]["traffic"]["asked"] == runs[0]["traffic"]["waterfall"]["requests"]
    finally:
        ours.name = ours.deployment.name
        management.unregister("stranger")
        (store / "stranger.mar").unlink()


@pytest.mark.usefixtures("keys_aside")
def test_a_model_that_is_not_there(suite, ts_deploy, tmp_path):
    """A model that the management API does not know gives one message and no traffic."""
    endpoint = ts_deploy(plain("sleeper"), batch_size=2, max_batch_delay_ms=50)
    result, runs = attached(suite, endpoint, tmp_path, "--ts-url-model=nobody")
    result.assert_outcomes(errors=2)
    assert runs == []
    result.stdout.fnmatch_lines(["*wanted: describing nobody*"])


def test_locust_and_the_built_in_sender_agree(ts_deploy, ts_inputs):
    """Two Locust workers and the built-in client send the same seeded load in turn, with the same results.

    Counts and schedules are equal. Median latencies of twice 50 requests to a handler that sleeps 24 ms differ by the
    time that Locust itself takes, which is under a quarter of these 24 ms.
    """
    model = plain("sleeper")
    endpoint = ts_deploy(model)
    samples = ts_inputs(model).samples
    load, medians, schedules = Poisson(10, 5.0, seed=4), {"built in": [], "locust": []}, []
    put(endpoint, FullBatches(1), samples)
    with LocustEngine(2) as locust_engine:
        for engine, name in [(client.send, "built in"), (locust_engine, "locust")] * 2:
            endpoint.engine = engine
            pairs, frontend_times = put(endpoint, load, samples)
            assert all(response.error is None for response, _ in pairs)
            first_ns = min(response.scheduled_ns for response, _ in pairs)
            schedules.append(sorted(response.scheduled_ns - first_ns for response, _ in pairs))
            medians[name].append(statistics.median(response.latency_s for response, _ in pairs))
            assert latency_breakdown(pairs, frontend_times).attributed_p50 > 0.99
        assert locust_engine.one_clock
    endpoint.engine = client.send
    assert all(schedule == schedules[0] for schedule in schedules)
    assert len(schedules[0]) == len(list(load.departures_ns()))
    assert 0.8 <= statistics.fmean(medians["locust"]) / statistics.fmean(medians["built in"]) <= 1.25
