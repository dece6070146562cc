"""The archives of both arms: each has the time-outs of the server that it is served by."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import yaml

from pytest_torchserve.compare.archives import ArmArchives
from pytest_torchserve.compare.baseline import Baseline
from pytest_torchserve.compare.comparison_setup import ComparisonSetup
from pytest_torchserve.torchserve import wrap
from pytest_torchserve.torchserve.settings import ServerSettings


@pytest.fixture
def store(tmp_path):
    """A model store with one archive that holds the probe, `m.mar`, and a folder `saved` with a copy of it."""
    plain = tmp_path / "plain.mar"
    model = {"modelName": "m", "handler": "h.py"}
    with zipfile.ZipFile(plain, "w") as file:
        file.writestr(wrap.MANIFEST, json.dumps({"runtime": "python", "model": model, "archiverVersion": "0.12.0"}))
        file.writestr("h.py", "def handle(data, context): ...\n")
    for folder in ("store", "saved"):
        (tmp_path / folder).mkdir()
        wrap.wrap(plain, "cpu", tmp_path / folder / "m.mar")
    return tmp_path / "store"


def settings(folder, text, **more):
    """Return server settings with a config.properties."""
    config = Path(folder) / f"{len(text)}.properties"
    config.write_text(text)
    return ServerSettings(config=config, **more)


def response_timeout(path):
    """Return the response time-out that the frontend reads; 120 is TorchServe's own."""
    with zipfile.ZipFile(path) as file:
        assert len(file.namelist()) == len(set(file.namelist()))
        return yaml.safe_load(file.read(wrap.CONFIG)).get("responseTimeout", 120)


@pytest.mark.parametrize(
    ("candidate", "baseline", "expected"),
    [
        ("", "", (120, 120)),
        ("default_response_timeout=33\n", "default_response_timeout=7\n", (33, 7)),
        ("default_response_timeout=33\n", "", (33, 120)),
        ("", "default_response_timeout=7\n", (120, 7)),
    ],
)
def test_other_settings_have_their_own_time_outs(store, tmp_path, candidate, baseline, expected):
    """Of two config.properties each arm has its own time-outs, and what was made for the comparison goes with it."""
    servers = settings(tmp_path, candidate), settings(tmp_path, f"{baseline}#\n")
    setup = ComparisonSetup(Baseline("x", "config", servers[1].config), "auto", None, store, *servers)
    wrap.wrap(store / "m.mar", "cpu", store / "n.mar", servers[0].timeouts)
    archives = ArmArchives(setup)
    made = [archives.alone(arm, store / "n.mar", "cpu").path for arm in ("candidate", "baseline")]
    assert tuple(map(response_timeout, made)) == expected
    assert made[0] == store / "n.mar"
    archives.close()
    assert sorted(path.name for path in store.iterdir()) == ["m.mar", "n.mar"]


@pytest.mark.parametrize(("option", "expected"), [(None, 120), (600.0, 600)])
def test_a_saved_archive_has_the_time_outs_of_this_session(store, tmp_path, option, expected):
    """A saved archive of another session has this session's time-out, and the saved file stays as it was."""
    saved = tmp_path / "saved" / "m.mar"
    before = saved.read_bytes()
    server = ServerSettings(response_timeout_s=option)
    archives = ArmArchives(ComparisonSetup(Baseline("x", "archives", saved.parent), "auto", None, store, server))
    made = archives.alone("baseline", saved, "cpu").path
    assert (made.parent, response_timeout(made)) == (store, expected)
    archives.close()
    assert saved.read_bytes() == before
