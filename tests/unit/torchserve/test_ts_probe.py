"""The probe alone: the worker's part, without TorchServe and without torch."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import json
import sys
import time
import types
from pathlib import Path

import pytest

from pytest_torchserve.loadgen.probe_report import BATCH_HEADER, INIT_HEADER, TIMING_HEADER, ProbeReport
from pytest_torchserve.loadgen.response import Response
from pytest_torchserve.phase import METHOD_PHASES, PROBED_INIT_PHASES
from pytest_torchserve.torchserve.payload import ts_probe
from pytest_torchserve.torchserve.payload.ts_probe import handler as ts_probe_handler

CLASS_HANDLER = """
import time
class Handler:
    def initialize(self, context):
        self.load_model()
        self.to_device()
    def load_model(self): time.sleep(0.02)
    def to_device(self): time.sleep(0.01)
    def preprocess(self, data): time.sleep(0.003); return data
    def inference(self, data): time.sleep(0.02); return data
    def postprocess(self, data): time.sleep(0.001); return ["ok"] * len(data)
    def handle(self, data, context):
        return self.postprocess(self.inference(self.preprocess(data)))
"""
FUNCTION_HANDLER = """
import time
class Inner:
    def initialize(self, context): time.sleep(0.02)
    def preprocess(self, data): time.sleep(0.003); return data
    def inference(self, data): return data
    def postprocess(self, data): return ["ok"] * len(data)
_service = Inner()
def handle(data, context):
    if data is None:
        return _service.initialize(context)
    return _service.postprocess(_service.inference(_service.preprocess(data)))
"""


class FakeContext:
    """The part of TorchServe's Context that the probe touches."""

    def __init__(self, folder):
        self.system_properties = {"gpu_id": None, "model_dir": str(folder)}
        self.manifest = {"model": {"handler": "ts_probe"}}
        self.model_yaml_config = {}
        self.headers = {}

    def set_response_header(self, index, key, value):
        """Keep one header."""
        self.headers.setdefault(index, {})[key.lower()] = value


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """`serve(source)` makes a handler of the source and loads it behind the probe; returns (context, handle)."""
    monkeypatch.syspath_prepend(tmp_path)

    def serve_(source, name="served_handler", handler="served_handler.py"):
        (tmp_path / f"{name}.py").write_text(source)
        (tmp_path / "ts_probe.json").write_text(json.dumps({"model": {"handler": handler}}))
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(ts_probe, "_probe", None)
        context = FakeContext(tmp_path)
        assert ts_probe.handle(None, context) is None
        return context, ts_probe.handle

    return serve_


def report(context, index=0):
    """Return the probe report that the harness reads from the headers of one response."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in context.headers[index].items())]
    return ProbeReport.of(Response(0, 0, 0, 0, 0, 0, 200, "\r\n".join(lines).encode(), b""))


@pytest.mark.parametrize("source", [CLASS_HANDLER, FUNCTION_HANDLER])
def test_phases_add_up(serve, source):
    """Every phase is timed, and the parts are no more than the whole."""
    context, handle = serve(source)
    assert handle([{}], context) == ["ok"]
    phases = report(context).phases_s
    assert set(phases) == {"preprocess", "inference", "postprocess", "handle"}
    assert phases["preprocess"] >= 0.003
    parts = phases["preprocess"] + phases["inference"] + phases["postprocess"]
    assert parts <= phases["handle"] <= 1.5 * parts


def test_init_phases(serve):
    """The handler's own load_model and to_device are timed inside its initialize."""
    context, handle = serve(CLASS_HANDLER)
    handle([{}], context)
    init = report(context).init_s
    assert init["load_model"] >= 0.02
    assert init["to_device"] >= 0.01
    assert init["initialize"] >= init["load_model"] + init["to_device"]


def test_without_init_methods_the_rest_is_load_model(serve):
    """For a handler without such methods, and without torch, all of initialize is load_model."""
    context, handle = serve(FUNCTION_HANDLER)
    handle([{}], context)
    init = report(context).init_s
    assert init["to_device"] == 0
    assert init["load_model"] == init["initialize"] >= 0.02


COSTS = {"probe_clock", "probe_handle"}


def test_the_probe_tells_what_it_costs(serve):
    """The probe reports what timing costs, for an empty method and for a batch with all three phases.

    Each cost is above zero and below the time of the phases. The costs come with the first responses; calibrating
    leaves no time in any phase.
    """
    context, handle = serve(CLASS_HANDLER)
    handle([{}], context)
    told = report(context)
    clock_s, handle_s = told.init_s["probe_clock"], told.init_s["probe_handle"]
    assert 0 < clock_s < handle_s
    assert handle_s < told.phases_s["handle"]
    assert "empty" not in told.phases_s.keys() | told.init_s.keys()


