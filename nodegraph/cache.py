"""Results by key under byte budgets: the device and host tiers, over the disk tier of `store`.

What leaves a tier is what saves the least time for its bytes (see `eviction`), and it sinks one tier rather than vanishing: from the
device to the host, from the host to what the disk has. Only results that steps at work or waiting hold on to are beyond the budget;
a debug run checks that after every change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from nodegraph import arrays
from nodegraph.entries import CHEAP, OVERHEAD, Entry, PlainEntry, Smaller, compacted, host_bytes, rebuilt, storages_in
from nodegraph.eviction import Eviction
from nodegraph.store import Store

Outside = tuple[Any, ...]
"""Values that stand for something outside: files, handles."""
LINKS = 4096
"""Links beyond four to a result in memory that are remembered: other plans may lead to the same few results for ever."""
KEEP = 0.9
"""When a tier is over its budget it is brought down to this part of it, so that evictions come in waves."""


class Cache:
    """Thread-safe. `budget` bounds the host tier, `device_budget` what cached results hold on the device, in bytes.

    `valid(value)` says whether a value that stands for something outside still does. `debug`: RuntimeError when a budget is passed.
    """

    def __init__(self, store: Store | None, budget: int, device_budget: int, valid: Callable[[Any], bool], debug: bool = False):
        self.store, self.budget, self.device_budget, self._valid = store, budget, device_budget, valid
        self._entries: dict[bytes, Entry] = {}
        self._values: dict[bytes, Any] = {}  # small values of cheap nodes as they are, until they are asked for
        self._ports: dict[bytes, tuple[str, ...]] = {}  # of these values
        self._links: dict[bytes, bytes | tuple[bytes, Outside]] = {}  # a bare work key where nothing outside is behind it
        self._storages: dict[tuple[int, int], int] = {}
        self._lock = threading.RLock()
        self._eviction = Eviction()
        self._debug = debug
        self._threshold: float = budget  # look for what may leave when more than this is used
        self.used = 0
        self.device_used = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._values)

    def may_have(self, key: bytes) -> bool:
        """False when surely no tier has a result under a work key."""
        return key in self._entries or key in self._values or (self.store is not None and self.store.may_have(key))

    def may_link(self, plan_key: bytes) -> bool:
        """False when surely nothing is known of a plan key."""
        return plan_key in self._links or (self.store is not None and self.store.may_link(plan_key))

    def refresh(self) -> None:
        """Notice what other processes have written."""
        if self.store is not None:
            self.store.refresh()

    def get(self, key: bytes) -> Entry | None:
        """The result under a work key, from any tier, while the outside values in it are valid. Values on disk are not read yet."""
        entry = self._entries.get(key) or self._entry_of(key)
        if entry is not None:
            self._eviction.used(entry)
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
        if entry.key is not None and _may_be_linked(outside):
            with self._lock:
                self._links[plan_key] = (entry.key, outside) if outside else entry.key
                if len(self._links) > 4 * len(self) + LINKS:
                    for oldest in list(self._links)[: len(self._links) // 2]:
                        del self._links[oldest]
            if entry.stored and self.store:
                self.store.link(plan_key, entry.key, outside)

    def put_plain(self, key: bytes, value: Any, ports: tuple[str, ...], plan_key: bytes) -> None:
        """Keep what a cheap node has just given: a number, bool or short text that nothing outside is behind."""
        with self._lock:
            if key in self._entries or key in self._values:
                self._entry_of(key)
                self._forget(key)
            self._values[key], self._ports[key], self._links[plan_key] = value, ports, key
            self.used += OVERHEAD + (len(value) if value.__class__ is str else 0)
            if self.used > self._threshold or self._debug:
                self._within()

    def _entry_of(self, key: bytes) -> Entry | None:
        """The entry of a value that is kept as it is: from now on it is kept as any result."""
        with self._lock:
            if key in self._values:
                entry = self._entries[key] = PlainEntry(key, self._ports.pop(key), self._values[key], CHEAP)
                self._eviction.admitted(entry)
                del self._values[key]
            return self._entries.get(key)

    def _weigh_all(self) -> None:
        """Under the lock: have every result as an entry."""
        for key in list(self._values):
            self._entry_of(key)

    def put(self, entry: Entry, plan_key: bytes | None, outside: Outside) -> None:
        """Keep a fresh result, in memory and, if that is worth it, on disk."""
        key = entry.key
        plan_key = plan_key if _may_be_linked(outside) else None
        assert key is not None  # only results with a key can be kept
        if entry.kind == "values" and any(map(_may_hold_arrays, entry.values)):
            entry.values = tuple(map(compacted, entry.values))
        with self._lock:
            if self._entry_of(key) is not None:
                self._forget(key)
            self._add(entry)
            if plan_key is not None:
                self._links[plan_key] = (key, outside) if outside else key
            self._within()
        if self.store and self.store.worth(entry.seconds, entry.nbytes):
            self.store.put(entry, plan_key, outside)

    def keep(self, entry: Entry, plan_key: bytes | None, outside: Outside) -> None:
        """Write a result to disk whatever it cost: it is a workflow's output."""
        plan_key = plan_key if _may_be_linked(outside) else None
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
        with self._lock:
            if entry.key is not None and entry.key not in self._entries:
                self._add(entry)
                self._within()
        return values

    def unpinned(self, entry: Entry) -> None:
        """No step holds on to a result any more: it counts for the budget again."""
        if self.used > self.budget:
            with self._lock:
                self._threshold -= entry.nbytes
                self._within()

    def settle(self) -> None:
        """Bring the host tier back within its budget, now that a run no longer holds on to its results."""
        with self._lock:
            self._threshold = self.budget
            self._within()

    def clear(self) -> None:
        """Forget everything in memory; the disk tier is not touched."""
        with self._lock:
            self._entries.clear()
            self._values.clear()
            self._ports.clear()
            self._links.clear()
            self._storages.clear()
            self.used = self.device_used = 0

    # -- accounting, under the lock ----------------------------------------------------------------------------------

    def _add(self, entry: Entry) -> None:
        storages = _storages(entry)
        entry.nbytes = host_bytes(entry.values) + sum(nbytes for _, nbytes in storages)
        self._entries[entry.key] = entry  # type: ignore[index]
        self._eviction.admitted(entry)
        self._count(entry, +1)

    def _forget(self, key: bytes | None) -> None:
        entry = self._entries.pop(key)  # type: ignore[arg-type]
        self._count(entry, -1)

    def _count(self, entry: Entry, sign: int) -> None:
        """Count the bytes of an entry, each storage once however many entries share it."""
        storages = _storages(entry)
        self.used += sign * (entry.nbytes - sum(nbytes for _, nbytes in storages))
        for storage, on_host in storages.items():
            users = self._storages.get(storage, 0) + sign
            if users:
                self._storages[storage] = users
            else:
                del self._storages[storage]
            if users == (1 if sign > 0 else 0):
                if on_host:
                    self.used += sign * storage[1]
                else:
                    self.device_used += sign * storage[1]

    def _within(self) -> None:
        """Bring both tiers within their budgets."""
        if self.device_used > self.device_budget:
            self._sink_device(self.device_budget)
        if self.used > self._threshold:
            self._evict_host()
        if self._debug:
            self._check()

    def _evict_host(self) -> None:
        """Let the least worthy results go until the tier is well within its budget. What steps hold on to is beyond it: a large
        result that passes through does not drive out all others."""
        self._weigh_all()
        entries = self._entries.values()
        held = _host_bytes_of([entry for entry in entries if not _may_leave(entry)])
        if self.used - held > self.budget:
            leaving = self._eviction.leaving([entry for entry in entries if _may_leave(entry)])
            sunk = set()
            while self.used - held > self.budget * KEEP and (entry := next(leaving, None)) is not None:
                if self._let_go(entry):
                    sunk.add(entry.key)
            self._forget_links(sunk)
        self._threshold = self.budget + held

    def _let_go(self, entry: Entry) -> bool:
        """Let a result leave memory. True if it sinks to the disk now."""
        self._forget(entry.key)
        self.evictions += 1
        if not entry.stored and self.store and entry.seconds > entry.nbytes / 500e6:
            self.store.put(entry, None, (), sink=True)
            return True
        entry.values = None
        return False

    def _forget_links(self, sunk: set[bytes | None]) -> None:
        """Forget the links to what has left memory; those to what has just sunk to the disk sink with it."""
        for plan_key, link in list(self._links.items()):
            key, outside = (link, ()) if link.__class__ is bytes else link
            if key not in self._entries:
                del self._links[plan_key]
                if key in sunk and self.store:
                    self.store.link(plan_key, key, outside)  # type: ignore[arg-type]

    def _check(self) -> None:
        """Raise RuntimeError when a budget is passed, or bytes were miscounted."""
        self._weigh_all()
        entries = self._entries.values()
        used = _host_bytes_of(entries)
        device_used = sum({storage: storage[1] for entry in entries for storage, host in _storages(entry).items() if not host}.values())
        if (used, device_used) != (self.used, self.device_used):
            raise RuntimeError(f"the cache holds {used} and {device_used} bytes, but counts {self.used} and {self.device_used}")
        if self._free() > self.budget:
            self._evict_host()  # what steps hold on to may have come to lie on the disk meanwhile
        if (free := self._free()) > self.budget or device_used > self.device_budget:
            raise RuntimeError(f"budgets are passed: {free} of {self.budget} bytes, {device_used} of {self.device_budget} on the device")

    def _free(self) -> int:
        """The host bytes beyond what steps hold on to."""
        entries = self._entries.values()
        return _host_bytes_of(entries) - _host_bytes_of([entry for entry in entries if not _may_leave(entry)])

    def leave_device(self) -> int:
        """Move every cached result from the device to the host. Returns the bytes that left."""
        with self._lock:
            before = self.device_used
            self._sink_device(0)
            return before - self.device_used

    def _sink_device(self, bound: float) -> None:
        """Move the least worthy results from the device to the host; what the host has no room for is forgotten."""
        leaving = self._eviction.leaving([entry for entry in self._entries.values() if not all(_storages(entry).values())])
        while self.device_used > bound and (entry := next(leaving, None)) is not None:
            try:
                values = tuple(rebuilt(value, arrays.to_host) for value in entry.values)
            except (MemoryError, RuntimeError):
                self._forget(entry.key)
                continue
            self._count(entry, -1)
            entry.values = values
            entry.nbytes = host_bytes(entry.values) + sum(nbytes for _, nbytes in _storages(entry))
            self._count(entry, +1)


def _storages(entry: Entry) -> dict[tuple[int, int], bool]:
    """The storages of an entry's arrays, and whether each lies on the host."""
    if entry.__class__ is PlainEntry or entry.kind != "values" or entry.values is None or not any(map(_may_hold_arrays, entry.values)):
        return {}
    return storages_in(entry.values)


def _host_bytes_of(entries: Iterable[Entry]) -> int:
    """The host bytes of entries, each storage once."""
    plain, shared = 0, {}
    for entry in entries:
        storages = _storages(entry)
        plain += entry.nbytes - sum(nbytes for _, nbytes in storages)
        shared.update({storage: storage[1] for storage, on_host in storages.items() if on_host})
    return plain + sum(shared.values())


def _may_leave(entry: Entry) -> bool:
    """Whether a result may leave the host: what steps hold on to only when the disk has it."""
    return not entry.pins or entry.stored


def _may_be_linked(outside: Outside) -> bool:
    """Whether a plan key may lead to a result: not to what a smaller variant has made, or to what is made of that."""
    return not any(one.__class__ is Smaller for one in outside)


def _may_hold_arrays(value: Any) -> bool:
    kind = value.__class__
    return not (kind is int or kind is str or kind is float or kind is bool or value is None)
