"""Two arms in one process, without TorchServe: neither arm sees anything of the other."""

from __future__ import annotations

import gc
import json
import random
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pytest_torchserve.errors import ArchiveError
from pytest_torchserve.torchserve import pair_archive
from pytest_torchserve.torchserve.payload import ts_probe

HANDLER = """
import gc
import state
from pathlib import Path
class Handler:
    def initialize(self, context):
        self.folder = Path(context.system_properties["model_dir"])
        self.version = context.manifest["model"]["modelVersion"]
        self.setting = context.model_yaml_config.get("setting")
        state.names.append("NAME")
    def preprocess(self, data): return data
    def inference(self, data):
        import late
        state.count += 1
        late.count += 1
        own = f"{self.folder.name} {self.version} {self.setting}"
        return [f"NAME {late.WHO} {late.count} {state.count} {state.names} {own}"]
    def postprocess(self, data): return data
    def handle(self, data, context):
        return self.postprocess(self.inference(self.preprocess(data))) * len(data)
"""


class Context:
    """The part of TorchServe's Context that matters here."""

    def __init__(self, folder, config):
        self._system_properties = {"gpu_id": None, "model_dir": str(folder)}
        self.manifest = {"model": {}}
        self.model_yaml_config = config
        self.headers = {}
        self.asked = {}
        self.request_ids = None

    @property
    def system_properties(self):
        """The system properties, read-only as TorchServe's."""
        return self._system_properties

    def get_request_header(self, index, key):
        """Return one header of a request."""
        return self.asked.get(key)

    def set_response_header(self, index, key, value):
        """Keep one header."""
        self.headers.setdefault(index, {})[key] = value


def make_arm(folder, name, extra=""):
    """Make a .mar of a handler with modules `state` and `late`, whose names are the same on both arms."""
    path = folder / f"{name}.mar"
    # The baseline is an archive of ours, whose config names the handler; any other archive has no probe.
    ours = name == "baseline"
    entry = {"modelName": "x", "handler": "ts_probe.py" if ours else "serve.py"}
    manifest = {"model": {**entry, "modelVersion": f"of {name}", "configFile": "c.yaml"}}
    config = f"setting: set by {name}\n" + ("probe: {handler: serve.py}\n" if ours else "")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        file.writestr("serve.py", HANDLER.replace("NAME", name) + extra)
        file.writestr("state.py", "count = 0\nnames = []\n")
        file.writestr("late.py", f"WHO = 'late of {name}'\ncount = 0\n")
        file.writestr("c.yaml", config)
    return path


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`start(baseline=…, candidate=…)` packs two arms and loads them as a worker would; returns (context, handle)."""

    def start_(**extras):
        arms = {name: make_arm(tmp_path, name, extras.get(name, "")) for name in ("baseline", "candidate")}
        made = pair_archive.build("x", "cpu", arms, tmp_path, seed=1)
        unpacked = tmp_path / "unpacked"
        with zipfile.ZipFile(made.path) as file:
            file.extractall(unpacked)
        config = yaml.safe_load((unpacked / "model-config.yaml").read_text())
        monkeypatch.setitem(sys.modules, "ts_probe", ts_probe)
        monkeypatch.syspath_prepend(unpacked)
        monkeypatch.delitem(sys.modules, "ts_pair", raising=False)
        import ts_pair  # noqa: PLC0415 - as the worker does, from the archive

        monkeypatch.delitem(sys.modules, "ts_pair")
        context = Context(unpacked, config)
        assert ts_pair.handle(None, context) is None
        return context, ts_pair.handle

    return start_


@pytest.fixture
def collecting():
    """Restore the garbage collector after the test, whatever an arm does to it."""
    threshold = gc.get_threshold()
    yield
    gc.enable()
    gc.set_threshold(*threshold)


def ask(context, handle):
    """Send one batch of one request; return (arm, pair, answer)."""
    (answer,) = handle([{}], context)
    fields = dict(part.split("=", 1) for part in context.headers[0]["TS-Probe-Batch"].split(";"))
    return fields["arm"], int(fields["pair"]), answer


def test_each_arm_answers_what_it_answers_alone(start):
    """Each arm has its own state, files, manifest and config, although modules and files have the same names.

    This holds for modules that are imported early and late.
    """
    context, handle = start()
    counts = Counter()
    for _ in range(20):
        arm, _, answer = ask(context, handle)
        counts[arm] += 1
        count = counts[arm]
        assert answer == f"{arm} late of {arm} {count} {count} ['{arm}'] {arm} of {arm} set by {arm}"
    assert counts == {"baseline": 10, "candidate": 10}


def test_a_request_may_name_its_arm(start):
    """Under load the sender knows whose block it is; a name that is no arm's leaves it to the turn."""
    context, handle = start()
    for name in ("candidate", "candidate", "baseline", "candidate"):
        context.asked = {"TS-Arm": name}
        assert ask(context, handle)[0] == name
    context.asked = {"TS-Arm": "nobody"}
    assert Counter(ask(context, handle)[0] for _ in range(4)) == {"baseline": 2, "candidate": 2}