WARMING_HANDLER = (Path(__file__).parents[2] / "served" / "warming.py").read_text()


def test_a_warm_up_is_a_part_of_the_start(serve):
    """A warm-up is timed and is no part of `load_model`; a part that another part calls is not subtracted twice."""
    context, handle = serve(WARMING_HANDLER)
    handle([{}], context)
    init, slept_s = report(context).init_s, next(ts_probe._probe.handler.places())[0].slept_s
    assert set(init) - COSTS == {"load_model", "to_device", "warm_up", "initialize"}
    assert init["to_device"] >= slept_s["to_device"]
    assert init["warm_up"] >= slept_s["warm_up"] + slept_s["to_device"] / 3
    assert slept_s["load"] <= init["load_model"] <= init["initialize"] - init["warm_up"]


@pytest.mark.parametrize("name", ["warm_up", "heat_up"])
def test_a_start_without_a_warm_up_has_none(serve, name):
    """Without a warm-up there is no time for it, and no zero.

    This holds for a method that the start does not call, also once it was called, and for a handler without that
    method.
    """
    context, handle = serve(
        f"""
class Handler:
    def initialize(self, context): pass
    def {name}(self): pass
    def handle(self, data, context):
        self.{name}()
        return ["ok"] * len(data)
"""
    )
    for _ in range(2):
        handle([{}], context)
        assert set(report(context).init_s) - COSTS == {"load_model", "to_device", "initialize"}


def test_the_headers_bear_the_names_that_are_looked_for(serve):
    """The probe imports nothing of the harness: both spell out the names of the headers, and the names are the same."""
    context, handle = serve(CLASS_HANDLER)
    handle([{}], context)
    assert set(context.headers[0]) == {TIMING_HEADER, BATCH_HEADER, INIT_HEADER}


def test_every_request_of_a_batch_is_told(serve):
    """Three requests of one batch have three sets of headers; the count goes on with the next batch."""
    context, handle = serve(CLASS_HANDLER)
    handle([{}] * 3, context)
    assert [(report(context, i).batch, report(context, i).batch_size) for i in range(3)] == [(1, 3)] * 3
    handle([{}], context)
    assert report(context).batch == 2
    assert report(context).device == "none"


def test_the_start_is_reported_with_the_first_batches_only(serve):
    """The start is reported three times: one lost response loses nothing, and later responses do not carry it."""
    context, handle = serve(CLASS_HANDLER)
    carried = []
    for _ in range(5):
        context.headers.clear()
        handle([{}], context)
        carried.append("ts-probe-init" in context.headers[0])
    assert carried == [True, True, True, False, False]


def test_edges_are_monotonic_clock(serve):
    """Start and end of handle lie where the caller's own clock says."""
    context, handle = serve(CLASS_HANDLER)
    before = time.monotonic_ns()
    handle([{}], context)
    after = time.monotonic_ns()
    found = report(context)
    assert before <= found.start_ns <= found.end_ns <= after


def test_the_class_is_left_alone(serve):
    """Only the instance is touched: a second instance of the class is as it was written."""
    serve(CLASS_HANDLER)
    module = sys.modules["served_handler"]
    methods = [value for value in vars(module.Handler).values() if callable(value)]
    assert len(methods) == 7
    # Compared by the file of the code: a wrapper may bear the name of a method.
    assert {method.__code__.co_filename for method in methods} == {module.__file__}


def test_a_handler_that_raises_is_not_hidden(serve):
    """The handler's own error goes on to TorchServe."""
    _, handle = serve(CLASS_HANDLER.replace("time.sleep(0.003); return data", "raise ValueError('mine')"))
    with pytest.raises(ValueError, match="mine"):
        handle([{}], FakeContext("."))


def test_a_missing_import_is_named_as_it_is(serve):
    """The error names the module that the handler cannot import, not the handler."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        serve("import no_such_module\n" + CLASS_HANDLER)


def test_two_classes_are_one_too_many(serve):
    """TorchServe's own rule for class handlers applies, with a message that names both classes."""
    with pytest.raises(ValueError, match=r"\['Handler', 'Other'\]"):
        serve(CLASS_HANDLER + "class Other: pass\n")


def test_the_phases_are_those_of_the_tables():
    """The probe imports nothing of the harness: both name the phases, and the names are the same."""
    assert METHOD_PHASES == ts_probe_handler.METHOD_PHASES
    assert PROBED_INIT_PHASES == ts_probe_handler.PROBED_INIT_PHASES


