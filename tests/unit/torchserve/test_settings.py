"""The server's settings: the user's are merged, ours win where isolation needs it."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from pytest_torchserve._util.wait import wait_until
from pytest_torchserve.errors import OptionError, PortTakenError
from pytest_torchserve.torchserve import in_effect, process, properties, settings
from pytest_torchserve.torchserve.java import Java
from pytest_torchserve.torchserve.server import Server
from pytest_torchserve.torchserve.settings import ServerSettings

PORTS = {
    "inference_address": 1,
    "management_address": 2,
    "metrics_address": 3,
    "grpc_inference_port": 4,
    "grpc_management_port": 5,
}


def merged(tmp_path, text, **more):
    """Return the properties made from a user's config.properties, and the keys that were overridden."""
    config = tmp_path / "config.properties"
    config.write_text(text)
    return properties.merged(config, more.get("jvm_args", ""), PORTS, tmp_path / "store")


def test_ours_alone(tmp_path):
    """Our settings: loopback only, token authorisation on, no old snapshot's models, downloads limited to the store."""
    found, overridden = properties.merged(None, "", PORTS, tmp_path)
    assert overridden == {}
    assert found["inference_address"] == "http://127.0.0.1:1"
    assert found["disable_token_authorization"] == "false"
    assert found["disable_system_metrics"] == "true"
    assert found["allowed_urls"] == f"file://{tmp_path}/.*"
    assert all(found[key] == "127.0.0.1" for key in ("grpc_inference_address", "grpc_management_address"))


def test_the_users_are_merged(tmp_path):
    """A key that we do not set is the user's; a default of ours gives way."""
    found, overridden = merged(tmp_path, "# mine\nnumber_of_netty_threads = 4\njob_queue_size=7\n\n")
    assert found["number_of_netty_threads"] == "4"
    assert found["job_queue_size"] == "7"
    assert overridden == {}


def test_ours_win_and_it_is_said(tmp_path):
    """The user's own addresses and models are overridden, and each such key is named with the reason."""
    text = "inference_address=http://0.0.0.0:8080\nload_models=all\ndefault_workers_per_model=2\n"
    found, overridden = merged(tmp_path, text)
    assert found["inference_address"] == "http://127.0.0.1:1"
    assert {"load_models", "default_workers_per_model"}.isdisjoint(found)
    assert overridden == {
        "default_workers_per_model": "each cell has its own number of workers",
        "inference_address": "free ports on loopback",
        "load_models": "each cell registers its own model",
    }


def test_metrics_go_to_the_log(tmp_path):
    """The mode of most production servers silences the log that the frontend's times are read from."""
    found, overridden = merged(tmp_path, "metrics_mode=prometheus\n")
    assert found["metrics_mode"] == "log"
    assert overridden == {"metrics_mode": "the frontend's times of each request are read from its log"}
    assert merged(tmp_path, "metrics_mode = log\n")[1] == {}


@pytest.mark.parametrize("key", ["metrics_config", "keystore", "private_key_file", "certificate_file", "plugins_path"])
def test_relative_paths_are_meant_from_the_file(tmp_path, key):
    """A relative file is that beside the config.properties, wherever the server runs; a missing one is told at once."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.file").write_text("")
    assert merged(tmp_path, f"{key} = sub/a.file\n")[0][key] == str(tmp_path / "sub" / "a.file")
    assert merged(tmp_path, f"{key}={tmp_path}/sub/../sub/a.file\n")[0][key] == str(tmp_path / "sub" / "a.file")
    with pytest.raises(OptionError, match=rf"names as {key} [\s\S]*no {tmp_path}/gone"):
        merged(tmp_path, f"{key}=gone\n")


@pytest.mark.parametrize(
    ("declared", "absent"),
    [
        ("a: [ts_inference_latency_microseconds]\nb:\n - name: ts_queue_latency_microseconds\n", ()),
        ("- ts_inference_latency_microseconds\n# - ts_queue_latency_microseconds\n", ("ts_queue",)),
        ("ts_metrics: {}\n", ("ts_inference", "ts_queue")),
    ],
)
def test_metrics_that_are_not_declared(tmp_path, declared, absent):
    """Metrics that the user's file does not declare never reach the log; the loss is told by the key and the names."""
    (tmp_path / "m.yaml").write_text(declared)
    told = properties.unmeasured(merged(tmp_path, "metrics_config=m.yaml\n")[0])
    assert len(told) == bool(absent)
    assert all(f"{name}_latency_microseconds" in told[0] and "metrics_config: m.yaml" in told[0] for name in absent)


def test_jvm_arguments_add_up(tmp_path):
    """The JVM arguments of the file and those of the option are joined."""
    found, _ = merged(tmp_path, "vmargs=-Xmx1g", jvm_args="-Xms1g")
    assert found["vmargs"] == "-Xmx1g -Xms1g"


