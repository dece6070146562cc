"""`tsperf doctor`: a list of what the machine has, with advice where measurements would be unreliable."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from pytest_torchserve import cli, doctor
from pytest_torchserve.inputs import weights
from pytest_torchserve.model import Weights
from pytest_torchserve.telemetry.monitor import Telemetry


def test_it_looks_at_everything(capsys, monkeypatch):
    """The doctor prints a line each for Java, software, GPU, data, weights, disk, memory, processor and load."""
    monkeypatch.delenv("TS_DATA", raising=False)
    code = cli.main(["doctor"])
    printed = capsys.readouterr().out
    named = {line[2:].split()[0] for line in printed.splitlines() if not line.lstrip().startswith("→")}
    wanted = "Java torchserve torch-model-archiver torch torchvision GPU cifar10 imagenet weights disk memory"
    assert set(wanted.split()) | {"processor", "governor", "load"} <= named
    assert code == int("→" in printed)


def test_advice_is_a_failure(monkeypatch, capsys, tmp_path):
    """A missing data folder is marked, with advice, and the exit status is 1, which stops a script."""
    monkeypatch.setattr(doctor, "_load", list)
    assert cli.main(["doctor", "--data", str(tmp_path / "none")]) == 1
    printed = capsys.readouterr().out
    assert "! cifar10" in printed
    assert "→ name a folder that holds cifar10/CLASS/IMAGE files" in printed


def weights_on_disk(data):
    """Return the doctor's finding about weights."""
    return next(finding.found for finding in doctor._data(data) if finding.what == "weights")


@pytest.mark.parametrize("home", ["XDG_CACHE_HOME", "TORCH_HOME", "HOME"])
def test_every_file_that_would_be_used_is_found(monkeypatch, tmp_path, home):
    """The doctor names every weights file that `find` would take, whatever its folder and suffix."""
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, "")  # the same as not set
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv(home, str(tmp_path / "home"))
    data = tmp_path / "data"
    data.mkdir()
    assert weights_on_disk(data).startswith("none on disk")
    wanted = {}
    suffixes = ("pth", "th", "pt", "bin", "safetensors")
    for number, (place, suffix) in enumerate(itertools.product(weights.places(data), suffixes)):
        content = f"weights {number}".encode()
        path = place / f"net{number}-{hashlib.sha256(content).hexdigest()[:8]}.{suffix}"
        place.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        wanted[path.name] = path
        for left_over in (".lock", ".partial"):
            path.with_suffix(left_over).touch()
    assert weights_on_disk(data) == ", ".join(sorted(wanted))
    for name, path in wanted.items():
        assert weights.find(Weights(file=name, source=""), "auto", data) == path


def test_a_busy_machine_is_told():
    """A machine is marked where other processes and the hypervisor use over 10% of the CPU: its runs are INVALID."""
    busy = doctor._busy(Telemetry(2.0, 2, {}, {}, other_processes_cpu=0.08, stolen_cpu=0.07))
    quiet = doctor._busy(Telemetry(2.0, 2, {}, {}, other_processes_cpu=0.02, stolen_cpu=0.01))
    assert busy.mark == "!"
    assert "8% of the processors" in busy.found
    assert (quiet.mark, quiet.advice) == (" ", "")