FUNCTIONS = """
import time
def preprocess(data): time.sleep(0.003); return data
def inference(data): return data
def predict(data, context):
    if data is None: return None
    return [str(len(data))] * len(inference(preprocess(data)))
"""


@pytest.mark.parametrize("handler", ["served_handler.py:predict", "served_handler:predict"])
def test_a_function_under_any_name(serve, handler):
    """A function of the module is the handler, under any name; the functions that it calls are its phases."""
    context, handle = serve(FUNCTIONS, handler=handler)
    assert handle([{}, {}], context) == ["2", "2"]
    assert set(report(context).phases_s) == {"preprocess", "inference", "handle"}
    assert report(context).phases_s["preprocess"] >= 0.003


def test_a_class_with_two_methods(serve):
    """A class with only `initialize` and `handle` has a `handle`, and no other phase."""
    context, handle = serve("""
class Handler:
    def initialize(self, context): pass
    def handle(self, data, context): return ["ok"] * len(data)
""")
    handle([{}], context)
    assert set(report(context).phases_s) == {"handle"}


def test_an_object_that_comes_late(serve):
    """The phases of an object that the first request makes are clocked from the second request on."""
    context, handle = serve(
        FUNCTION_HANDLER.replace("_service = Inner()", "_service = None").replace(
            "    if data is None:\n        return _service.initialize(context)\n",
            "    global _service\n    if data is None: return None\n    _service = _service or Inner()\n",
        )
    )
    found = []
    for _ in range(2):
        handle([{}], context)
        found.append(set(report(context).phases_s))
    assert found == [{"handle"}, {"preprocess", "inference", "postprocess", "handle"}]


def test_slots(serve):
    """A class with __slots__ has no place for other methods; its phases are clocked all the same."""
    context, handle = serve(CLASS_HANDLER.replace("class Handler:", "class Handler:\n    __slots__ = ()"))
    assert handle([{}], context) == ["ok"]
    assert set(report(context).phases_s) == {"preprocess", "inference", "postprocess", "handle"}
    assert report(context).init_s["load_model"] >= 0.02


BUSY = """
import threading, time
class Handler:
    def __init__(self):
        self.calls = [self.inference, self.inference]
    def initialize(self, context): pass
    def inference(self, data): time.sleep(0.02)
    def handle(self, data, context):
        threads = [threading.Thread(target=call, args=(data,)) for call in self.calls]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        return ["ok"] * len(data)
"""


def test_threads_add_up_busy_time(serve):
    """Methods that `__init__` has handed out are clocked; two threads at once take more time than passes."""
    context, handle = serve(BUSY)
    handle([{}], context)
    found = report(context)
    assert found.threads == 2
    assert found.phases_s["inference"] >= 0.04
    assert found.phases_s["handle"] < found.phases_s["inference"]


def test_the_handler_sees_its_own_manifest_and_config(serve, tmp_path):
    """Manifest and config are the original ones, the config as TorchServe reads it."""
    (tmp_path / "own.yaml").write_text("rate: 1e-05\nsince: 2024-02-29\nname: größer\n", encoding="utf-8")
    source = """
class Handler:
    def initialize(self, context):
        self.seen = [context.manifest["model"], context.model_yaml_config]
    def handle(self, data, context): return [repr(self.seen)]
"""
    settings = {"model": {"handler": "served_handler.py", "configFile": "own.yaml", "modelVersion": "3"}}
    (tmp_path / "served_handler.py").write_text(source)
    (tmp_path / "ts_probe.json").write_text(json.dumps(settings))
    context = FakeContext(tmp_path)
    assert ts_probe.restore(context) == "served_handler.py"
    assert context.manifest["model"] == settings["model"]
    assert context.model_yaml_config == {"rate": "1e-05", "since": dt.date(2024, 2, 29), "name": "größer"}


def test_a_device_that_nobody_can_tell(serve):
    """Of ONNX Runtime the first provider is the device; an object without parameters or providers tells none."""
    context, handle = serve(
        """
class Session:
    def get_providers(self): return ["CPUExecutionProvider"]
class Handler:
    __slots__ = ("models",)
    def initialize(self, context): self.models = {"one": [], "two": Session()}
    def handle(self, data, context): return ["ok"] * len(data)
handle = None
""".replace("handle = None\n", "")
        .replace("class Session", "class _Session(dict)")
        .replace("Session()", "_Session()")
        + """
_Session.__module__ = "elsewhere"
"""
    )
    handle([{}], context)
    assert report(context).device == "cpu"


