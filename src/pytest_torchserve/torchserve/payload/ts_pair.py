"""The entry point of an archive with two arms: two handlers in one worker process, kept apart, called in turn.

Packed beside `ts_probe`, which clocks each arm. Under `probe:` in model-config.yaml stand `seed` and, for each
arm, the name of its handler, its manifest and its own config; the arm's files lie in a folder of the arm's name.

Under load a request's header names the arm that it is for.

Two processes of the same code differ by more than the effect sought, so both arms live in one process. What belongs to
an arm alone is swapped when the turn changes, outside the clocked time: the place of its files on `sys.path`, the
modules that came from there, the working directory, the state of the random generators, and the context's manifest,
config and model_dir. What belongs to the process (threads, allocator, flags) cannot be swapped: where the arms
disagree, every response says so.
"""

import copy
import gc
import os
import random
import sys
from typing import TYPE_CHECKING, Any

import ts_probe  # type: ignore[import-not-found]  # beside this file in the archive

if TYPE_CHECKING:
    from collections.abc import Callable

ARMS = ("baseline", "candidate")
ARM_HEADER = "TS-Arm"  # of the requests of a load: all requests of a batch are for one arm
_LOOKS = 3  # the process settings are checked around this many first batches of each arm,
_LOOK_EVERY = 64  # and then around every 64th
_OWN = ("manifest", "model_yaml_config", "_system_properties", "system_properties")


class _Place:
    """A folder whose modules exist only while it is entered: two folders may hold files of the same names."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.cwd = folder  # TorchServe starts workers in the model's folder, and handlers read files from there
        self.modules: dict[str, Any] = {}
        self._known = 0
        self._outside = ""

    def __enter__(self) -> None:
        self._outside = os.getcwd()  # noqa: PTH109
        os.chdir(self.cwd)
        sys.path.insert(0, self.folder)
        sys.modules.update(self.modules)
        self._known = len(sys.modules)

    def __exit__(self, *_: object) -> None:
        # Search only after an import: there are thousands of modules, and a switch at every batch.
        if len(sys.modules) != self._known:
            self.modules |= {name: module for name, module in list(sys.modules.items()) if self._holds(module)}
        for name in self.modules:
            sys.modules.pop(name, None)
        sys.path.remove(self.folder)
        self.cwd = os.getcwd()  # noqa: PTH109
        os.chdir(self._outside)

    def _holds(self, module: Any) -> bool:
        known = getattr(module, "__dict__", {})  # not by attribute: torch's own modules answer to any name
        path: Any = known.get("__path__")
        package = isinstance(path, list) or type(path).__name__ == "_NamespacePath"
        files = [known.get("__file__"), *(list(path) if package else [])]
        return any(isinstance(file, str) and file.startswith(self.folder + os.sep) for file in files)


class _Arm:
    """A handler behind a probe of its own, with the context that the handler would have alone."""

    def __init__(self, name: str, context: Any, settings: "dict[str, Any]") -> None:
        folder = os.path.join(context.system_properties["model_dir"], name)  # noqa: PTH118 - as TorchServe's own
        self.name = name
        self.place = _Place(folder)
        self.context = copy.copy(context)
        self.context.manifest = settings["manifest"]
        self.context.model_yaml_config = settings["config"]
        properties = {**context.system_properties, "model_dir": folder}
        # In TorchServe's Context, `system_properties` is a read-only property; in a plain object, an attribute.
        own = "_system_properties" if hasattr(context, "_system_properties") else "system_properties"
        setattr(self.context, own, properties)
        before, self._random = process_settings(), random_state()
        with self.place:
            self.probe = ts_probe.Probe(settings["handler"])
            self.probe.initialize(self.context)
        self.changed = changes(before)
        set_all({key: before[key] for key in self.changed})
        self._random = swap_random(self._random)

    def handle(self, data: Any, context: Any, tag: str) -> Any:
        """Handle one batch, as if the other arm were not there."""
        fresh = {key: value for key, value in vars(context).items() if key not in _OWN}
        vars(self.context).update(fresh)
        self.probe.tag = tag
        others = swap_random(self._random)
        try:
            with self.place:
                return self.probe.handle(data, self.context)
        finally:
            self._random = swap_random(others)


class Pair:
    """Both arms; in each pair of batches each arm handles one, in an order drawn anew."""

    def __init__(self, context: Any) -> None:
        told = context.model_yaml_config["probe"]
        self._random = random.Random(f"{told['seed']} {os.getpid()}")  # noqa: S311 - an order, no secret
        # The order of loading decides where each arm lies in memory, and so its speed: the order alternates.
        starts = _starts(context.system_properties["model_dir"])
        order = ARMS if (told["seed"] + starts) % 2 else ARMS[::-1]
        loaded = {name: _Arm(name, context, told["arms"][name]) for name in order}
        self._sides = loaded
        self._differs = disagreement(*(loaded[name].changed for name in ARMS))
        if not self._differs:
            set_all(loaded["candidate"].changed)  # set by both arms: each alone would run with these
        self._turns: list[str] = []
        self._pairs = 0

    def _shuffled(self) -> "list[str]":
        return self._random.sample(ARMS, len(ARMS))

    def handle(self, data: Any, context: Any) -> Any:
        """Handle one batch with the arm that its first request names, or else with the arm whose turn it is."""
        name = _named(context)
        if not name:
            if not self._turns:
                self._turns = self._shuffled()
                self._pairs += 1
            name = self._turns.pop()
        arm = self._sides[name]
        tag = f";arm={name};pair={self._pairs}"
        if self._differs:
            tag += f";differs={' '.join(sorted(self._differs))}"
        if arm.probe.batches >= _LOOKS and arm.probe.batches % _LOOK_EVERY:
            return arm.handle(data, context, tag)
        before = process_settings()
        try:
            return arm.handle(data, context, tag)
        finally:
            self._differs |= changes(before).keys()  # set by one arm, in force for both


def _named(context: Any) -> str:
    """Return the arm that a batch's first request names in its header; '' where it names none."""
    named = context.get_request_header(0, ARM_HEADER) if hasattr(context, "get_request_header") else None
    return named if named in ARMS else ""