def test_each_arm_is_loaded_first_in_every_other_process(start, tmp_path):
    """Of an even number of processes each arm is loaded first in half.

    The arm that is loaded later lies elsewhere in memory, and may be faster for this reason.
    """
    note = "\nwith open(Path(__file__).parent.parent / 'order', 'a') as file:\n    file.write('{} ')\n"
    for _ in range(4):
        start(**{name: note.format(name) for name in ("baseline", "candidate")})
    order = (tmp_path / "unpacked" / "order").read_text().split()
    firsts, seconds = order[::2], order[1::2]
    assert len(firsts) == 4
    assert all({first, second} == {"baseline", "candidate"} for first, second in zip(firsts, seconds, strict=True))
    assert firsts[0] == firsts[2] != firsts[1] == firsts[3]


def test_nothing_of_either_arm_is_left_behind(start):
    """Between two turns neither arm's modules nor its folder are there."""
    path = list(sys.path)
    context, handle = start()
    ask(context, handle)
    assert not {"serve", "state", "late"} & set(sys.modules)
    assert len(sys.path) == len(path) + 1  # the archive's own


def test_in_each_pair_each_arm_is_asked_once_in_either_order(start):
    """Each pair has one batch of each arm; pairs count up, and both orders occur."""
    context, handle = start()
    asked = [ask(context, handle)[:2] for _ in range(60)]
    pairs = list(zip(asked[::2], asked[1::2], strict=True))
    assert all({first[0], second[0]} == {"baseline", "candidate"} for first, second in pairs)
    assert [(first[1], second[1]) for first, second in pairs] == [(n, n) for n in range(1, 31)]
    assert len({first[0] for first, _ in pairs}) == 2


def test_a_setting_of_the_process_is_told(start):
    """An arm switches the garbage collector off: the other arm starts with it on, and every response says so."""
    spoil = "\n    def initialize(self, context):\n        gc.disable()\n        state.names.append('candidate')\n"
    spoil += "        self.folder, self.version, self.setting = Path('x'), 1, 2\n"
    context, handle = start(candidate=spoil)
    ask(context, handle)
    assert gc.isenabled()
    assert "differs=gc.enabled" in context.headers[0]["TS-Probe-Batch"]


def test_what_both_arms_set_holds(start, collecting):
    """A setting that both arms make is no difference between them, and each arm runs as it would alone."""
    spoil = "\n    def initialize(self, context):\n        gc.disable()\n"
    spoil += "        self.folder, self.version, self.setting = Path('x'), 1, 2\n"
    context, handle = start(baseline=spoil, candidate=spoil)
    ask(context, handle)
    assert "differs" not in context.headers[0]["TS-Probe-Batch"]
    assert not gc.isenabled()


def test_a_setting_that_is_made_while_serving_is_told(start, collecting):
    """A setting made with the first batch, not at the start, is in every response from the next batch on."""
    spoil = "\n    def preprocess(self, data):\n        gc.set_threshold(7)\n        return data\n"
    context, handle = start(candidate=spoil)
    for _ in range(3):
        ask(context, handle)
    assert "differs=gc.threshold" in context.headers[0]["TS-Probe-Batch"]


def test_random_numbers_are_each_arms_own(start):
    """Both arms seed alike: each draws what it would draw alone, whichever arm runs in between."""
    draw = "\n    def inference(self, data):\n        return [random.random()]\n"
    draw += "import random\nrandom.seed(0)\n"
    context, handle = start(baseline=draw, candidate=draw)
    drawn = {"baseline": [], "candidate": []}
    for _ in range(10):
        arm, _, answer = ask(context, handle)
        drawn[arm].append(answer)
    alone = random.Random(0)
    assert drawn["baseline"] == drawn["candidate"] == [alone.random() for _ in range(5)]


def test_an_arm_that_cannot_be_imported_says_why(start):
    """An arm that cannot be imported raises its own error, with its own module's name."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        start(candidate="\nimport no_such_module\n")


def test_an_arm_without_a_handler_is_refused(tmp_path):
    """An archive whose manifest names no handler is refused."""
    path = tmp_path / "empty.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("MAR-INF/MANIFEST.json", '{"model": {}}')
    good = make_arm(tmp_path, "good")
    with pytest.raises(ArchiveError, match="a model and its handler"):
        pair_archive.build("x", "cpu", {"baseline": path, "candidate": good}, tmp_path, seed=1)


CURRENT_FOLDER = """
def _current(self, data, context):
    return [Path("late.py").read_text(encoding="utf-8").partition(chr(10))[0]] * len(data)
Handler.handle = _current
"""


def test_each_arm_works_in_its_own_folder(start):
    """A relative path leads into the arm's own files, as it does where TorchServe serves the arm alone."""
    before = Path.cwd()
    context, handle = start(baseline=CURRENT_FOLDER, candidate=CURRENT_FOLDER)
    answers = dict(ask(context, handle)[::2] for _ in range(4))
    assert answers == {name: f"WHO = 'late of {name}'" for name in ("baseline", "candidate")}
    assert Path.cwd() == before
