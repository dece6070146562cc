"""`tsperf doctor`: what is there, and what would spoil figures."""

from __future__ import annotations

from pytest_torchserve import cli, doctor
from pytest_torchserve.telemetry import Telemetry


def test_it_looks_at_everything(capsys, monkeypatch):
    """Java, the software, GPU, data, weights, room, processor, load: a line each."""
    monkeypatch.delenv("TS_DATA", raising=False)
    code = cli.main(["doctor"])
    printed = capsys.readouterr().out
    named = {line[2:].split()[0] for line in printed.splitlines() if not line.lstrip().startswith("→")}
    wanted = "Java torchserve torch-model-archiver torch torchvision GPU cifar10 imagenet weights disk memory"
    assert set(wanted.split()) | {"processor", "governor", "load"} <= named
    assert code == int("→" in printed)


def test_advice_is_a_failure(monkeypatch, capsys, tmp_path):
    """A folder that is none, no Java: marked, with what to do, and an exit status to stop a script."""
    monkeypatch.setattr(doctor, "_load", list)
    assert cli.main(["doctor", "--data", str(tmp_path / "none")]) == 1
    printed = capsys.readouterr().out
    assert "! cifar10" in printed
    assert "→ name a folder that holds cifar10/CLASS/IMAGE files" in printed


def test_a_busy_machine_is_told():
    """Over a tenth of the processors in others' hands is what makes runs INVALID."""
    busy = doctor._busy(Telemetry(2.0, 2, {}, {}, foreign_cpu=0.08, stolen_cpu=0.07))
    quiet = doctor._busy(Telemetry(2.0, 2, {}, {}, foreign_cpu=0.02, stolen_cpu=0.01))
    assert busy.mark == "!"
    assert "8% of the processors" in busy.found
    assert (quiet.mark, quiet.advice) == (" ", "")