def _starts(folder: str) -> int:
    """Return how many processes have started from this folder before; a file there has one byte for each."""
    file = os.open(os.path.join(folder, ".starts"), os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)  # noqa: PTH118
    try:
        os.write(file, b".")
        return os.fstat(file).st_size - 1
    finally:
        os.close(file)


def process_settings() -> "dict[str, Any]":
    """Return the settings that a handler can change for its whole process, as far as they can be read.

    Environment variables are left out: a module that both arms import sets them once, and only the arm that was
    loaded first would seem to have done so.
    """
    torch: Any = sys.modules.get("torch")  # TorchServe's own worker has loaded it
    found: dict[str, Any] = {"gc.enabled": gc.isenabled(), "gc.threshold": gc.get_threshold()}
    if torch is not None:
        found |= {name: get(torch) for name, (get, _) in _TORCH.items()}
    return found


def changes(before: "dict[str, Any]") -> "dict[str, Any]":
    """Return the settings that differ from these, with their values now."""
    return {key: value for key, value in process_settings().items() if key in before and value != before[key]}


def random_state() -> "dict[str, Any]":
    """Return the state of the random generators that handlers share: Python's, numpy's and torch's on the CPU."""
    numpy: Any = sys.modules.get("numpy")
    torch: Any = sys.modules.get("torch")
    found: dict[str, Any] = {"random": random.getstate()}
    if numpy is not None:
        found["numpy"] = numpy.random.get_state()
    if torch is not None:
        found["torch"] = torch.get_rng_state()
    return found


def swap_random(state: "dict[str, Any]") -> "dict[str, Any]":
    """Set the random generators to this state; return their state before."""
    before = random_state()
    random.setstate(state["random"])
    if "numpy" in state:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "torch" in state:
        sys.modules["torch"].set_rng_state(state["torch"])
    return before


def disagreement(baseline: "dict[str, Any]", candidate: "dict[str, Any]") -> "set[str]":
    """Return the names of the settings that the two arms left differently."""
    return {key for key in baseline.keys() | candidate.keys() if baseline.get(key) != candidate.get(key)}


def set_all(settings: "dict[str, Any]") -> None:
    """Restore these settings: the values before an arm was loaded, or the values that both arms have set."""
    torch: Any = sys.modules.get("torch")
    for key, value in settings.items():
        if key == "gc.threshold":
            gc.set_threshold(*value)
        elif key == "gc.enabled":
            (gc.enable if value else gc.disable)()
        elif value is not None and _TORCH[key][1] is not None:
            _TORCH[key][1](torch, value)


def _flag(path: str) -> "tuple[Callable[[Any], Any], Callable[[Any, Any], None]]":
    """Return the functions that read and set a flag of torch, such as `backends.cudnn.benchmark`."""
    *parents, name = path.split(".")

    def owner(torch: Any) -> Any:
        for parent in parents:
            torch = getattr(torch, parent)
        return torch

    return lambda torch: getattr(owner(torch), name), lambda torch, value: setattr(owner(torch), name, value)


_TORCH: "dict[str, tuple[Callable[[Any], Any], Any]]" = {
    "torch.num_threads": (lambda torch: torch.get_num_threads(), lambda torch, n: torch.set_num_threads(n)),
    "torch.num_interop_threads": (lambda torch: torch.get_num_interop_threads(), None),
    "torch.default_dtype": (lambda torch: torch.get_default_dtype(), lambda torch, d: torch.set_default_dtype(d)),
    "torch.grad_enabled": (lambda torch: torch.is_grad_enabled(), lambda torch, on: torch.set_grad_enabled(on)),
    "torch.matmul_precision": (
        lambda torch: torch.get_float32_matmul_precision(),
        lambda torch, precision: torch.set_float32_matmul_precision(precision),
    ),
    "torch.deterministic": (
        lambda torch: torch.are_deterministic_algorithms_enabled(),
        lambda torch, on: torch.use_deterministic_algorithms(on),
    ),
    "torch.cudnn.benchmark": _flag("backends.cudnn.benchmark"),
    "torch.cudnn.tf32": _flag("backends.cudnn.allow_tf32"),
    "torch.mkldnn": _flag("backends.mkldnn.enabled"),
}

_pair: "Pair | None" = None


def handle(data: Any, context: Any) -> Any:
    """TorchServe's entry point: called once with no data to initialize, then with each batch."""
    global _pair  # noqa: PLW0603 - TorchServe calls a module-level function; its state lives in the module
    if _pair is None:
        _pair = Pair(context)
        return None
    if data is None:
        return None
    return _pair.handle(data, context)
