"""The probe: a .mar's entry point that times the real handler from outside and reports in response headers.

Packed into every archive as a package, the probe needs the standard library alone, and touches torch
only where the handler has imported it. The real handler's name and the real config file stand in `ts_probe.json`.

Phases are clocked by replacing methods on the handler's *instance*, or functions in its module; the handler's class and
file stay untouched. The names of the headers are those in `pytest_torchserve.loadgen.probe_report`.
"""

import inspect
import json
import os
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clock import Stopwatch
from .handler import METHOD_PHASES, PROBED_INIT_PHASES, Handler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SETTINGS = "ts_probe.json"
_INIT_REPORTS = 3  # this many first batches carry the init report: a lost response loses nothing


class _Batch:
    """A batch in work."""

    __slots__ = ("start_ns", "streamed")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.streamed = False  # whether it was reported with its first chunk


_awaited: "ContextVar[_Batch | None]" = ContextVar("ts_probe_batch", default=None)
"""The batch that an asynchronous handler works on: several are in work at a time, each in a context of its own."""


class Probe:
    """A wrapper around one worker's handler: `initialize` once, then `handle` for each batch."""

    def __init__(self, name: str) -> None:
        self.watch = Stopwatch()
        _report_before_streaming(self)  # before the handler imports what sends chunks
        self.handler = Handler(name, lambda instance: self.watch.wrap_methods(instance, METHOD_PHASES))
        self.device = "none"
        self.device_index: int | None = None
        self.init_report = ""
        self.gpu_bytes = 0
        self.batches = 0
        self._batch: _Batch | None = None  # in work; an asynchronous handler's is `_awaited`
        self.tag = ""  # in an archive with two arms: the arm and the number of its pair

    def initialize(self, context: Any) -> None:
        """Run the real `initialize`, and clock the phases that can be seen inside it."""
        watch = self.watch
        torch: Any = sys.modules.get("torch")
        parts = Stopwatch()  # all phases together: where one calls another, the time counts once
        for place, _ in self.handler.places():
            watch.wrap_methods(place, PROBED_INIT_PHASES, parts)
        gpu = context.system_properties.get("gpu_id")
        if gpu is not None:
            self.device_index = int(gpu)
            watch.synchronize = parts.synchronize = self._synchronize
        original_to: Any = torch.nn.Module.to if torch is not None else None
        if torch is not None:
            torch.nn.Module.to = watch.wrap("to_device", parts.wrap("any", original_to))
        try:
            start_ns = watch.now_ns()
            self.handler.initialize(context)
            initialize_ns = watch.now_ns() - start_ns
        finally:
            if torch is not None:
                torch.nn.Module.to = original_to
        spent = watch.spent_ns
        for name in METHOD_PHASES:
            spent.pop(name, None)  # called by the start; no batch of anyone's
        spent.setdefault("to_device", 0)
        spent.setdefault("load_model", initialize_ns - parts.spent_ns.get("any", 0))
        start_report = {**spent, "initialize": initialize_ns}
        phases = self._clock_phases()
        clock_ns, call_ns = watch.cost_ns()
        start_report |= {"probe_clock": clock_ns, "probe_handle": clock_ns + phases * call_ns}
        self.init_report = _server_timing(start_report)

    def _clock_phases(self) -> int:
        """Clock the phases that the handler has by now, look where its network is, and return how many there are."""
        found: set[str] = set()
        for place, names in self.handler.places():
            self.watch.wrap_methods(place, names)
            found |= {name for name in names if callable(getattr(place, name, None))}
        self.device, self.gpu_bytes = self.handler.device(), self._gpu_bytes()
        return len(found)

    def handle(self, data: Any, context: Any) -> Any:
        """Run the real `handle` on one batch and report on the batch in every response's headers."""
        watch = self.watch
        spent = watch.spent_ns
        spent.clear()
        watch.threads.clear()
        start_ns = watch.now_ns()
        self._batch = batch = _Batch(start_ns)
        try:
            answers = self.handler.handle(data, context)
            end_ns = watch.now_ns()
        finally:
            self._batch = None
        if inspect.isawaitable(answers):
            return self._when_answered(answers, data, context, batch)
        phases = {name: spent[name] for name in METHOD_PHASES if name in spent}
        if self.batches < _INIT_REPORTS:
            self._clock_phases()  # a handler may load its model at the first request
        if batch.streamed:
            return answers  # the head has left, with the report
        requests = _requests(data, context)
        busy = f";threads={len(watch.threads)}" if len(watch.threads) > 1 else ""
        timing = _server_timing({**phases, "handle": end_ns - start_ns})
        self._report(context, requests, f"start={start_ns};end={end_ns};gpu={self.gpu_bytes}{self.tag}{busy}", timing)
        return answers

    async def _when_answered(self, answers: Any, data: Any, context: Any, batch: _Batch) -> Any:
        """Await an asynchronous handler, and report its `handle` alone: phases of several batches may interleave."""
        _awaited.set(batch)
        found = await answers
        end_ns = self.watch.now_ns()
        if not batch.streamed:
            edges = f"start={batch.start_ns};end={end_ns};gpu={self.gpu_bytes}{self.tag}"
            self._report(context, _requests(data, context), edges, _server_timing({"handle": end_ns - batch.start_ns}))
        return found

    def report_stream(self, context: Any) -> None:
        """Report on a batch whose first chunk is about to leave with the head: its phases are not known yet."""
        batch = _awaited.get() or self._batch
        if batch is None or batch.streamed:
            return
        batch.streamed = True
        edges = f"start={batch.start_ns};end=0;gpu={self.gpu_bytes}{self.tag};streamed=1"
        self._report(context, _requests((), context), edges)

    def _report(self, context: Any, requests: "Sequence[int]", edges: str, timing: str = "") -> None:
        """Count a batch, once, and set its headers; without `timing` where its phases are not known yet."""
        self.batches += 1
        batch = f"id={self.batches};size={len(requests)};pid={os.getpid()};device={self.device};{edges}"
        for index in requests:
            if timing:
                context.set_response_header(index, "Server-Timing", timing)
            context.set_response_header(index, "TS-Probe-Batch", batch)
            if self.batches <= _INIT_REPORTS:
                context.set_response_header(index, "TS-Probe-Init", self.init_report)

    def _synchronize(self) -> None:
        """Wait for the GPU; not before the handler has initialized CUDA, which is part of the cost of its start."""
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize(self.device_index)

    def _gpu_bytes(self) -> int:
        """Return the bytes that torch has reserved on the GPU. For the first batches only: the call is not cheap."""
        torch: Any = sys.modules.get("torch")
        if self.device_index is None or torch is None or not torch.cuda.is_initialized():
            return 0
        return int(torch.cuda.memory_reserved(self.device_index))


