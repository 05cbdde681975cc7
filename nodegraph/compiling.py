"""The first pass of check: names, links and literals of one workflow become a template; the other passes follow from here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice
from sys import intern
from typing import TYPE_CHECKING, Any

from nodegraph import graph, types
from nodegraph.bounds import inherit, input_port
from nodegraph.errors import WorkflowInvalid, did_you_mean, listing
from nodegraph.facts import Facts
from nodegraph.literals import Pending, Refused, article, described, has_pending, literal
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.template import INPUTS, Link, Links, Template
from nodegraph.types import Type
from nodegraph.typing_pass import TypePass, declared_outputs, is_generic
from nodegraph.workflow import Node, Workflow, is_path

if TYPE_CHECKING:
    from nodegraph.check import Checker

Steps = tuple[str | int, ...]
_NOTHING: dict[str, Type] = {}
_MAX_GIVERS, _MAX_ASKED = 50, 50
"""How many outputs are counted in a fix, and for how many problems it is found out which of them would make a circle."""


class Signature:
    """What is looked at of a node type for each of its nodes. `plain`: the classes of literals that need no closer look."""

    __slots__ = ("outputs", "plain", "required", "types", "used")

    def __init__(self, used: NodeType):
        self.used, self.outputs = used, declared_outputs(used)
        self.types = {name: port.type for name, port in used.inputs.items()}
        self.required = tuple(name for name, port in used.inputs.items() if port.required)
        classes = {kind: cls for cls, kind in types.PLAIN.items() if cls in (int, str, bool)}
        unbounded = [port for port in used.inputs.values() if port.type in classes and not (port.bounded or port.live)]
        self.plain = {port.name: classes[port.type] for port in unbounded}

    def settles(self, node: Node, index: int, known: Mapping[str, int], given: list[dict[str, Type]]) -> dict[str, Links] | None:
        """The links of a node in which nothing can be wrong: plain literals, links back to outputs of the very type that the port
        takes, or that the items of its list are of, and all that is required. None when it needs a closer look, as letters beyond
        ASCII do: there may be half of one."""
        links: dict[str, Links] = {}
        takes, plain, literals = self.types, self.plain, node.with_
        for port, reference in node.from_.items():
            wanted = takes.get(port)
            if wanted is None:
                return None
            if reference.__class__ is str:
                source, _, output = reference.partition(".")
                number = known.get(source, index)
                if number >= index or given[number].get(output) is not wanted:
                    return None
                links[port] = number, intern(output)  # the same few names again and again
                continue
            if reference.__class__ is not list or wanted.kind != "list":
                return None
            several: list[Link] = []
            for one in reference:
                source, _, output = one.partition(".") if one.__class__ is str else ("", "", "")
                number = known.get(source, index)
                if number >= index or given[number].get(output) is not wanted.args[0]:
                    return None
                several.append((number, intern(output)))
            links[port] = several
        for port, value in literals.items():
            if plain.get(port) is not value.__class__ or port in links or (value.__class__ is str and not value.isascii()):
                return None
        for port in self.required:
            if port not in links and port not in literals:
                return None
        return links


class Compilation:
    """One workflow on its way to a template. `ports`: the inputs of a graph that a node returned. `values`: the inputs that have a
    value, in the place of their defaults."""

    def __init__(self, checker: Checker, workflow: Workflow, ports: Mapping[str, Port] | None = None, values: Collection[str] = ()):
        self.checker, self.registry, self.world = checker, checker.registry, checker.world
        self.workflow, self.values = workflow, values
        self.template = template = Template(workflow)
        template.names = list(workflow.nodes)
        self.index = {name: number for number, name in enumerate(template.names)}
        self.given: list[dict[str, Type]] = [_NOTHING] * len(template.names)  # the types of each node's outputs
        self.closer: list[int] = []  # the nodes that the other passes must look at
        self._required: dict[NodeType | Template, tuple[str, ...]] = {}
        self._givers: dict[Type, list[Link]] = {}
        self._targets: dict[int, list[int]] | None = None
        self._asked = 0
        self._unset: list[int] = []
        self._check_requires()
        if ports is None:
            self._inputs()
        else:
            template.inputs = dict(ports)
            template.feeds = {name: [] for name in ports}
        self._nodes()
        for index in self._unset:
            self._report_unset(index)
        if self._order():
            TypePass(self).run()
            if ports is None:
                self._inherit_bounds()
            if not template.problems and not any(child.all_problems for child in template.children):
                checker.check_facts(template, {name: Facts() for name in self.values})
        self._in_file_order()

    def report(self, code: str, path: Steps, text: str, fix: str = "", **data: Any) -> None:
        self.template.problems.append(self.workflow.problem(code, path, text, fix, **data))

    def _in_file_order(self) -> None:
        """Its own problems first, then those of other files, each in the order of the file."""
        if self.template.problems:
            own = self.workflow.file
            self.template.problems.sort(key=lambda problem: (problem.file != own, problem.file, problem.line, problem.column))

    def _check_requires(self) -> None:
        for pack, wanted in self.workflow.requires.items():
            have = self.registry.versions.get(pack)
            least = wanted.removeprefix(">=").strip()
            if not (least.isascii() and least.isdigit()):
                self.report("bad-requires", ("requires", pack), f"{wanted!r} is no range of versions", 'write ">=1"')
            elif have is None:
                self.report("pack-missing", ("requires", pack), *self.registry.missing_pack(pack))
            elif have < int(least):
                text = f"the pack {pack!r} is version {have}, but {wanted!r} is required"
                self.report("pack-version", ("requires", pack), text, f"update {pack!r}")

    # -- the workflow's own inputs ---------------------------------------------------------------------------------

    def _inputs(self) -> None:
        known = self.registry.type_names() if self.workflow.inputs else ()
        for name, declared in self.workflow.inputs.items():
            try:
                port = input_port(name, declared, known)
            except Refused as error:
                self.report(error.code, ("inputs", name, "type"), error.text, error.fix)
                port = Port(name, types.ANY)
            self._choices_fit(port)
            if self._is_judged(port):
                self._default_fits(port)
            self.template.inputs[name] = port
            self.template.feeds[name] = []

    def _choices_fit(self, port: Port) -> None:
        kind = types.without_none(port.type)
        item = replace(port, type=kind.args[0] if kind.kind == "list" else kind, choices=(), minimum=None, maximum=None)
        for number, choice in enumerate(port.choices):
            try:
                literal(item, choice, self.outside)
            except Refused as error:
                self.report(error.code, ("inputs", port.name, "choices", number), error.text, error.fix)

    def _is_judged(self, port: Port) -> bool:
        """Whether it matters what the default of an input is. A secret that is written down is, given or not: it is kept with what is
        made."""
        return port.default is not REQUIRED and (port.name not in self.values or "secret" in types.names(port.type))

    def _default_fits(self, port: Port) -> bool:
        if port.default is None:
            return True  # "default": null makes an input optional
        path = ("inputs", port.name, "default")
        try:
            literal(port, port.default, lambda kind, port, text: self.outside(kind, port, text, path))
        except Refused as error:
            self.report(error.code, path, error.text, error.fix)
            return False
        except WorkflowInvalid as error:
            self.template.problems.extend(error.problems)
            return False
        return True

    def _inherit_bounds(self) -> None:
        """Give each input the bounds of the ports it feeds, and check its default against them."""
        wrong = {problem.where for problem in self.template.problems}
        for name, fed in self.template.feeds.items():
            port = self.template.inputs[name]
            bounded = [one for _, one in fed if one.bounded or one.model]
            if not bounded:
                continue
            try:
                self.template.inputs[name] = port = inherit(port, bounded)
            except Refused as error:
                self.report(error.code, ("inputs", name), error.text, error.fix)
                continue
            if self._is_judged(port) and f"inputs.{name}.default" not in wrong:
                self._default_fits(port)

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _nodes(self) -> None:
        """Every node. The common kind is settled here, types included; the others get a closer look."""
        template, given, known = self.template, self.given, self.index
        all_types, all_links, all_literals = template.types, template.links, template.literals
        signatures: dict[Any, Signature | None] = {}
        for index, (name, node) in enumerate(self.workflow.nodes.items()):
            use = node.use
            if use.__class__ is str and not node.each:
                try:
                    signature = signatures[use]
                except KeyError:
                    signature = signatures[use] = self._signature(use)
                if signature is not None and (links := signature.settles(node, index, known, given)) is not None:
                    all_types.append(signature.used)
                    all_links.append(links)
                    all_literals.append(node.with_)
                    given[index] = signature.outputs
                    continue
            self.closer.append(index)
            self._node(index, name, node)
        template.settled = self.closer[0] if self.closer else len(given)

    def _signature(self, use: Any) -> Signature | None:
        used = None if is_path(use) else self.registry.get(use)
        if used is None:
            return None
        known = self.checker.signatures
        if used not in known:
            special = used.effect or used.volatile or used.stateful or used.fingerprint or used.open
            known[used] = None if special or is_generic(used) else Signature(used)
        return known[used]

    def _node(self, index: int, name: str, node: Node) -> None:
        template = self.template
        use = node.use
        used: Any = self.registry.get(use) if use.__class__ is str and not is_path(use) else None
        if used is None:
            used = self._special_use(name, node)
        template.types.append(used)
        links: dict[str, Links] = {}
        literals: dict[str, Any] = {}
        template.links.append(links)
        template.literals.append(literals)
        if used is None:
            return
        inputs, known = used.inputs, self.index
        for port, reference in node.from_.items():
            if port not in inputs and not self._port(index, port, "from"):
                continue
            link: Any
            if reference.__class__ is str:
                source, _, output = reference.partition(".")
                number = known.get(source)
                link = (
                    (number, intern(output)) if number is not None and output else self.reference(("nodes", name, "from", port), reference)
                )
            else:
                link = self.reference(("nodes", name, "from", port), reference)
            if link is not None:
                links[port] = link
        for port, given in node.with_.items():
            declared = inputs.get(port) or self._port(index, port, "with")
            if declared:
                self._literal(index, declared, given, ("nodes", name, "with", port), literals)
                if port in node.from_:
                    self.report(
                        "set-twice", ("nodes", name, "with", port), f"{port!r} of {name!r} is linked and written", "keep one of them"
                    )
        if node.each:
            self._each(index, node)
        required = self._required.get(used)
        if required is None:
            required = self._required[used] = tuple(port for port, declared in inputs.items() if declared.required)
        for port in required:
            if port not in node.from_ and port not in node.with_ and port not in node.each:
                self._unset.append(index)
                break

    def _special_use(self, name: str, node: Node) -> NodeType | Template | None:
        """A workflow used as a node; None for what cannot be had (then it is reported)."""
        use, path = node.use, ("nodes", name, "use")
        if isinstance(use, str) and not is_path(use):
            self.report("unknown-node", path, *self.registry.unknown(use))
            return None
        if not isinstance(use, str | Workflow):
            self.report("wrong-json", path, f"a node uses a node type or a workflow, but this is {described(use)}", "give its name")
            return None
        try:
            child = self.checker.template(use) if isinstance(use, Workflow) else self.checker.used_file(use, self.workflow.folder)
            if child.all_problems and (values := self._given_a_value(node)):
                child = self.checker.template(child.workflow, values)
        except Refused as error:
            self.report(error.code, path, error.text, error.fix)
            return None
        except WorkflowInvalid as error:
            self.template.problems.extend(error.problems)
            return None
        self.template.children.append(child)
        return child

    def _given_a_value(self, node: Node) -> frozenset[str]:
        """The ports that a node gives a value, whatever the run is given: null would leave one at its default."""
        given = {port for port, link in node.from_.items() if isinstance(link, list) or not self._may_be_null(link)}
        given |= {
            port
            for port, items in node.each.items()
            if (None not in items if isinstance(items, list) else not self._may_be_null(items, mapped=True))
        }
        return frozenset(given | {port for port, value in node.with_.items() if value is not None})

    def _may_be_null(self, reference: Any, mapped: bool = False) -> bool:
        """Whether a link, or an item of the list behind it, is an input of the workflow that may be null."""
        source, _, name = reference.partition(".") if isinstance(reference, str) else ("", "", "")
        port = self.template.inputs.get(name) if source == "inputs" else None
        if port is None or name in self.values:  # what null items of its lists leave at a default is judged with them
            return False
        kind = types.without_none(port.type)
        kind = (kind.args[0] if kind.kind == "list" else types.ANY) if mapped else port.type
        return kind is types.ANY or kind.optional

    def _port(self, index: int, port: str, section: str) -> Port | None:
        """The declared port of that name, or None (then it is reported)."""
        used, name = self.template.types[index], self.template.names[index]
        declared: Port | None = used.inputs.get(port)
        if declared is None and used.__class__ is NodeType:
            declared = used.port(port)
        if declared is None:
            fix = did_you_mean(port, used.inputs) or (f"its inputs are {listing(used.inputs)}" if used.inputs else "it has no inputs")
            self.report("unknown-input", ("nodes", name, section, port), f"{name!r} has no input {port!r}", fix)
        return declared

    # -- links -----------------------------------------------------------------------------------------------------

    def reference(self, path: Steps, reference: Any) -> Links | None:
        if isinstance(reference, list):
            found = [self._single((*path, number), one) for number, one in enumerate(reference)]
            return None if None in found else found  # type: ignore[return-value]
        return self._single(path, reference)

    def _single(self, path: Steps, reference: Any) -> Link | None:
        name, dot, port = reference.partition(".") if isinstance(reference, str) else (described(reference), "", "")
        number = self.index.get(name)
        if number is not None and port:
            return number, port
        if name == "inputs" and port:
            if port in self.template.inputs:
                return INPUTS, port
            fix = did_you_mean(port, self.template.inputs) or f'declare it: "inputs": {{"{port}": {{"type": "…"}}}}'
            self.report("unknown-reference", path, f"the workflow has no input {port!r}", fix)
        elif not dot or not port:
            self._report_no_reference(path, reference, name, number)
        else:
            fix = did_you_mean(name, [*self.index, "inputs"]) or (f"the nodes are {listing(self.index)}" if self.index else "add the node")
            self.report("unknown-reference", path, f"there is no node {name!r}", fix)
        return None

    def _report_no_reference(self, path: Steps, reference: Any, name: str, number: int | None) -> None:
        outputs = declared_outputs(self.workflow_use(number)) if number is not None else {}
        if len(outputs) == 1:
            fix = f"write '{name}.{next(iter(outputs))}'"
        elif outputs:
            fix = f"its outputs are {listing(outputs)}"
        elif name in self.template.inputs:
            fix = f"write 'inputs.{name}'"
        else:
            fix = 'values stand in "with"' if path[0] == "nodes" and path[2] == "from" else "write 'node.output'"
        self.report("bad-reference", path, f"{described(reference)} is no reference: one is 'node.output' or 'inputs.name'", fix)

    def workflow_use(self, index: int) -> NodeType | Template | None:
        """What a node uses, also when its turn has not come yet."""
        if index < len(self.template.types):
            return self.template.types[index]
        use = self.workflow.nodes[self.template.names[index]].use
        return self.registry.get(use) if isinstance(use, str) else None

    # -- literals --------------------------------------------------------------------------------------------------

    def _literal(self, index: int, port: Port, given: Any, path: Steps, literals: dict[str, Any]) -> None:
        try:
            value = literal(port, given, lambda kind, port, text: self.outside(kind, port, text, path))
            if port.live:
                self._live_choice(index, port, value)
        except Refused as error:
            fix = error.fix
            if self._is_reference(given):
                fix = f'to link it, write it in "from": "{port.name}": "{given}"'
            elif isinstance(given, list) and self._does_for_each(port, given, path):
                fix = 'to run once for each item, move it from "with" to "each"' if len(given) > 1 else "write it without brackets"
            self.report(error.code, path, error.text, fix)
            return
        except WorkflowInvalid as error:
            self.template.problems.extend(error.problems)
            return
        if has_pending(value):
            self.template.pending.append((index, port.name, value))
        literals[port.name] = value

    def _does_for_each(self, port: Port, given: list[Any], path: Steps) -> bool:
        """Whether each item of a list that does not do would do by itself."""
        try:
            for value in given:
                literal(port, value, lambda kind, port, text: self.outside(kind, port, text, path))
        except (Refused, WorkflowInvalid):
            return False
        return bool(given)

    def _is_reference(self, given: Any) -> bool:
        """Whether a value that does not do is a link that stands in the wrong place."""
        name, _, port = given.partition(".") if isinstance(given, str) else ("", "", "")
        return bool(port) and (name in self.index or (name == "inputs" and port in self.template.inputs))

    def _live_choice(self, index: int, port: Port, value: Any) -> None:
        known = self.registry.choices(self.template.types[index], port, self.world) if isinstance(value, str) else None
        if known is not None and value not in known:
            text = f"{port.name!r} must be one of {listing(map(str, known), 40) or 'none, as there are none'}, but is {described(value)}"
            raise Refused("not-a-choice", text, did_you_mean(value, map(str, known)))

    def outside(self, kind: Type, port: Port, given: Any, path: Steps = ()) -> Any:
        """What the text of a file, model or workflow port means. Raises Refused and WorkflowInvalid."""
        if kind is types.WORKFLOW and isinstance(given, str | dict):
            if isinstance(given, dict):
                child = self.checker.template(self.workflow.inside(given, path))
            else:
                child = self.checker.used_file(given, self.workflow.folder)
            if child not in self.template.children:
                self.template.children.append(child)
            return child.workflow
        if not isinstance(given, str):
            raise Refused(
                "wrong-type",
                f"{port.name!r} takes {article(kind)}, named by text, but {described(given)} is no text",
                f"write the {_named_by(kind)} in double quotes",
            )
        if kind is types.MODEL:
            return Pending("model", self.world.model(given, port.model))
        return Pending("file", given, str(self.world.file(given, self.workflow.folder)))

    def _each(self, index: int, node: Node) -> None:
        name, mapped = self.template.names[index], {}
        for port, given in node.each.items():
            path = ("nodes", name, "each", port)
            declared = self._port(index, port, "each")
            if port in node.from_ or port in node.with_:
                self.report("set-twice", path, f"{port!r} of {name!r} is mapped by each, and set beside it", "keep one of them")
            if declared is None:
                continue
            link = self._each_items(index, declared, given, path) if isinstance(given, list) else self._single(path, given)
            if link is not None:
                mapped[port] = link
        counts = {port: len(given) for port, given in mapped.items() if isinstance(given, list)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{port!r} has {count}" for port, count in counts.items())
            self.report(
                "each-lengths", ("nodes", name, "each"), f"the lists of each must be of one length, but {told}", "make them of one length"
            )
        self.template.each[index] = mapped

    def _each_items(self, index: int, port: Port, given: list[Any], path: Steps) -> list[Any]:
        items = []
        for number, item in enumerate(given):
            holder: dict[str, Any] = {}
            before = len(self.template.pending)
            self._literal(index, port, item, (*path, number), holder)
            del self.template.pending[before:]  # they are found in the list
            items.append(holder.get(port.name))
        return items

    # -- what is not set -------------------------------------------------------------------------------------------

    def _report_unset(self, index: int) -> None:
        """Every required input of a node that is not given. Said when all nodes are known, so that the fix can name one."""
        name = self.template.names[index]
        node, used = self.workflow.nodes[name], self.template.types[index]
        for port in self._required[used]:
            if port in node.from_ or port in node.with_ or port in node.each:
                continue
            kind = used.inputs[port].type
            fix = self.givers(kind, index)
            if _can_be_written(kind):
                fix = f'write "with": {{"{port}": …}}, or link it' + (f": {fix}" if fix.startswith("these") else "")
            self.report("missing-input", ("nodes", name), f"{name!r} needs {port!r}, {article(kind)}", fix)

    def givers(self, wanted: Type, index: int = INPUTS) -> str:
        """`these give image: 'a.image', 'b.image'`: outputs in this workflow that would fit, without those that need the node itself."""
        if wanted not in self._givers:
            fits: dict[Any, list[str]] = {}
            found = self._givers[wanted] = [(INPUTS, name) for name, port in self.template.inputs.items() if _gives(port.type, wanted)]
            for number, used in enumerate(self.template.types):
                if used not in fits:
                    fits[used] = [port for port, kind in declared_outputs(used).items() if _gives(kind, wanted)]
                found += [(number, port) for port in fits[used]]
        behind = self._behind(index)
        names = (
            f"{'inputs' if number == INPUTS else self.template.names[number]}.{port}"
            for number, port in self._givers[wanted]
            if number not in behind
        )
        found_names = list(islice(names, _MAX_GIVERS))
        said = types.erase(wanted)
        return f"these give {said}: {listing(found_names, 4)}" if found_names else f"nothing here gives {said} yet: add a node that does"

    def _behind(self, index: int) -> set[int]:
        """A node and all that need it; the node alone once so many problems have asked that it would take too long."""
        self._asked += 1
        if index == INPUTS or self._asked > _MAX_ASKED:
            return {index} - {INPUTS}
        if self._targets is None:
            self._targets = {}
            for number in range(len(self.template.links)):
                for source in self._sources(number):
                    self._targets.setdefault(source, []).append(number)
        seen, stack = {index}, [index]
        while stack:
            fresh = [one for one in self._targets.get(stack.pop(), ()) if one not in seen]
            seen.update(fresh)
            stack += fresh
        return seen

    # -- order -----------------------------------------------------------------------------------------------------

    def _order(self) -> bool:
        """Find the order of the data. False when there is none: then it is reported."""
        if all(source < index for index in self.closer for source in self._sources(index)):
            return True  # the nodes that were settled link back
        sources = [self._sources(index) for index in range(len(self.template.names))]
        try:
            self.template.order = graph.order(sources)
        except graph.CycleError as error:
            names = [self.template.names[index] for index in error.path]
            port = next((port for port, links in self._linked(error.path[0]).items() if error.path[-1] in links), None)
            path: Steps = ("nodes", names[0])
            if port is not None:
                path = (*path, "each" if port in self.template.each.get(error.path[0], {}) else "from", port)
            text = (
                f"these nodes depend on each other in a circle: {' → '.join([*names, names[0]])}"
                if len(names) > 1
                else f"{names[0]!r} depends on itself"
            )
            self.report(
                "cycle",
                path,
                text,
                "remove one of these links; a loop is the node 'repeat'"
                if len(names) > 1
                else "link something else; a loop is the node 'repeat'",
            )
            return False
        return True

    def _sources(self, index: int) -> list[int]:
        """The nodes that a node takes something from."""
        found: list[int] = []
        for link in self.template.links[index].values():
            if link.__class__ is tuple:
                if link[0] >= 0:
                    found.append(link[0])
            else:
                found += [one[0] for one in link if one[0] >= 0]
        if index in self.template.each:
            found += [link[0] for link in self.template.each[index].values() if link.__class__ is tuple and link[0] >= 0]
        return found

    def _linked(self, index: int) -> dict[str, list[int]]:
        """The nodes behind each linked port."""
        each = {port: link for port, link in self.template.each.get(index, {}).items() if link.__class__ is tuple}
        both = {**self.template.links[index], **each}
        return {port: [one[0] for one in (link if isinstance(link, list) else [link])] for port, link in both.items()}


def _gives(kind: Type, wanted: Type) -> bool:
    return not types.has_variables(kind) and kind is not types.ANY and types.accepts(wanted, kind, {})


def _can_be_written(kind: Type) -> bool:
    """Whether a value of the type can stand in a file."""
    if kind.kind == "list":
        return _can_be_written(kind.args[0])
    if kind.kind == "union":
        return any(map(_can_be_written, kind.args))
    return kind in (types.INT, types.FLOAT, types.BOOL, types.TEXT, types.JSON, types.SEED, types.FILE, types.MODEL, types.WORKFLOW)


def _named_by(kind: Type) -> str:
    return "path" if kind is types.FILE else "name" if kind is types.MODEL else "path of a workflow"


__all__ = ["Compilation", "Signature"]
