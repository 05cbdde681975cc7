"""Node types by name. A pack registers as a whole or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nodegraph import kinds, types
from nodegraph.errors import PackInvalid, Problem, did_you_mean
from nodegraph.spec import NodeType, Port

BUILTIN = (*kinds.CLASSES, *(kind.name for kind in types.PLAIN.values()), "json", "seed", "none", "any")
"""The names of the types that come with nodegraph."""


class FactsFailed(Exception):
    """The facts of a pack cannot be imported, or one of their functions failed."""


class Deferred:
    """The node types of a pack that nobody has asked for yet: their names, former names and the types of their ports are known.

    `load` makes them, and may raise PackInvalid.
    """

    __slots__ = ("_load", "_loaded", "former", "names", "pack", "port_types", "problem")

    def __init__(
        self, pack: str, names: Iterable[str], former: Mapping[str, str], port_types: Iterable[str], load: Callable[[], list[NodeType]]
    ):
        self.pack, self.names, self.former, self.port_types = pack, tuple(names), dict(former), frozenset(port_types)
        self.problem: Problem | None = None
        self._load = load
        self._loaded: list[NodeType] | None = None

    def types(self) -> list[NodeType]:
        """The node types; none, and `problem`, when they cannot be made any more."""
        if self._loaded is None:
            try:
                self._loaded = self._load()
            except PackInvalid as error:
                self._loaded, self.problem = [], error.problems[0]
        return self._loaded


class Registry:
    """What can be used in a workflow. `generation` grows with every change, so that what was compiled can tell it is old."""

    def __init__(self) -> None:
        self._types: dict[str, NodeType] = {}
        self._deferred: dict[str, Deferred] = {}
        self._former: dict[str, str] = {}
        self._facts: dict[str, Callable[[], Any]] = {}
        self._broken: dict[str, tuple[str, Problem]] = {}
        self.versions: dict[str, int] = {}
        self.generation = 0
        self._names: tuple[int, frozenset[str]] | None = None

    def copy(self) -> Registry:
        """Another registry of the same node types, to be changed while this one stays as it is."""
        made = Registry()
        made._types, made._former, made._facts = self._types.copy(), self._former.copy(), self._facts.copy()
        made._deferred, made._broken, made.versions = self._deferred.copy(), self._broken.copy(), self.versions.copy()
        return made

    def __iter__(self) -> Iterator[NodeType]:
        for name in list(self._deferred):
            self._settle(name)
        return iter(sorted(self._types.values(), key=lambda one: (one.pack, one.name)))

    def __len__(self) -> int:
        return len(self._types) + len(self._deferred)

    def names(self) -> list[str]:
        return sorted([*self._types, *self._deferred])

    def get(self, name: str) -> NodeType | None:
        """The node type of that name, of that former name, or of `pack/name`."""
        if known := self._types.get(name) or self._settle(name):
            return known
        pack, slash, bare = name.rpartition("/")
        if slash and (known := self._types.get(bare) or self._settle(bare)) and known.pack == pack:
            return known
        former = self._former.get(name, "")
        return self._types.get(former) or self._settle(former)

    def _settle(self, name: str) -> NodeType | None:
        """Make the node types of the pack that has one of that name."""
        deferred = self._deferred.get(name)
        if deferred is None:
            return None
        made = {one.name: one for one in deferred.types()}
        self._types.update(made)
        for one in deferred.names:
            self._deferred.pop(one, None)
        if deferred.problem:
            self.broken(deferred.pack, deferred.problem, deferred.names)
        return made.get(name)

    def _pack_of(self, name: str) -> str | None:
        known = self._types.get(name) or self._deferred.get(name)
        return known.pack if known else None

    def add(
        self, node_types: Iterable[NodeType] | Deferred, pack: str = "", version: int = 1, facts: Callable[[], Any] | None = None
    ) -> None:
        """Register the node types of a pack in place of what it had before. All or nothing: raises PackInvalid."""
        staged = [] if isinstance(node_types, Deferred) else list(node_types)
        names = node_types.names if isinstance(node_types, Deferred) else [one.name for one in staged]
        if clashes := self._clashes(names, pack):
            raise PackInvalid(clashes)
        if pack in self.versions or self._broken:
            self.remove(pack)
        if pack:
            self.versions[pack] = version
        if isinstance(node_types, Deferred):
            self._deferred.update(dict.fromkeys(names, node_types))
            self._former.update(node_types.former)
        self._types.update({one.name: one for one in staged})
        self._former.update({old: one.name for one in staged for old in one.was})
        if facts:
            self._facts[pack] = facts
        self.generation += 1

    def _clashes(self, names: Iterable[str], pack: str) -> list[Problem]:
        found, seen = [], set()
        for name in names:
            other = pack if name in seen else self._pack_of(name)
            if other is not None and (other != pack or name in seen):
                where = f"the pack {other!r} has already" if other != pack else "it has already"
                text = f"the pack {pack!r} defines {name!r}, which {where}"
                found.append(Problem("node-clash", f"{pack}/{name}", text, f"rename it: @node(name={name + '_2'!r})"))
            seen.add(name)
        return found

    def remove(self, pack: str) -> None:
        """Forget a pack, also what was wrong with it. What is in no pack stays."""
        if not pack:
            return
        self._types = {name: one for name, one in self._types.items() if one.pack != pack}
        self._deferred = {name: one for name, one in self._deferred.items() if one.pack != pack}
        self._former = {old: name for old, name in self._former.items() if name in self._types or name in self._deferred}
        self._broken = {name: one for name, one in self._broken.items() if one[0] != pack}
        self._facts.pop(pack, None)
        self.versions.pop(pack, None)
        self.generation += 1

    def broken(self, pack: str, problem: Problem, names: Iterable[str] = ()) -> None:
        """Remember that a pack could not be registered, and which node types it would have had."""
        for name in names:
            self._broken[name] = (pack, problem)
        self._broken[f"{pack}/"] = (pack, problem)
        self.generation += 1

    def unknown(self, name: str) -> tuple[str, str]:
        """Text and fix for a name that is no node type."""
        if name in self._broken:
            pack, problem = self._broken[name]
            return f"{name!r} is in the pack {pack!r}, which could not be loaded: {problem.text}", _mend(problem)
        fix = did_you_mean(name, self.names())
        failed = sorted({pack for pack, _ in self._broken.values()})
        if not fix:
            fix = "list what there is with: nodegraph nodes"
        if failed:
            fix += f" (packs that could not be loaded: {', '.join(failed)})"
        return f"there is no node {name!r}", fix

    def missing_pack(self, pack: str) -> tuple[str, str]:
        """Text and fix for a pack that is required and not registered."""
        if known := self._broken.get(f"{pack}/"):
            problem = known[1]
            return f"the pack {pack!r} could not be loaded: {problem.text}", _mend(problem)
        fix = did_you_mean(pack, self.versions) or "install it, or name its folder in NODEGRAPH_PACKS"
        return f"the pack {pack!r} is not here", fix

    def type_names(self) -> frozenset[str]:
        """The names of all types: those that come with nodegraph, and those of the ports of every node type."""
        if self._names is None or self._names[0] != self.generation:
            ports = (port for one in self._types.values() for port in (*one.inputs.values(), *one.outputs.values()))
            seen = {port.type for port in ports}
            deferred = {id(one): one.port_types for one in self._deferred.values()}
            self._names = (self.generation, frozenset(BUILTIN).union(*(types.names(kind) for kind in seen), *deferred.values()))
        return self._names[1]

    def facts(self, one: NodeType) -> Callable[..., Any] | None:
        """The facts function of a node type, or None. Raises FactsFailed when the facts of its pack cannot be imported."""
        found = getattr(self._facts_module(one.pack), one.name, None)
        return found if inspect.isfunction(found) else None  # a node may be called like a module that the facts import

    def choices(self, one: NodeType, port: Port, look: Any) -> list[Any] | None:
        """The live choices of a port, or None when its pack does not know them now."""
        try:
            finder = getattr(self._facts_module(one.pack), f"choices_{port.live}", None)
            return list(finder(look)) if finder else None
        except (Exception, SystemExit):  # the node itself will say what is wrong when it runs
            return None

    def _facts_module(self, pack: str) -> Any:
        load = self._facts.get(pack)
        if load is None:
            return None
        try:
            return load()
        except (Exception, SystemExit) as error:  # a pack's module may fail in any way
            raise FactsFailed(f"{type(error).__name__}: {error}") from error


def _mend(problem: Problem) -> str:
    """The fix of a pack's problem, with its place: it is shown where somebody uses the pack."""
    spot = f"{problem.file}:{problem.line}" if problem.line else problem.file
    return f"{problem.fix or 'mend the pack'} ({spot})" if spot else problem.fix or "mend the pack"