def _requests(data: Any, context: Any) -> "Sequence[int]":
    """Return the numbers of the batch's requests; an envelope may make more or fewer items of them than `data` has."""
    return range(len(getattr(context, "request_ids", None) or data))


def _report_before_streaming(probe: Probe) -> None:
    """Let the probe report before the first chunk of a streamed answer takes the head along."""
    for name in ("ts.protocol.otf_message_handler", "ts.handler_utils.utils"):
        module = sys.modules.get(name)
        if module is not None:
            module.create_predict_response = _reporting(module.create_predict_response, probe)  # type: ignore[attr-defined]


def _reporting(encode: "Callable[..., Any]", probe: Probe) -> "Callable[..., Any]":
    """Return the function that encodes a response for a chunk; a whole answer is encoded under another name."""

    def reporting(ret: Any, ids: Any, message: Any, code: Any, context: Any = None, *rest: Any, **named: Any) -> Any:
        if context is not None:
            probe.report_stream(context)
        return encode(ret, ids, message, code, context, *rest, **named)

    return reporting


def _server_timing(spent_ns: "dict[str, int]") -> str:
    return ", ".join(f"{name};dur={ns / 1e6:.6f}" for name, ns in spent_ns.items())


def restore(context: Any) -> str:
    """Give the context the original manifest and config, as the archive had them; return the handler's name there."""
    folder = Path(context.system_properties["model_dir"])
    settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    context.manifest["model"] = settings["model"]
    config = settings["model"].get("configFile")
    if config:
        from ts.utils.util import get_yaml_config  # noqa: PLC0415 - in the worker; read as TorchServe reads it

        context.model_yaml_config = get_yaml_config(str(folder / config))
    else:
        context.model_yaml_config = {}
    return str(settings["model"]["handler"])


_probe: "Probe | None" = None


def handle(data: Any, context: Any) -> Any:
    """TorchServe's entry point: called once with no data to initialize, then with each batch."""
    global _probe  # noqa: PLW0603 - TorchServe calls a module-level function; its state lives in the module
    if _probe is None:
        _probe = Probe(restore(context))
        _probe.initialize(context)
        return None
    return _probe.handle(data, context)
