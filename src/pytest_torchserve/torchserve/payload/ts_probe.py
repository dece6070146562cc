"""The probe: a .mar's entry point that times the real handler from outside and reports in response headers.

Packed into every archive, the probe needs the standard library alone, and touches torch only where the handler
has imported it. The real handler's name stands in model-config.yaml under `probe: handler:`.

Phases are clocked by replacing methods on the handler's *instance*; the handler's class and file stay untouched.
The names of the headers are those in `pytest_torchserve.loadgen.probe_report`.
"""

import importlib
import inspect
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_now_ns = time.monotonic_ns
_HANDLER_PHASES = ("preprocess", "inference", "postprocess")
_INIT_PHASES = ("load_model", "to_device", "warm_up")
_ROUNDS = 500  # calls of an empty method, to measure the cost of clocking; under a millisecond
_ANY = "any"
_INIT_REPORTS = 3  # this many first batches carry the init report: a lost response loses nothing


def _load_module(name: str) -> Any:
    """Import the handler as TorchServe would: a file of the archive, else a stock handler."""
    try:
        return importlib.import_module(name.removesuffix(".py"))
    except ModuleNotFoundError as missing:
        if missing.name != name.removesuffix(".py"):
            raise  # the handler is there; what it imports is not
    # Outside the `except`: an error here is no consequence of the missing file.
    return importlib.import_module("ts.torch_handler." + name)


