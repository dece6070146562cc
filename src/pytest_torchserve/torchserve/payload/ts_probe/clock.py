"""The probe's stopwatch: clocks named calls by replacing methods on an instance, or functions in a module."""

import functools
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

now_ns = time.monotonic_ns
_ROUNDS = 500  # calls of an empty method, to measure the cost of clocking; under a millisecond


class Stopwatch:
    """A stopwatch that adds up the time of named calls. On a GPU, a call's start and end wait for the device.

    Calls in several threads are added up: the sum is busy time, and may exceed the time that has passed.

    Attributes:
        spent_ns: the time of each name so far.
        threads: the threads in which clocked calls ran.
        synchronize: waits for the device; None for no wait.
    """

    def __init__(self) -> None:
        self.spent_ns: dict[str, int] = {}
        self.threads: set[int] = set()
        self.synchronize: Callable[[], object] | None = None
        self._running: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._made: list[Callable[..., Any]] = []

    def now_ns(self) -> int:
        """Return the monotonic time, once the device has caught up."""
        if self.synchronize is not None:
            self.synchronize()
        return now_ns()

    def wrap(self, name: str, call: "Callable[..., Any]") -> "Callable[..., Any]":
        """Return `call`, clocked under `name`; of nested calls of one name the outermost counts."""
        running, threads, lock, spent_ns = self._running, self.threads, self._lock, self.spent_ns

        @functools.wraps(call, updated=())
        def clocked(*args: Any, **kwargs: Any) -> Any:
            thread = threading.get_ident()
            key = (name, thread)
            if key in running:
                return call(*args, **kwargs)
            running.add(key)
            threads.add(thread)
            start_ns = self.now_ns()
            try:
                return call(*args, **kwargs)
            finally:
                took_ns = self.now_ns() - start_ns
                with lock:
                    spent_ns[name] = spent_ns.get(name, 0) + took_ns
                running.discard(key)

        return clocked

    def wrap_methods(self, owner: Any, names: "Iterable[str]", parts: "Stopwatch | None" = None) -> None:
        """Replace the functions of these names on a handler's instance, or in its module, by clocked ones.

        Where `parts` is given, the time of all these functions together is added up there as well. A function that is
        clocked already stays as it is.
        """
        for name in names:
            # Looked up without `__getattr__`, which may need what `__init__` has yet to make. An object that can be
            # called stays what it is: its owner may use its attributes.
            if inspect.getattr_static(owner, name, None) is None:
                continue
            method: Any = getattr(owner, name, None)
            if _is_function(method) and not any(method is made for made in self._made):
                clocked = self.wrap(name, method if parts is None else parts.wrap("any", method))
                self._made.append(clocked)
                _replace(owner, name, clocked)

    def cost_ns(self) -> "tuple[int, int]":
        """Return the time clocked for an empty method, and the time that clocking adds to its caller; medians in ns."""

        def empty() -> None:
            pass

        clocked, spent = self.wrap("empty", empty), self.spent_ns
        inside, outside = [], []
        for _ in range(_ROUNDS):
            spent.clear()
            start_ns = now_ns()
            clocked()
            between_ns = now_ns()
            empty()
            outside.append(2 * between_ns - start_ns - now_ns())
            inside.append(spent["empty"])
        spent.clear()
        return sorted(inside)[_ROUNDS // 2], max(0, sorted(outside)[_ROUNDS // 2])


def _is_function(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, functools.partial)


def _replace(owner: Any, name: str, call: "Callable[..., Any]") -> None:
    """Set an attribute, also on an instance of a class with __slots__, which has no place for the attribute."""
    try:
        setattr(owner, name, call)
    except AttributeError:
        kind: Any = type(owner)
        members = {"__slots__": (), "__module__": kind.__module__, name: staticmethod(call)}
        owner.__class__ = type(kind)(kind.__name__, (kind,), members)
