"""What all runs of an engine share: cache, claims, lanes, weights, compiler."""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nodegraph import types
from nodegraph.cache import Cache
from nodegraph.check import Checker
from nodegraph.checkpoints import Checkpoints
from nodegraph.heap import HEAP
from nodegraph.lanes import MOMENT
from nodegraph.leases import LONG, Leases
from nodegraph.plan import Identities
from nodegraph.resident import Resident
from nodegraph.spec import NodeType, Port
from nodegraph.states import WAITING

if TYPE_CHECKING:
    import asyncio

    from nodegraph.execution import Execution
    from nodegraph.profile import Profile


log = logging.getLogger("nodegraph")


class Traits:
    """What is worth knowing of a node type before each of its calls.

    `lazy`: its lazy ports; None among them stands for open ports. `plain`: it runs in the CPU pool, nothing but values goes in, and one
    value of the class `gives`, a number, bool or text, comes out. `seconds`: what calls took of late, infinite before the first. `quick`:
    it is plain, and calls take less than a moment. `floats`: ports that turn int into float. `fetched`: list ports whose items are
    fetched when they are looked at, as they may be large. `bounded`: ports with bounds or choices, by name. In each None stands for
    open ports. `keyed`: it has keys. `form`: how it enters them.
    """

    __slots__ = (
        *("bounded", "fetched", "floats", "form", "function", "gives", "heads"),
        *("keyed", "lane", "lazy", "plain", "ports", "quick", "seconds"),
    )

    def __init__(self, used: Any, lanes: dict[str, Any], identities: Identities):
        self.lane: Any = lanes["cpu"]
        self.lazy: frozenset[str | None] = frozenset()
        self.floats: frozenset[str | None] = frozenset()
        self.fetched: frozenset[str | None] = frozenset()
        self.bounded: dict[str | None, Port] = {}
        self.ports: tuple[str, ...] = ()
        self.gives: type | None = None
        self.plain = self.quick = False
        self.seconds = math.inf
        self.form: Any = None
        self.heads: dict[str, bytes] = {}
        self.function: Any = None
        self.keyed = False
        if not isinstance(used, NodeType):
            return
        self.form, self.keyed = identities.form(used), not (used.volatile or used.effect)
        self.lane = lanes["async" if used.asynchronous else "device" if used.on_device else "cpu"]
        lazy: set[str | None] = {name for name, port in used.inputs.items() if port.lazy}
        if used.open and used.open.lazy:
            lazy.add(None)
        self.lazy = frozenset(lazy)
        self.floats = frozenset(name for name, port in used.inputs.items() if types.widens(port.type))
        self.fetched = frozenset(name for name, port in used.inputs.items() if _fetched(port.type))
        if used.open:
            self.fetched |= {None} if _fetched(used.open.type) else set()
            self.floats |= {None} if types.widens(used.open.type) else set()
        self.bounded = {name: port for name, port in used.inputs.items() if port.bounded and not port.lazy}
        if used.open and used.open.bounded and not used.open.lazy:
            self.bounded[None] = used.open
        self.ports = tuple(used.outputs)
        special = used.effect or used.volatile or used.stateful or used.fingerprint or used.open or used.takes_run
        if used.single and len(used.outputs) == 1 and not (special or lazy or used.asynchronous):
            kind = next(iter(used.outputs.values())).type
            self.gives = next((cls for cls, plain in types.PLAIN.items() if plain is kind and cls is not type(None)), None)
        self.plain = self.gives is not None and not used.on_device
        self.heads, self.function = self.form.heads, used.call

    @property
    def long(self) -> bool:
        """Whether a call may take so long that no other process should do the same meanwhile."""
        return self.seconds >= LONG

    def took(self, seconds: float) -> None:
        """Note what a call took."""
        self.seconds = seconds if self.seconds == math.inf else max(seconds, self.seconds / 2)
        self.quick = self.plain and self.seconds < MOMENT


def _fetched(kind: types.Type) -> bool:
    """Whether values of a type are lists of what may be large."""
    kind = types.without_none(kind)
    return kind.kind == "list" and not types.is_json(kind.args[0])


