"""Weights that are loaded now: borrowed by nodes, moved where they are needed, and given up when room is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from nodegraph import looks
from nodegraph.context import Files
from nodegraph.ending import ForkSafeLock
from nodegraph.handles import Handle
from nodegraph.heap import HEAP
from nodegraph.literals import Refused
from nodegraph.models import ModelFolder, Stamps

FORK = 30.0
"""Seconds that a process that is to be forked off waits for weights that are being made."""
_building = ForkSafeLock(FORK)
"""Held while weights are made: to make no weights twice, libraries put others in the place of torch's own functions and of its default
dtype, for all threads, and what two at once put back in the wrong order stays there, as it does in a process that is forked off
meanwhile. Then all later modules lose their weights."""


class Resident:
    """Weights that are loaded now: borrowed while a node runs, kept after that, given up when room is needed.

    `budget` bounds the bytes of parameters that stay on a device while nobody uses them; what is idle longest moves to the host,
    where `host_budget` (the same, if not given) bounds it, and then goes. Thread-safe.
    """

    def __init__(self, folder: ModelFolder, budget: int, host_budget: int | None = None):
        self.folder, self.budget = folder, budget
        self.host_budget = budget if host_budget is None else host_budget
        self.loaded: Callable[[str, float, float, int], None] | None = None  # told what was loaded, from when, how long, how large
        self._loaded: dict[Any, _Weights] = {}
        self._lock = threading.Lock()
        self._clock = 0

    @contextmanager
    def use(self, handle: Handle, load: Callable[[Files, str, str], Any], device: str, dtype: str) -> Iterator[Any]:
        """Borrow the weights of a handle as `load` makes them. Raises Refused when files are gone, and in the end where they have been
        written over in their place: weights on the host are those in the files, which are not copied."""
        dtype = handle.dtype if handle.dtype != "auto" else dtype
        name = (handle.digest(), load.__module__, load.__qualname__, device, dtype)
        with self._lock:
            self._clock += 1
            weights = self._loaded.setdefault(name, _Weights(device))
            weights.users += 1
            weights.used = self._clock
        try:
            with weights.lock:
                if weights.module is None:
                    weights.module, weights.read = self._load(handle, load, device, dtype)
                    weights.place, weights.nbytes = device, _weight_bytes(weights.module)
                elif weights.place != device:
                    self._bring(weights, device)
            with HEAP.kept():
                yield weights.module
            if device == "cpu" and weights.nbytes and _written_over(weights.read):
                with self._lock:
                    self._loaded = {one: each for one, each in self._loaded.items() if each is not weights}
                raise _changed(handle)
        finally:
            with self._lock:
                weights.users -= 1
                if weights.module is None and not weights.users:
                    self._loaded.pop(name, None)
            self.make_room()

    def _load(self, handle: Handle, load: Callable[[Files, str, str], Any], device: str, dtype: str) -> tuple[Any, Stamps]:
        """The weights, and the stamps of the files that they were read from."""
        files = self.folder.locate(handle.files)
        if files is None:
            raise Refused("model-gone", f"the files of {handle.component or 'the model'} are gone", "restore them, or run again")
        self.make_room()
        begun = time.perf_counter()
        stamps = {name: (path, looks.stamp(path)) for name in files if looks.is_file(path := str(files.path(name)))}
        try:
            with _building.held():
                module = load(files, device, dtype)
        finally:  # also where they cannot be read for that reason
            if not self.folder.holds(handle.files, files):
                raise _changed(handle)
        if self.loaded is not None:
            self.loaded(handle.component or load.__name__, begun, time.perf_counter() - begun, _weight_bytes(module))
        return module, stamps

    @staticmethod
    def _bring(weights: _Weights, device: str) -> None:
        """Move weights from the host to a device. What had been moved when it ran out of memory would be there uncounted."""
        try:
            weights.module = _moved(weights.module, device)
        except BaseException:
            weights.module = _moved(weights.module, weights.place)
            raise
        weights.place = device

    def make_room(self) -> int:
        """Bring idle weights within the budgets, longest idle first. Returns bytes freed on the device."""
        return self._rest(self.budget) + self._let_go(self.host_budget)

    def rest(self) -> int:
        """Move all idle weights from the device to the host. Returns the bytes freed on the device."""
        return self._rest(0, whatever_is_used=True)

    def clear(self) -> int:
        """Let all idle weights go. Returns the bytes freed."""
        return self._let_go(0, everywhere=True)

    def held(self) -> int:
        """Bytes of all weights that are loaded."""
        with self._lock:
            return sum(one.nbytes for one in self._loaded.values())

    def _rest(self, bound: int, whatever_is_used: bool = False) -> int:
        """Move idle weights to the host until those on the device fit a bound; weights in use count, but stay."""
        freed = 0
        with self._lock:
            here = [(name, one) for name, one in self._loaded.items() if one.place != "cpu" and one.module is not None]
            total = sum(one.nbytes for _, one in here if not (whatever_is_used and one.users))
            for name, one in sorted(here, key=lambda item: item[1].used):
                if total - freed <= bound:
                    break
                if one.users:
                    continue
                freed += one.nbytes
                try:
                    one.module, one.place = _moved(one.module, "cpu"), "cpu"
                except (AttributeError, TypeError, MemoryError, RuntimeError):  # it cannot move, or the host has no room
                    del self._loaded[name]
        return freed

    def _let_go(self, bound: int, everywhere: bool = False) -> int:
        """Let idle weights on the host go until what is there fits a bound; `everywhere`: those on the device too."""
        freed = 0
        with self._lock:
            here = [(name, one) for name, one in self._loaded.items() if everywhere or one.place == "cpu"]
            total = sum(one.nbytes for _, one in here)
            for name, one in sorted(here, key=lambda item: item[1].used):
                if total - freed <= bound and not everywhere:
                    break
                if not one.users:
                    freed += one.nbytes
                    del self._loaded[name]
        return freed


class _Weights:
    """One loaded thing, where it is, who uses it, and when it was used last."""

    __slots__ = ("lock", "module", "nbytes", "place", "read", "used", "users")

    def __init__(self, place: str) -> None:
        self.module: Any = None
        self.read: Stamps = {}
        self.place = place
        self.nbytes = self.users = self.used = 0
        self.lock = threading.Lock()


def _changed(handle: Handle) -> Refused:
    text = f"the files of {handle.component or 'the model'} have changed since they were looked at"
    return Refused("model-gone", text, "run again, or restore them")


def _written_over(read: Stamps) -> bool:
    """Whether files hold other bytes than when they were read, and have not merely been replaced or removed."""
    for path, before in read.values():
        with suppress(OSError):
            now = looks.stamp(path)
            if (now.device, now.inode) == (before.device, before.inode) and (now.size, now.mtime_ns) != (before.size, before.mtime_ns):
                return True
    return False


def _moved(module: Any, place: str) -> Any:
    """A module, or the modules in a tuple, list or dict, on another device. Raises AttributeError for what cannot move."""
    if isinstance(module, Mapping):
        return {name: _moved(one, place) for name, one in module.items()}
    if isinstance(module, tuple | list):
        moved = [_moved(one, place) for one in module]
        return type(module)(*moved) if hasattr(module, "_fields") else type(module)(moved)  # a NamedTuple takes them one by one
    return module.to(place) if hasattr(module, "parameters") else module


def _weight_bytes(module: Any) -> int:
    """The bytes of the parameters and buffers of a module, or of the modules in a tuple, list or dict, each tensor once."""
    return sum(int(one.nbytes) for one in {id(one): one for one in _tensors(module)}.values())


def _tensors(module: Any) -> Iterator[Any]:
    if isinstance(module, Mapping | tuple | list):
        for one in module.values() if isinstance(module, Mapping) else module:
            yield from _tensors(one)
    elif hasattr(module, "parameters") and hasattr(module, "buffers"):
        yield from module.parameters()
        yield from module.buffers()
