"""The probe's search for the real handler, as TorchServe's own loader (`ts.model_loader`) would find it."""

import importlib
import inspect
import sys
import types
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

METHOD_PHASES = ("preprocess", "inference", "postprocess")
PROBED_INIT_PHASES = ("load_model", "to_device", "warm_up")
_MANY = 100  # models in one collection; a vocabulary of a million words is not searched


class Handler:
    """The real handler: its two calls, and the places where its phases and its network can be found.

    Args:
        name: the handler in the original manifest: `file.py`, `file.py:function`, or the name of a stock handler.
        on_instance: called with the instance of a handler class before its `__init__` runs, which may hand bound
            methods to threads.

    Attributes:
        initialize: called once, with the context.
        handle: called with each batch and the context.
    """

    initialize: "Callable[[Any], Any]"
    handle: "Callable[[Any, Any], Any]"

    def __init__(self, name: str, on_instance: "Callable[[Any], object]") -> None:
        file, _, function = name.partition(":")
        self.module = _load_module(file)
        self.function = function or "handle"
        self._instance: Any = None
        if hasattr(self.module, self.function):
            entry = getattr(self.module, self.function)
            self.initialize, self.handle = lambda context: entry(None, context), entry
            return
        kinds = _classes(self.module)
        if len(kinds) != 1:
            found = [kind.__name__ for kind in kinds]
            message = f"{file}: wanted one handler class or a function {self.function}(); found {found}"
            raise ValueError(message)
        instance = self._instance = _construct(kinds[0], on_instance)
        self.initialize, self.handle = instance.initialize, instance.handle

    def places(self) -> "Iterator[tuple[Any, tuple[str, ...]]]":
        """Yield each place that may hold phases, with the names to look for there; a lazy handler has more later.

        A handler function may call functions of its module or methods of an object that its module holds.
        """
        if self._instance is not None:
            yield self._instance, METHOD_PHASES
            return
        yield self.module, tuple(name for name in METHOD_PHASES if name != self.function)
        for value in _objects(vars(self.module).values()):
            if any(callable(getattr(type(value), name, None)) for name in ("initialize", *METHOD_PHASES)):
                yield value, METHOD_PHASES

    def device(self) -> str:
        """Return the device of the first network found, as torch spells it; `none` where none is found.

        A frozen network has no parameter, and another library's session tells its provider at most.
        """
        torch: Any = sys.modules.get("torch")
        roots = [place for place, _ in self.places() if place is not self.module]
        near = [value for root in roots for value in _attributes(root)]
        near += _objects(vars(self.module).values())
        near += [item for value in near if isinstance(value, (list, tuple)) for item in value[:_MANY]]
        near += [item for value in near if isinstance(value, dict) for item in islice(value.values(), _MANY)]
        near += [item for value in near for item in _attributes(value)]
        networks = [value for value in near if torch is not None and isinstance(value, torch.nn.Module)]
        parameter = next((one for network in networks for one in network.parameters()), None)
        if parameter is not None:
            return str(parameter.device)
        providers = [value.get_providers() for value in near if callable(getattr(type(value), "get_providers", None))]
        return _device_of(providers[0]) if providers else "none"


def _load_module(name: str) -> Any:
    """Import the handler's module: a file of the archive, else a stock handler."""
    module = name.removesuffix(".py").split("/")[-1]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != module:
            raise  # the handler is there; what it imports is not
    # Outside the `except`: an error here is no consequence of the missing file.
    return importlib.import_module("ts.torch_handler." + name)


def _classes(module: Any) -> "list[type]":
    return [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__]


def _construct(kind: Any, on_instance: "Callable[[Any], object]") -> Any:
    """Return an instance; `on_instance` sees it before its `__init__`, unless a metaclass makes instances itself."""
    if type(kind).__call__ is not type.__call__:
        return kind()
    instance = kind.__new__(kind)
    if isinstance(instance, kind):
        on_instance(instance)
        instance.__init__()
    return instance


def _objects(values: "Iterable[Any]") -> "list[Any]":
    """Return the values that are no modules, classes or functions."""
    skipped = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType)
    return [value for value in values if not isinstance(value, skipped)]


def _attributes(value: Any) -> "list[Any]":
    """Return the values of an object's attributes, those in slots included."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if isinstance(name, str)]
    own = list(getattr(value, "__dict__", {}).values())
    return _objects(own + [getattr(value, name) for name in slots if name != "__dict__" and hasattr(value, name)])


def _device_of(providers: "list[str]") -> str:
    """Return the device of ONNX Runtime's execution providers: the first is the preferred one."""
    first = str(providers[0]) if providers else ""
    known = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
    return known.get(first, "none")