@pytest.mark.parametrize("name", ["log4j.configurationFile", "log4j2.configurationFile", "java.io.tmpdir"])
def test_jvm_properties_that_would_take_the_log_away(tmp_path, name):
    """A log configuration or temporary folder among the JVM's arguments is overridden by name; the others stay."""
    found, overridden = merged(tmp_path, f"vmargs=-Xmx1g -D{name}=file:///etc/x.xml -Dmine=1\n", jvm_args="-Xms1g")
    assert found["vmargs"] == "-Xmx1g -Dmine=1 -Xms1g"
    assert set(overridden) == {f"-D{name}"}
    found, overridden = properties.merged(None, f"-D{name}=/tmp", PORTS, tmp_path)
    assert "vmargs" not in found
    assert set(overridden) == {f"-D{name}"}


@pytest.mark.parametrize(
    ("options", "own", "wanted"),
    [
        ({}, {}, {"responseTimeout": 33, "startupTimeout": 200}),
        ({}, {"responseTimeout": 44}, {"responseTimeout": 44, "startupTimeout": 200}),
        ({"response_timeout_s": 1.5}, {"responseTimeout": 44}, {"responseTimeout": 2, "startupTimeout": 200}),
        ({"startup_timeout_s": 600}, {}, {"responseTimeout": 33, "startupTimeout": 600}),
    ],
)
def test_time_outs_are_one_setting(tmp_path, options, own, wanted):
    """The option wins over the archive's own time-out, and that over the default of the config.properties."""
    config = tmp_path / "config.properties"
    config.write_text("default_response_timeout=33\ndefault_startup_timeout=200\n")
    timeouts = ServerSettings(config=config, **options).timeouts
    assert timeouts.within(own) == wanted
    assert timeouts.key != ServerSettings(config=config, response_timeout_s=7).timeouts.key
    assert ServerSettings().timeouts.within(own) == own
    assert ServerSettings().timeouts.key == []


def test_a_time_out_that_is_no_number(tmp_path):
    """A time-out that TorchServe could not read is a clear message before anything starts."""
    config = tmp_path / "config.properties"
    config.write_text("default_startup_timeout=5m\n")
    with pytest.raises(
        OptionError, match=r"wanted: default_startup_timeout in whole seconds .*\nfound: default_startup_timeout=5m"
    ):
        _ = ServerSettings(config=config).timeouts


class FakeEndpoint:
    """An endpoint whose one worker is this process, on a server that is this process as well."""

    def __init__(self, settings, log="", model_log="", device="cpu"):
        self.server = SimpleNamespace(
            settings=settings, pid=os.getpid(), frontend_log=lambda: log, model_log=lambda: model_log
        )
        self.deployment = SimpleNamespace(device=device)

    def workers(self):
        """Return this process."""
        return [SimpleNamespace(pid=os.getpid())]


NO_IPEX = "IPEX is enabled but intel-extension-for-pytorch is not installed. Proceeding without IPEX."
NO_LAUNCHER = "torch.backends.xeon.run_cpu is not available. Proceeding without worker core pinning."


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        (FakeEndpoint({}), ""),
        (FakeEndpoint({"cpu_launcher_enable": "false"}), ""),
        (FakeEndpoint({"cpu_launcher_enable": "true"}, device="gpu"), ""),
        (FakeEndpoint({"cpu_launcher_enable": "true"}), "cpu_launcher_enable pins nothing: a worker may use all"),
        (FakeEndpoint({"cpu_launcher_enable": " TRUE"}, NO_LAUNCHER), "cpu_launcher_enable has no effect: `python -m"),
        (FakeEndpoint({"ipex_enable": "true"}, model_log=NO_IPEX), "ipex_enable has no effect"),
        (FakeEndpoint({"ipex_enable": "true"}), ""),
    ],
)
def test_settings_that_do_nothing_are_told(fake, words):
    """A launcher that does not run or does not pin, and an extension that is not there, are named by their key."""
    found = in_effect.without_effect(fake)
    assert [line.startswith(words) for line in found] == ([True] if words else [])


def test_one_processor_leaves_nothing_to_pin(monkeypatch):
    """Where the server has one processor, its workers have that one, pinned or not."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert in_effect.without_effect(FakeEndpoint({"cpu_launcher_enable": "true"})) == []


def test_every_missing_file_is_named_and_all_plugins_of_a_folder_may_be_meant(tmp_path):
    """Of several missing files each is named; TorchServe's `FOLDER/*` is a folder of plugins."""
    (tmp_path / "plugins").mkdir()
    found = properties.in_place({"plugins_path": "plugins/*"}, tmp_path)
    assert found == {"plugins_path": f"{tmp_path}/plugins/*"}
    settings = {"keystore": "a.jks", "metrics_config": "b.yaml", "plugins_path": "none/*"}
    with pytest.raises(
        OptionError, match=r"metrics_config and keystore and plugins_path(.|\n)*b\.yaml, no .*a\.jks, no .*none"
    ):
        properties.in_place(settings, tmp_path)