def test_an_envelope_may_make_more_of_a_request(serve):
    """The report goes to each request, however many items the handler is given."""
    context, handle = serve(CLASS_HANDLER)
    context.request_ids = {0: "a", 1: "b"}
    handle([{}] * 5, context)
    assert [report(context, index).batch_size for index in context.headers] == [2, 2]


def test_an_object_that_can_be_called_is_left_alone(serve):
    """A transform that the handler keeps as an attribute, and its own attributes, stay what they are."""
    context, handle = serve("""
class _Transform:
    size = 3
    def __call__(self, data): return data
class Handler:
    def initialize(self, context): self.preprocess = _Transform()
    def inference(self, data): return ["ok"] * len(data)
    def handle(self, data, context): return self.inference(self.preprocess(data))[: self.preprocess.size]
_Transform.__module__ = "elsewhere"
""")
    assert handle([{}], context) == ["ok"]
    assert set(report(context).phases_s) == {"inference", "handle"}


def test_attributes_that_init_has_yet_to_make(serve):
    """A handler that passes unknown names on to an object, which its `__init__` makes, is not asked for any before."""
    context, handle = serve("""
class Handler:
    def __init__(self): self.inner = []
    def __getattr__(self, name): return getattr(self.inner, name)
    def initialize(self, context): pass
    def handle(self, data, context): return ["ok"] * len(data)
""")
    assert handle([{}], context) == ["ok"]


def test_an_asynchronous_handler(serve):
    """An `async def handle` is awaited, and its time is that until it has answered."""
    context, handle = serve("""
import asyncio
class Handler:
    def initialize(self, context): pass
    async def handle(self, data, context):
        await asyncio.sleep(0.02)
        return ["ok"] * len(data)
""")
    assert asyncio.run(handle([{}, {}], context)) == ["ok", "ok"]
    assert report(context, 1).phases_s["handle"] >= 0.02
    assert set(report(context).phases_s) == {"handle"}


def test_a_streamed_answer_is_reported_before_its_head_leaves(serve, monkeypatch):
    """The first chunk of a batch carries the report, without phases; a whole answer's encoding is not touched."""
    sent = []
    codec = types.ModuleType("ts.protocol.otf_message_handler")
    codec.create_predict_response = lambda *args: sent.append(args)
    monkeypatch.setitem(sys.modules, "ts.protocol.otf_message_handler", codec)
    monkeypatch.delitem(sys.modules, "ts.handler_utils.utils", raising=False)
    context, handle = serve("""
import sys
class Handler:
    def initialize(self, context): pass
    def handle(self, data, context):
        for turn in range(2):
            codec = sys.modules["ts.protocol.otf_message_handler"]
            codec.create_predict_response([""], context.request_ids, "", 200, context, True)
            context.told = dict(context.headers[0])
        return ["ok"]
""")
    context.request_ids = {0: "a"}
    assert handle([{}], context) == ["ok"]
    assert len(sent) == 2
    context.headers = {0: context.told}
    found = report(context)
    assert (found.streamed, found.batch, found.batch_size, found.phases_s) == (True, 1, 1, {})
    assert found.init_s["initialize"] >= 0


def test_streamed_answers_of_several_batches_at_a_time(serve, monkeypatch):
    """An asynchronous handler streams several batches at once: each is counted once, with its own start."""
    codec = types.ModuleType("ts.handler_utils.utils")
    codec.create_predict_response = lambda *args: None
    monkeypatch.setitem(sys.modules, "ts.handler_utils.utils", codec)
    monkeypatch.delitem(sys.modules, "ts.protocol.otf_message_handler", raising=False)
    context, handle = serve("""
import asyncio, sys
class Handler:
    def initialize(self, context): pass
    async def handle(self, data, context):
        for turn in range(2):
            await asyncio.sleep(0.001)
            codec = sys.modules["ts.handler_utils.utils"]
            codec.create_predict_response([""], context.request_ids, "", 200, context, True)
        return ["ok"]
""")
    contexts = [copy.deepcopy(context) for _ in range(3)]  # as TorchServe does for each batch
    for each in contexts:
        each.request_ids = {0: "a"}

    async def together():
        return await asyncio.gather(*(handle([{}], each) for each in contexts))

    assert asyncio.run(together()) == [["ok"]] * 3
    found = [report(each) for each in contexts]
    assert sorted(one.batch for one in found) == [1, 2, 3]
    assert all(one.streamed and one.end_ns == 0 for one in found)
    assert len({one.start_ns for one in found}) == 3
