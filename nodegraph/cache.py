"""Results by key under byte budgets: the device and host tiers, over the disk tier of `store`.

What leaves a tier is what saves the least time for its bytes (measured seconds ÷ bytes, aged as in GreedyDual-Size, Cao and
Irani 1997), and it sinks one tier rather than vanishing: from the device to the host, from the host to what the disk has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nodegraph import arrays, kinds
from nodegraph.entries import Entry, PlainEntry, compacted, host_bytes, rebuilt
from nodegraph.store import Store

Outside = tuple[Any, ...]
"""Values that stand for something outside: files, handles."""
KEEP = 0.9
"""When a tier is over its budget it is brought down to this part of it, so that evictions come in waves."""


class Cache:
    """Thread-safe. `budget` bounds the host tier, `device_budget` what cached results hold on the device, in bytes.

    `valid(value)` says whether a value that stands for something outside still does.
    """

    def __init__(self, store: Store | None, budget: int, device_budget: int, valid: Callable[[Any], bool]):
        self.store, self.budget, self.device_budget, self._valid = store, budget, device_budget, valid
        self._entries: dict[bytes, Entry] = {}
        self._links: dict[bytes, bytes | tuple[bytes, Outside]] = {}  # a bare work key where nothing outside is behind it
        self._storages: dict[tuple[int, int], int] = {}
        self._lock = threading.RLock()
        self._age = 0.0
        self._threshold: float = budget
        self.used = 0
        self.device_used = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def may_have(self, key: bytes) -> bool:
        """False when surely no tier has a result under a work key."""
        return key in self._entries or (self.store is not None and self.store.may_have(key))

    def may_link(self, plan_key: bytes) -> bool:
        """False when surely nothing is known of a plan key."""
        return plan_key in self._links or (self.store is not None and self.store.may_link(plan_key))

    def get(self, key: bytes) -> Entry | None:
        """The result under a work key, from any tier, while the outside values in it are valid. Values on disk are not read yet."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.score = self._age + entry.seconds / entry.nbytes
        elif self.store:
            entry = self.store.get(key)
        if entry is not None and entry.outside and not all(map(self._valid, entry.outside)):
            return None
        return entry

    def linked(self, plan_key: bytes) -> tuple[Entry, Outside] | None:
        """The result of a plan key and the outside values behind it, while every one of them is still valid."""
        link: Any = self._links.get(plan_key)
        if link is None:
            if self.store is None or (link := self.store.linked(plan_key)) is None:
                return None
        elif link.__class__ is bytes:
            link = (link, ())
        if link[1] and not all(map(self._valid, link[1])):
            return None
        entry = self.get(link[0])
        return None if entry is None else (entry, link[1])

    def link(self, plan_key: bytes, entry: Entry, outside: Outside) -> None:
        """Remember that a plan key led to a result, and the outside values behind it."""
        if entry.key is not None:
            self._links[plan_key] = (entry.key, outside) if outside else entry.key
            if entry.stored and self.store:
                self.store.link(plan_key, entry.key, outside)

    def put_plain(self, entry: PlainEntry, plan_key: bytes | None) -> None:
        """Keep a fresh result that nothing outside is behind."""
        key, nbytes = entry.key, entry.nbytes
        entry.score = self._age + entry.seconds / nbytes
        with self._lock:
            if key in self._entries:
                self._forget(key)
            self._entries[key] = entry  # type: ignore[index]
            self.used += nbytes
            if plan_key is not None:
                self._links[plan_key] = key  # type: ignore[assignment]
            if self.used > self._threshold:
                self._evict_host()
        if entry.seconds > 0.02 and self.store:  # worth the disk whatever its size
            self.store.put(entry, plan_key, ())

    def put(self, entry: Entry, plan_key: bytes | None, outside: Outside) -> None:
        """Keep a fresh result, in memory and, if that is worth it, on disk."""
        key = entry.key
        assert key is not None  # only results with a key can be kept
        if entry.kind == "values":
            found = list(kinds.arrays_in(entry.values)) if any(map(_may_hold_arrays, entry.values)) else ()
            if found:
                entry.values = tuple(map(compacted, entry.values))
        else:
            found = ()
        entry.nbytes = host_bytes(entry.values)
        with self._lock:
            if key in self._entries:
                self._forget(key)
            self._entries[key] = entry
            self._count(entry, +1)
            if plan_key is not None:
                self._links[plan_key] = (key, outside) if outside else key
            entry.score = self._age + entry.seconds / entry.nbytes
            if self.used > self._threshold:
                self._evict_host()
            if self.device_used > self.device_budget:
                self._sink_device(self.device_budget)
        if self.store and self.store.worth(entry.seconds, entry.nbytes):
            self.store.put(entry, plan_key, outside)

    def keep(self, entry: Entry, plan_key: bytes | None, outside: Outside) -> None:
        """Write a result to disk whatever it cost: it is a workflow's output."""
        if self.store is None or entry.key is None or (entry.kept is not None and entry.kept == plan_key):
            return
        entry.kept = plan_key
        if not entry.stored and entry.values is not None:
            self.store.put(entry, plan_key, outside)
        elif entry.stored and plan_key is not None:
            self.store.link(plan_key, entry.key, outside)

    def load(self, entry: Entry) -> Any:
        """The values of a result, brought into memory. None when they are gone: then it is a miss, and forgotten."""
        if (values := entry.values) is not None:
            return values
        values = self.store.read(entry) if self.store else None
        if values is None:
            with self._lock:
                if entry.key in self._entries:
                    self._forget(entry.key)
            return None
        entry.values = values
        entry.nbytes = host_bytes(values)
        with self._lock:
            if entry.key is not None and entry.key not in self._entries:
                self._entries[entry.key] = entry
                self._count(entry, +1)
                entry.score = self._age + entry.seconds / entry.nbytes
                if self.used > self._threshold:
                    self._evict_host()
        return values

    def settle(self) -> None:
        """Bring the host tier back within its budget, now that a run no longer holds on to its results."""
        with self._lock:
            if self.used > self.budget:
                self._evict_host()

    def clear(self) -> None:
        """Forget everything in memory; the disk tier is not touched."""
        with self._lock:
            self._entries.clear()
            self._links.clear()
            self._storages.clear()
            self.used = self.device_used = 0

    # -- accounting, under the lock ----------------------------------------------------------------------------------

    def _count(self, entry: Entry, sign: int) -> None:
        """Count the bytes of an entry, each storage once however many entries share it."""
        self.used += sign * (entry.nbytes if sign > 0 or entry.nbytes else 0)
        if entry.kind != "values" or entry.values is None:
            return
        seen = set()
        for array in kinds.arrays_in(entry.values) if any(map(_may_hold_arrays, entry.values)) else ():
            name = arrays.storage(array)
            if name in seen:
                continue
            seen.add(name)
            users = self._storages.get(name, 0) + sign
            if users:
                self._storages[name] = users
            else:
                del self._storages[name]
            if (sign > 0 and users == 1) or (sign < 0 and users == 0):
                if arrays.device_of(array) == "cpu":
                    self.used += sign * name[1]
                else:
                    self.device_used += sign * name[1]

    def _forget(self, key: bytes | None) -> None:
        entry = self._entries.pop(key)  # type: ignore[arg-type]
        self._count(entry, -1)

    def _evict_host(self) -> None:
        """Let the least worthy results go until the tier is within bounds. What steps wait for stays, unless the disk has it."""
        for entry in sorted(self._entries.values(), key=lambda one: one.score):
            if self.used <= self.budget * KEEP:
                break
            if entry.pins and not entry.stored:
                continue
            self._age = max(self._age, entry.score)
            self._forget(entry.key)
            self.evictions += 1
            if entry.stored:
                entry.values = None
            elif self.store and entry.seconds > entry.nbytes / 500e6:
                self.store.put(entry, None, (), sink=True)
            else:
                entry.values = None
        # where steps wait for more than the budget holds, look again only when a tenth has been added
        self._threshold = max(self.budget, self.used * 1.1)

    def leave_device(self) -> int:
        """Move every cached result from the device to the host. Returns the bytes that left."""
        with self._lock:
            before = self.device_used
            self._sink_device(0)
            return before - self.device_used

    def _sink_device(self, bound: float) -> None:
        """Move the least worthy results from the device to the host."""
        on_device = [one for one in self._entries.values() if one.kind == "values" and one.values is not None and _on_device(one.values)]
        for entry in sorted(on_device, key=lambda one: one.score):
            if self.device_used <= bound:
                break
            self._count(entry, -1)
            entry.values = tuple(rebuilt(value, arrays.to_host) for value in entry.values)
            self._count(entry, +1)


def _may_hold_arrays(value: Any) -> bool:
    kind = value.__class__
    return not (kind is int or kind is str or kind is float or kind is bool or value is None)


def _on_device(values: tuple[Any, ...]) -> bool:
    return any(arrays.device_of(array) != "cpu" for array in kinds.arrays_in(values))
