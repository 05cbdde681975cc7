"""The second pass of check: every link carries a type that its port takes, and every output gets its type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nodegraph import kinds, types
from nodegraph.errors import did_you_mean, listing
from nodegraph.literals import Pending, described
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.template import INPUTS, Link, Template, may_give_lazy
from nodegraph.types import Type

if TYPE_CHECKING:
    from nodegraph.compiling import Compilation

Steps = tuple[str | int, ...]


class TypePass:
    """Types of one workflow, in the order of the data."""

    def __init__(self, compilation: Compilation):
        self.compilation, self.template = compilation, compilation.template
        self.report = compilation.report
        self.given = compilation.given
        self._generic: dict[Any, bool] = {}
        self._met: dict[str, str] = {}  # type variable → the port that bound it, in the node at hand

    def run(self) -> None:
        closer: Iterable[int] = self.compilation.closer
        if self.template.order is not None:
            among = frozenset(closer)
            closer = [index for index in self.template.order if index in among]
        for index in closer:
            self._node(index)
        self._outputs()

    def _node(self, index: int) -> None:
        """Check every link of a node, and find the types of its outputs."""
        template, given = self.template, self.given
        used = template.types[index]
        if used is None:
            return
        inputs = used.inputs
        slow: list[tuple[str, Any]] = []
        for port, link in template.links[index].items():
            # the common case, without a call: the same type on both sides
            if link.__class__ is tuple and link[0] >= 0 and port in inputs and given[link[0]].get(link[1]) is inputs[port].type:
                continue
            slow.append((port, link))
        generic = self._generic.get(used)
        if generic is None:
            generic = self._generic[used] = is_generic(used)
        if slow or generic or index in template.each:
            given[index] = self._slow(index, used, slow, generic)
        else:
            given[index] = declared_outputs(used)

    def _slow(self, index: int, used: Any, links: list[tuple[str, Any]], generic: bool) -> dict[str, Type]:
        """The links that need a closer look, in the order of the file, and the types of the outputs."""
        bound: dict[str, Type] = {}
        self._met.clear()
        each = self.template.each.get(index, {})
        for port, link in links:
            self._link(index, _declared(used, port), link, bound)
        for port, link in each.items():
            self._each_link(index, _declared(used, port), link, bound)
        if generic:
            for port, value in self.template.literals[index].items():
                self._literal(index, _declared(used, port), value, ("nodes", self.template.names[index], "with", port), bound)
        outputs = declared_outputs(used)
        if generic:
            outputs = {name: types.substitute(kind, bound) for name, kind in outputs.items()}
        if unsure := self.template.checked.get(index):
            handed_on = used.doubtful(unsure)[1] if isinstance(used, Template) else outputs if may_give_lazy(used, unsure) else ()
            outputs = {name: types.ANY if name in handed_on else kind for name, kind in outputs.items()}
        return {name: types.list_of(kind) for name, kind in outputs.items()} if each else outputs

    # -- links -----------------------------------------------------------------------------------------------------

    def _link(self, index: int, port: Port, link: Any, bound: types.Bindings) -> None:
        path = ("nodes", self.template.names[index], "from", port.name)
        if isinstance(link, list):
            self._list_link(index, path, port, link, bound)
        elif (source := self._source_type(path, link)) is not None:
            self._accept(index, path, port, source, link, bound)

    def _each_link(self, index: int, port: Port, link: Any, bound: types.Bindings) -> None:
        path = ("nodes", self.template.names[index], "each", port.name)
        if isinstance(link, list):
            if types.has_variables(port.type):
                for number, value in enumerate(link):
                    self._literal(index, port, value, (*path, number), bound)
            return
        source = self._source_type(path, link)
        if source is None:
            return
        if source.kind != "list" and source is not types.ANY:
            text = f"each takes a list, but {self._spelled(link)!r} gives {source}"
            self.report("each-type", path, text, f'link it in "from", or give a {types.list_of(types.erase(port.type))}')
            return
        self._accept(index, path, port, source.args[0] if source.kind == "list" else source, link, bound)

    def _list_link(self, index: int, path: Steps, port: Port, links: list[Link], bound: types.Bindings) -> None:
        target = types.without_none(port.type)
        if target.kind not in ("list", "any", "var"):
            text = f"{_target(path)} takes one {target}, but {len(links)} links are given"
            self.report("type-mismatch", path, text, "keep one link", expected=str(target))
            return
        if target.kind == "list":
            item, given = replace(port, type=target.args[0]), self.given
            for number, link in enumerate(links):
                if link[0] >= 0 and given[link[0]].get(link[1]) is item.type:
                    continue
                if (source := self._source_type((*path, number), link)) is not None:
                    self._accept(index, (*path, number), item, source, link, bound)
            return
        sources = [self._source_type((*path, number), link) for number, link in enumerate(links)]
        if target.kind == "var" and links and None not in sources:
            self._accept(index, path, port, types.list_of(types.union(sources)), links[0], bound)  # type: ignore[arg-type]

    def _literal(self, index: int, port: Port, value: Any, path: Steps, bound: types.Bindings) -> None:
        """A literal binds type variables like a link."""
        kind = type_of(value)
        if types.has_variables(port.type) and not self._fits(port, kind, bound):
            wanted = types.substitute(port.type, bound)
            text = f"{_target(path)} takes {wanted}{self._why(port)}, but {described(value)} is {kind}"
            self.report("type-mismatch", path, text, self.compilation.givers(wanted, index), expected=str(wanted), given=str(kind))

    def _source_type(self, path: Steps, link: Link) -> Type | None:
        index, port = link
        if index == INPUTS:
            return self.template.inputs[port].type
        known = self.given[index].get(port)
        used = self.template.types[index]
        if known is None and used is not None and not (isinstance(used, Template) and port in used.workflow.outputs):
            outputs = declared_outputs(used)
            name = self.template.names[index]
            fix = did_you_mean(port, outputs) or (f"its outputs are {listing(outputs)}" if outputs else "it has no outputs")
            self.report("unknown-output", path, f"{name!r} has no output {port!r}", fix)
        return known

    def _accept(self, index: int, path: Steps, port: Port, source: Type, link: Link, bound: types.Bindings) -> None:
        if link[0] == INPUTS:
            self.template.feeds[link[1]].append((index, port))
        if not self._fits(port, source, bound):
            if link[0] == INPUTS and port.default is not REQUIRED and types.accepts(port.type, types.without_none(source), dict(bound)):
                return  # an input that is null leaves the port at its default
            wanted = types.substitute(port.type, bound)
            text = f"{_target(path)} takes {wanted}{self._why(port)}, but {self._spelled(link)!r} gives {source}"
            self.report("type-mismatch", path, text, self._fix(index, path, wanted, source, link), expected=str(wanted), given=str(source))
        elif types.has_any(source) and port.type is not types.ANY and port.type.kind != "var":
            self.template.checked[index] = (*self.template.checked.get(index, ()), port.name)

    def _fits(self, port: Port, source: Type, bound: types.Bindings) -> bool:
        known = len(bound)
        fits = types.accepts(port.type, source, bound)
        if len(bound) != known:
            for name in types.variables(port.type):
                self._met.setdefault(name, port.name)
        return fits

    def _why(self, port: Port) -> str:
        """` like 'on_true'`: which port has bound the variable of this one."""
        first = next((met for name in types.variables(port.type) if (met := self._met.get(name)) not in (None, port.name)), None)
        return f" like {first!r}" if first else ""

    def _fix(self, index: int, path: Steps, wanted: Type, source: Type, link: Link) -> str:
        plain = types.without_none(wanted)
        if plain.kind == "list" and types.accepts(plain.args[0], source, {}):
            return f'write it as a list: ["{self._spelled(link)}"]'
        if source.kind == "list" and types.accepts(wanted, source.args[0], {}) and path[2] == "from":
            return 'to run once for each item, move it from "from" to "each"'
        text = self.compilation.givers(wanted, index)
        return text if text.startswith("these") else f"add a node that turns {source} into {wanted}"

    def _spelled(self, link: Link) -> str:
        return f"{'inputs' if link[0] == INPUTS else self.template.names[link[0]]}.{link[1]}"

    # -- the workflow's outputs ------------------------------------------------------------------------------------

    def _outputs(self) -> None:
        template = self.template
        for name, reference in self.compilation.workflow.outputs.items():
            link = self.compilation.reference(("outputs", name), reference)
            if link is None:
                continue
            links = link if isinstance(link, list) else [link]
            found = [
                self._source_type(("outputs", name, number) if isinstance(link, list) else ("outputs", name), one)
                for number, one in enumerate(links)
            ]
            known = [kind for kind in found if kind is not None]
            if len(known) == len(links):
                template.outputs[name] = link
                template.output_types[name] = (
                    types.list_of(types.union(known) if known else types.ANY) if isinstance(link, list) else known[0]
                )


def _declared(used: Any, port: str) -> Port:
    return used.inputs.get(port) or used.port(port)


def is_generic(used: Any) -> bool:
    """Whether the types of a node's ports depend on each other."""
    if isinstance(used, Template):
        return False
    ports = [*used.inputs.values(), *used.outputs.values(), *([used.open] if used.open else [])]
    return any(types.has_variables(port.type) for port in ports)


def declared_outputs(used: NodeType | Template | None) -> dict[str, Type]:
    """The outputs of what a node uses, by name."""
    return {} if used is None else used.output_types


def type_of(value: Any) -> Type:
    """The type of a literal, for binding type variables."""
    if isinstance(value, list | tuple):
        return types.list_of(types.union(map(type_of, value)) if value else types.ANY)
    if isinstance(value, Pending):
        return types.named(value.kind)
    if isinstance(value, dict):
        return types.JSON
    return types.PLAIN.get(type(value)) or (types.named(kinds.NAMES[type(value)]) if type(value) in kinds.NAMES else types.ANY)


def _target(path: Steps) -> str:
    """`'decode.latent'`: a port in the author's words."""
    return repr(f"{path[1]}.{path[3]}") if path[0] == "nodes" else repr(f"outputs.{path[1]}")


__all__ = ["TypePass", "declared_outputs", "is_generic", "type_of"]
