"""A workflow compiled against a registry: names resolved to indexes, literals to values, in flat lists.

A template is made by `check` and used by `plan`. It is immutable once made, and kept on its workflow as long as the registry
and the models stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodegraph import types
from nodegraph.errors import Problem
from nodegraph.spec import NodeType, Port
from nodegraph.types import Type
from nodegraph.witness import Said
from nodegraph.workflow import Workflow

INPUTS = -1
"""The index that stands for the workflow's own inputs in a link."""
Link = tuple[int, str]
"""(index of a node or INPUTS, port)."""
Links = Link | list[Link]
"""One link, or several that make a list."""
Doubts = tuple[dict[int, tuple[str, ...]], frozenset[str]]
"""Ports whose values may be of another type than they say, by the index of the node, and outputs of the workflow."""


@dataclass(slots=True, eq=False)
class Template:
    """Flat lists by index of the node, in file order.

    `types[i]` is a NodeType, or a Template for a workflow used as a node. `links[i]` and `literals[i]` hold what the author wrote;
    literals that stand for something outside are `Pending` and listed in `pending`. `each[i]` maps ports to a link or a literal list.
    `order` is topological, ties in file order; None when file order is. `checked[i]` names ports whose value must be checked when it is
    there, as its source is `any`. `said` is what the outside was asked for it. The first `settled` nodes are plain: literals that are
    what they say, links back to other nodes, no inputs of the workflow. `facts` is what check knows of its values. `parts`, `defaults`
    and `planned` are kept by plans, `doubts` by `doubtful`.
    """

    workflow: Workflow
    names: list[str] = field(default_factory=list)
    types: list[Any] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)
    literals: list[Mapping[str, Any]] = field(default_factory=list)
    each: dict[int, dict[str, Any]] = field(default_factory=dict)
    order: list[int] | None = None
    inputs: dict[str, Port] = field(default_factory=dict)
    feeds: dict[str, list[tuple[int, Port]]] = field(default_factory=dict)
    outputs: dict[str, Links] = field(default_factory=dict)
    output_types: dict[str, Type] = field(default_factory=dict)
    pending: list[tuple[int, str, Any]] = field(default_factory=list)
    checked: dict[int, tuple[str, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    children: list[Template] = field(default_factory=list)
    said: Said = field(default_factory=dict)
    settled: int = 0
    facts: Any = None
    parts: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    planned: Any = None
    doubts: dict[frozenset[str], Doubts] = field(default_factory=dict)

    def sequence(self) -> Any:
        """Node indexes in topological order."""
        return range(len(self.names)) if self.order is None else self.order

    def doubtful(self, inputs: Iterable[str]) -> Doubts:
        """What may be of another type than it says where these inputs may: ports to check, by node, and outputs.

        A workflow hands on what it is given as it is, and so does a node whose types depend on each other, or that may give a lazy
        input in place of a value.
        """
        known = self.doubts.get(asked := frozenset(inputs))
        if known is not None:
            return known
        doubtful = {(INPUTS, name) for name in asked}
        ports: dict[int, tuple[str, ...]] = {}
        for index in self.sequence():
            used = self.types[index]
            mapped = {port: link for port, link in self.each.get(index, {}).items() if link.__class__ is tuple}
            links = {**self.links[index], **mapped}
            fed = tuple(port for port, link in links.items() if not doubtful.isdisjoint(link if link.__class__ is list else [link]))
            if fed and used is not None:
                ports[index] = fed
                doubtful.update((index, name) for name in _handed_on(used, fed))
        outputs = {name for name, link in self.outputs.items() if not doubtful.isdisjoint(link if link.__class__ is list else [link])}
        found = self.doubts[asked] = ports, frozenset(outputs)
        return found

    @property
    def all_problems(self) -> list[Problem]:
        """Problems of this workflow and of those it uses, each once: file by file, in the order of each."""
        found: dict[str, Problem] = {}
        seen = {id(self)}
        stack = [self]
        while stack:
            one = stack.pop()
            found.update({repr(problem): problem for problem in one.problems if repr(problem) not in found})
            fresh = [child for child in one.children if id(child) not in seen]
            seen.update(map(id, fresh))
            stack.extend(reversed(fresh))
        files = {problem.file: number for number, problem in reversed(list(enumerate(found.values())))}
        return sorted(found.values(), key=lambda problem: (files[problem.file], problem.line, problem.column))


def _handed_on(used: NodeType | Template, ports: Iterable[str]) -> Iterable[str]:
    """The outputs whose types depend on what comes in by these ports."""
    if isinstance(used, Template):
        return used.doubtful(ports)[1]
    if may_give_lazy(used, ports):
        return used.output_types
    generic = any(types.has_variables(port.type) for port in filter(None, map(used.port, ports)))
    return [name for name, kind in used.output_types.items() if types.has_variables(kind)] if generic else ()


def may_give_lazy(used: NodeType, ports: Iterable[str]) -> bool:
    """Whether what a node gives may be what comes in by one of these ports, whose type does not depend on others."""
    return any(port.lazy and not types.has_variables(port.type) for port in filter(None, map(used.port, ports)))