class Shared:
    """What all runs of an engine share: cache, claims, lanes, weights, compiler."""

    def __init__(
        self, cache: Cache, resident: Resident, checker: Checker, identities: Identities, lanes: dict[str, Any], device: str, dtype: str
    ):
        self.cache, self.resident, self.checker, self.identities = cache, resident, checker, identities
        self.lanes, self.device, self.dtype = lanes, device, dtype
        self.heap = HEAP
        self.debug = False
        self.profile: Profile | None = None
        self.compiling = threading.Lock()
        self.leases = Leases(cache.store.folder) if cache.store else None
        self.checkpoints = Checkpoints(cache.store) if cache.store else None
        self.claims: dict[bytes, tuple[Execution, int]] = {}  # work key → who computes it
        self.waiters: dict[bytes, list[tuple[Execution, int]]] = {}  # work key → who looks again when that is done
        self._claims_lock = threading.Lock()
        self._traits: dict[Any, Traits] = {}
        self._leased: dict[bytes, Callable[[], None]] = {}
        self._places: dict[str, threading.Lock] = {}
        self._async_places: dict[str, asyncio.Lock] = {}

    @property
    def watched(self) -> bool:
        """Whether each call is looked at by a debug run or a profile."""
        return self.debug or self.profile is not None

    def renewed(self, checker: Checker) -> Shared:
        """The same for the runs that come, which know other node types; the runs in flight keep to what they know."""
        made = copy.copy(self)
        made.checker, made.identities, made._traits = checker, Identities(self.identities.numerics), {}
        return made

    def traits(self, used: Any) -> Traits:
        """What is worth knowing of a node type before each of its calls."""
        found = self._traits.get(used)
        if found is None:
            found = Traits(used, self.lanes, self.identities)
            if isinstance(used, NodeType):  # mapped nodes come and go with their plans
                self._traits[used] = found
        return found

    def lease(self, key: bytes, run: Execution, step: int) -> bool:
        """Take the right to compute a claimed work key from other processes too. False: one of them is at it; the claim is given up,
        and the step is told when the other has ended."""
        assert self.leases is not None
        assert self.cache.store is not None
        if self.cache.store.trouble:  # nobody would find the result
            return True
        give_back = self.leases.take(key)
        if give_back is None:
            log.info("%s waits: its work, or work that shares its lease, is being done", run.plan.path(step))
            run.state[step] = WAITING
            self.release(key)
            self.leases.wait(key, lambda: run.retry(step), lambda: not run.finished)
            return False
        self._leased[key] = give_back
        self.cache.store.refresh()
        return True

    def claim(self, key: bytes, run: Execution, step: int) -> bool:
        """Take the right to compute a work key. False: somebody else is at it, and the step is told when that has ended."""
        token = (run, step)
        while self.claims.setdefault(key, token) is not token:
            with self._claims_lock:
                self.waiters.setdefault(key, []).append(token)
                if key in self.claims:
                    return False
                self.waiters[key].remove(token)  # the owner was done before it could see us
        return True

    def release(self, key: bytes) -> None:
        """The work is done, or given up: whoever waits looks again."""
        del self.claims[key]
        if self._leased and (give_back := self._leased.pop(key, None)) is not None:
            assert self.cache.store is not None
            try:
                self.cache.store.when_written(lambda written: give_back())  # who waits must find the result
            except Exception:  # a mistake of the engine must not keep others waiting
                log.exception("a lease is given back at once")
                give_back()
        if self.waiters:
            self.tell_waiters(key)

    def tell_waiters(self, key: bytes) -> None:
        """A claim has just ended."""
        with self._claims_lock:
            waiting = self.waiters.pop(key, ())
        for run, step in waiting:
            run.retry(step)

    def release_of(self, run: Execution, step: int) -> None:
        """Release whatever a step has claimed."""
        for key in [key for key, owner in self.claims.copy().items() if owner == (run, step)]:
            self.release(key)

    def place(self, path: str) -> threading.Lock:
        """The lock of a stateful node's place."""
        return self._places.setdefault(path, threading.Lock())

    def async_place(self, path: str) -> asyncio.Lock:
        """The lock of an async stateful node's place, for the event loop of async nodes."""
        import asyncio

        return self._async_places.setdefault(path, asyncio.Lock())