def _find_handler(name: str) -> "tuple[Any, Callable[[Any], Any], Callable[[Any, Any], Any]]":
    """Return the handler's instance (or None) and its two calls: `initialize(context)`, `handle(data, context)`."""
    file, _, function = name.partition(":")
    module = _load_module(file)
    entry = getattr(module, function or "handle", None)
    if entry is not None:
        instances = (value for value in vars(module).values() if hasattr(value, "initialize"))
        instance = next((value for value in instances if not inspect.isclass(value)), None)
        return instance, lambda context: entry(None, context), entry
    classes = [
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        message = f"{file}: wanted one handler class or a function handle(); found {[c.__name__ for c in classes]}"
        raise ValueError(message)
    handler: Any = classes[0]()
    return handler, handler.initialize, handler.handle


class _Stopwatch:
    """A stopwatch that adds up the time of named calls. On a GPU, a call's start and end wait for the device."""

    def __init__(self) -> None:
        self.spent_ns: dict[str, int] = {}
        self._running: set[str] = set()
        self.synchronize: Callable[[], object] | None = None

    def now_ns(self) -> int:
        """Return the monotonic time, once the device has caught up."""
        if self.synchronize is not None:
            self.synchronize()
        return _now_ns()

    def wrap(self, name: str, call: "Callable[..., Any]") -> "Callable[..., Any]":
        """Return `call`, clocked under `name`; of nested calls of one name the outermost counts."""
        running = self._running

        def clocked(*args: Any, **kwargs: Any) -> Any:
            if name in running:
                return call(*args, **kwargs)
            running.add(name)
            start_ns = self.now_ns()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent_ns[name] = self.spent_ns.get(name, 0) + self.now_ns() - start_ns
                running.discard(name)

        return clocked

    def wrap_methods(self, instance: Any, names: "Iterable[str]", parts: "_Stopwatch | None" = None) -> "list[str]":
        """Replace the methods of these names on the instance; return the names that it has.

        Where `parts` is given, the time of all these methods together is added up there as well.
        """
        found = [name for name in names if callable(getattr(instance, name, None))]
        for name in found:
            method = getattr(instance, name)
            setattr(instance, name, self.wrap(name, method if parts is None else parts.wrap(_ANY, method)))
        return found


class Probe:
    """A wrapper around one worker's handler: `initialize` once, then `handle` for each batch."""

    def __init__(self, name: str) -> None:
        self.watch = _Stopwatch()
        self.instance, self._initialize, self._handle = _find_handler(name)
        self.parameter: Any = None
        self.device_index: int | None = None
        self.init_report = ""
        self.gpu_bytes = 0
        self.batches = 0
        self.tag = ""  # in an archive with two arms: the arm and the number of its pair

    def initialize(self, context: Any) -> None:
        """Run the real `initialize`, and clock the phases that can be seen inside it."""
        watch = self.watch
        torch: Any = sys.modules.get("torch")
        parts = _Stopwatch()  # all phases together: where one calls another, the time counts once
        seen = watch.wrap_methods(self.instance, _INIT_PHASES, parts) if self.instance is not None else []
        gpu = context.system_properties.get("gpu_id")
        if gpu is not None:
            self.device_index = int(gpu)
            watch.synchronize = parts.synchronize = self._synchronize
        original_to = torch.nn.Module.to if torch is not None else None
        if original_to is not None and "to_device" not in seen:
            torch.nn.Module.to = watch.wrap("to_device", parts.wrap(_ANY, original_to))
        try:
            start_ns = watch.now_ns()
            self._initialize(context)
            initialize_ns = watch.now_ns() - start_ns
        finally:
            if original_to is not None:
                torch.nn.Module.to = original_to
        spent = watch.spent_ns
        spent.setdefault("to_device", 0)
        spent.setdefault("load_model", initialize_ns - parts.spent_ns.get(_ANY, 0))
        start_report = {**spent, "initialize": initialize_ns}
        self.parameter = self._find_parameter(sys.modules.get("torch"))
        self.gpu_bytes = self._gpu_bytes()
        phases = watch.wrap_methods(self.instance, _HANDLER_PHASES) if self.instance is not None else []
        clock_ns, call_ns = self._cost()
        start_report |= {"probe_clock": clock_ns, "probe_handle": clock_ns + len(phases) * call_ns}
        self.init_report = _server_timing(start_report)

    def _cost(self) -> "tuple[int, int]":
        """Return the time clocked for an empty method, and the time that clocking adds to its caller; medians in ns."""

        def empty() -> None:
            pass

        clocked, spent = self.watch.wrap("empty", empty), self.watch.spent_ns
        inside, outside = [], []
        for _ in range(_ROUNDS):
            spent.clear()
            start_ns = _now_ns()
            clocked()
            between_ns = _now_ns()
            empty()
            outside.append(2 * between_ns - start_ns - _now_ns())
            inside.append(spent["empty"])
        spent.clear()
        return sorted(inside)[_ROUNDS // 2], max(0, sorted(outside)[_ROUNDS // 2])

    def _find_parameter(self, torch: Any) -> Any:
        """Return a parameter of the first network among the handler's attributes or theirs: it has a device."""
        if torch is None or self.instance is None:
            return None
        near = list(vars(self.instance).values())
        near += [item for value in near if isinstance(value, (list, tuple)) for item in value]
        near += [item for value in near if hasattr(value, "__dict__") for item in list(vars(value).values())]
        networks = (value for value in near if isinstance(value, torch.nn.Module))
        return next((parameter for network in networks for parameter in network.parameters()), None)

    def handle(self, data: Any, context: Any) -> Any:
        """Run the real `handle` on one batch and report on the batch in every response's headers."""
        watch = self.watch
        spent = watch.spent_ns
        spent.clear()
        start_ns = watch.now_ns()
        answers = self._handle(data, context)
        end_ns = watch.now_ns()
        spent["handle"] = end_ns - start_ns
        self.batches += 1
        if self.batches <= _INIT_REPORTS:
            self.gpu_bytes = self._gpu_bytes()
        timing = _server_timing(spent)
        batch = (
            f"id={self.batches};size={len(data)};pid={os.getpid()};device={self._device()};"
            f"start={start_ns};end={end_ns};gpu={self.gpu_bytes}{self.tag}"
        )
        for index in range(len(data)):
            context.set_response_header(index, "Server-Timing", timing)
            context.set_response_header(index, "TS-Probe-Batch", batch)
            if self.batches <= _INIT_REPORTS:
                context.set_response_header(index, "TS-Probe-Init", self.init_report)
        return answers

    def _device(self) -> str:
        return "none" if self.parameter is None else str(self.parameter.device)

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


def _server_timing(spent_ns: "dict[str, int]") -> str:
    return ", ".join(f"{name};dur={ns / 1e6:.6f}" for name, ns in spent_ns.items())


_probe: "Probe | None" = None


def handle(data: Any, context: Any) -> Any:
    """TorchServe's entry point: called once with no data to initialize, then with each batch."""
    global _probe  # noqa: PLW0603 - TorchServe calls a module-level function; its state lives in the module
    if _probe is None:
        _probe = Probe(context.model_yaml_config["probe"]["handler"])
        _probe.initialize(context)
        return None
    if data is None:
        return None
    return _probe.handle(data, context)