def test_a_file_of_settings_counts_by_its_content(tmp_path):
    """Two copies of a metrics file are one setting wherever they lie; a changed copy is another."""
    records = []
    for name, text in (("one", "a: 1"), ("two", "a: 1"), ("three", "a: 2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.yaml").write_text(text)
        config = tmp_path / name / "config.properties"
        config.write_text(f"metrics_config={'metrics.yaml' if name == 'one' else tmp_path / name / 'metrics.yaml'}\n")
        records.append(ServerSettings(config=config).record()["config"])
    assert records[0] == records[1] != records[2]
    assert records[0]["metrics_config"].startswith("metrics.yaml (")


def test_a_pinned_worker_is_not_told(monkeypatch):
    """A worker that may use fewer processors than the server is pinned."""
    allowed = {1: {0, 1}, 2: {1}}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed[pid])
    fake = FakeEndpoint({"cpu_launcher_enable": "true"})
    fake.server.pid, fake.workers = 1, lambda: [SimpleNamespace(pid=2)]
    assert in_effect.without_effect(fake) == []


def test_what_is_recorded(tmp_path):
    """All settings stand in machine_info."""
    config = tmp_path / "c"
    config.write_text("a=b")
    settings_ = ServerSettings(config=config, jvm_args="-Xmx1g", worker_env={"OMP_NUM_THREADS": "1"})
    assert settings_.record() == {
        "config": {"a": "b"},
        "jvm_args": "-Xmx1g",
        "worker_env": {"OMP_NUM_THREADS": "1"},
    }


def test_secrets_are_not_recorded(tmp_path):
    """No secret of the file, the JVM's arguments or the workers' variables is recorded or shown in a traceback."""
    config = tmp_path / "c"
    config.write_text("keystore_pass=hunter2\nvmargs=-Dmy.password=hunter2\nkeystore=k.p12\n")
    env = {"HF_TOKEN": "hunter2", "DATABASE_URL": "postgres://me:hunter2@db/x", "OMP_NUM_THREADS": "1"}
    settings_ = ServerSettings(config=config, jvm_args="-Dapi.key=hunter2 -Xmx1g", worker_env=env)
    assert settings_.record() == {
        "config": {"keystore_pass": "***", "vmargs": "-Dmy.password=***", "keystore": "k.p12"},
        "jvm_args": "-Dapi.key=*** -Xmx1g",
        "worker_env": {"HF_TOKEN": "***", "DATABASE_URL": "postgres://***@db/x", "OMP_NUM_THREADS": "1"},
    }
    assert "hunter2" not in repr(ServerSettings(worker_env=env))
    assert settings_.worker_env["HF_TOKEN"] == "hunter2"


def test_the_folder_that_a_server_leaves(tmp_path, monkeypatch):
    """A kept folder has the settings without secrets, and no tokens, which are of no use any more.

    A script stands for TorchServe.
    """
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    config, script = tmp_path / "c", tmp_path / "script"
    config.write_text("keystore_pass=hunter2\njob_queue_size=7\n")
    script.write_text("#!/bin/sh\ncp config.properties key_file.json\n")
    script.chmod(0o700)
    server = Server(Java(tmp_path, "17", "a test"), tmp_path, ServerSettings(config=config), python=script)
    server._launch(PORTS)
    assert wait_until(lambda: not server.alive(), timeout_s=30)
    assert "hunter2" in (server.folder / "key_file.json").read_text()
    server.keep()
    server.stop()
    assert not (server.folder / "key_file.json").exists()
    written = (server.folder / "config.properties").read_text().splitlines()
    assert {"keystore_pass=***", "job_queue_size=7", "disable_token_authorization=false"} <= set(written)


@pytest.mark.parametrize("pair", ["MY-TOKEN=hunter2", "HF_TOKEN:hunter2", "HF_TOKEN hunter2"])
def test_a_message_does_not_show_a_secret(pair):
    """A pair of the wrong form is named without its value."""
    with pytest.raises(OptionError, match=r"TOKEN.*\*\*\*") as caught:
        settings.parse_worker_env([pair])
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    """A missing file gives one clear message with its path."""
    with pytest.raises(OptionError, match="nowhere"):
        properties.read(tmp_path / "nowhere")


@pytest.mark.parametrize("pair", ["OMP_NUM_THREADS", "=1", "1X=2", ""])
def test_bad_worker_env(pair):
    """A bad variable is refused, with the form that was wanted."""
    with pytest.raises(OptionError, match="NAME=VALUE"):
        settings.parse_worker_env([pair])


def test_worker_env():
    """A value may hold an equals sign, or nothing."""
    assert settings.parse_worker_env(["A=b=c", "D="]) == {"A": "b=c", "D": ""}


def test_ports_are_free_and_distinct():
    """Five listeners get five ports, and each of the ports is free."""
    chosen = settings.choose_ports({})
    assert len(set(chosen.values())) == 5
    for port in chosen.values():
        socket.create_server((properties.HOST, port)).close()


def test_a_taken_explicit_port():
    """A taken port is named, and so is the process that holds it."""
    with socket.create_server((properties.HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"(?s)port {port} .*held by process \d+"):
            settings.choose_ports({"inference_address": port})
