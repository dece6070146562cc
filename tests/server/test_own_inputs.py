"""Inputs of one's own model, made by torch in its own process: networks in several files, weights of every kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs.golden import Preparations
from pytest_torchserve.model import Model

FILES = {
    "layers.py": "from torch import nn\nclass Layer(nn.Linear):\n    pass\n",
    "network.py": (
        "from layers import Layer\nfrom torch import nn\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = Layer(2, 3)\n"
        "    def forward(self, x):\n        return self.layer(x)\n"
    ),
    "helper.py": "SCALE = 1.0\n",
    "reference.py": (
        "import torch\nfrom helper import SCALE\nLABELS = ('a', 'b', 'c')\n"
        "def tensor(body):\n    return torch.tensor([[len(body) / 1e4, 1.0]])\n"
        "def answers(network, bodies):\n"
        "    rows = [torch.softmax(SCALE * network(tensor(body)), 1)[0].tolist() for body in bodies]\n"
        "    return [dict(zip(LABELS, row)) for row in rows]\n"
    ),
}
SAVE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from network import Net
torch.manual_seed(int(sys.argv[2]))
net, folder = Net(), sys.argv[1]
torch.save(net.state_dict(), f"{folder}/plain.pt")
torch.save({"state_dict": net.state_dict(), "optimizer": {"lr": 0.1}, "epoch": 3}, f"{folder}/checkpoint.pt")
torch.save({"one": net.state_dict(), "two": net.state_dict()}, f"{folder}/two.pt")
torch.jit.save(torch.jit.script(net), f"{folder}/scripted.pt")
try:
    from safetensors.torch import save_file
    save_file(net.state_dict(), f"{folder}/safe.safetensors")
except ModuleNotFoundError:
    pass
"""


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """`prepared(weights)` returns the first golden answer of a model with these weights; files lie in `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    subprocess.run([sys.executable, "-W", "ignore", "-c", SAVE, str(tmp_path), "1"], check=True)

    def prepared_(weights, *, forget=False):
        model = Model(
            "mine",
            handler="image_classifier",
            network=tmp_path / "network.py",
            reference=tmp_path / "reference.py",
            dataset="cifar10",
            weights=tmp_path / weights,
            extra_files=(tmp_path / "layers.py",),
        )
        preparations = Preparations("auto", None, forget=forget)
        try:
            return preparations.result(model).samples[0].answer
        finally:
            preparations.cancel()

    return prepared_


def test_weights_of_every_kind_are_used(prepared, tmp_path):
    """A network in two files takes a state dict, a checkpoint with more in it, TorchScript and safetensors."""
    names = ["plain.pt", "checkpoint.pt", "scripted.pt"]
    names += ["safe.safetensors"] if (tmp_path / "safe.safetensors").exists() else []
    first, *others = [prepared(name) for name in names]
    assert set(first) == {"a", "b", "c"}
    assert all(other == pytest.approx(first) for other in others)


def test_weights_that_cannot_be_told(prepared, tmp_path):
    """Where a file holds two state dicts, or none is there, the message says what was found, and deletes nothing."""
    with pytest.raises(InputError, match="a mapping with 'one', 'two'") as error:
        prepared("two.pt")
    assert "delete" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        prepared("gone.pt")
    assert (tmp_path / "two.pt").is_file()


def test_what_the_reference_imports_counts(prepared, tmp_path):
    """A change in a module that the reference imports gives other golden answers."""
    before = prepared("plain.pt")
    (tmp_path / "helper.py").write_text("SCALE = 3.0\n")
    assert prepared("plain.pt") != pytest.approx(before)


def test_the_cache_is_forgotten_when_asked(prepared, tmp_path):
    """A cached answer is used, right or wrong; with --ts-forget it is made anew."""
    right = prepared("plain.pt")
    kept = [
        path for path in (tmp_path / "cache").rglob("*.json") if '"a"' in path.read_text() and path.stat().st_size > 200
    ]
    (golden,) = [path for path in kept if isinstance(json.loads(path.read_text()), dict)] or kept
    golden.write_text(re.sub(r'"a": [\d.e-]+', '"a": 0.5', golden.read_text()))
    assert prepared("plain.pt")["a"] == 0.5 != pytest.approx(right["a"])
    assert prepared("plain.pt", forget=True) == pytest.approx(right)


def test_a_whole_network_is_refused(prepared, tmp_path):
    """A pickled network, which would run code, and a damaged file are refused with what to save instead."""
    code = SAVE.partition("torch.manual_seed")[0] + "torch.save(Net(), sys.argv[1] + '/n.pt')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "n.pt").read_bytes()[:500])
    for name in ("n.pt", "cut.pt"):
        with pytest.raises(InputError, match=rf"wanted weights in {name}[\s\S]*save network.state_dict"):
            prepared(name)
