"""Workflow × registry → problems, all at once and in file order, and the template that plans are made from.

Nothing is computed and no weight is read. Facts of models come from configurations and headers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from nodegraph import graph, types
from nodegraph.errors import WorkflowInvalid, did_you_mean, listing
from nodegraph.facts import Facts, Look, Mismatch
from nodegraph.literals import Pending, Refused, article, literal
from nodegraph.registry import Registry
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.template import INPUTS, Link, Links, Template
from nodegraph.types import Type
from nodegraph.workflow import Input, Node, Workflow, is_path


class World(Look, Protocol):
    """What check may know of the outside: files in the allowed roots, and models by name."""

    def file(self, text: str, folder: Path | None) -> Path:
        """The path of a file named in a workflow. Raises Refused when it is missing or outside of the roots."""

    def model(self, name: str, kind: str) -> str:
        """The full name of a model. Raises Refused when there is none of that name and kind."""


class Checker:
    """Compiles workflows against one registry and one world."""

    def __init__(self, registry: Registry, world: World):
        self.registry, self.world = registry, world
        self._files: dict[tuple[str, int], Template] = {}
        self._open: list[str] = []

    def template(self, workflow: Workflow) -> Template:
        """The workflow compiled; its problems are in the template's `all_problems`."""
        kept = workflow._compiled
        if kept is not None and kept[0] is self.registry and kept[1] == self.registry.generation and not self._stale(kept[2]):
            return kept[2]  # type: ignore[no-any-return]
        made = _Compilation(self, workflow).template
        workflow._compiled = (self.registry, self.registry.generation, made)
        return made

    def returned_graph(self, record: Mapping[str, Any], parent: NodeType, inputs: Iterable[str], name: str) -> Template:
        """The template of a graph that a node returned: its inputs are the ports of that node."""
        ports = {port: Port(port, types.erase(declared.type), None) for port, declared in parent.inputs.items()}
        ports.update({port: Port(port, types.ANY, None) for port in inputs if port not in ports})
        nodes = {
            name: Node.model_construct(use=node["use"], each={}, from_=node["from"], with_=node["with"], doc="")
            for name, node in record["nodes"].items()
        }
        workflow = Workflow.model_construct(nodegraph=1, name=name, doc="", requires={}, inputs={}, nodes=nodes, outputs=record["outputs"])
        return _Compilation(self, workflow, ports).template

    def _stale(self, template: Template) -> bool:
        """Whether something outside may have changed what check says: any problem, file, model or other workflow."""
        return bool(template.problems or template.pending or template.children)

    def used_file(self, text: str, folder: Path | None) -> Template:
        """The template of a workflow used as a node. Raises Refused and WorkflowInvalid."""
        path = self.world.file(text, folder)
        name = str(path)
        if name in self._open:
            circle = [Path(one).name for one in [*self._open[self._open.index(name) :], name]]
            raise Refused("workflow-cycle", f"workflows use each other in a circle: {' → '.join(circle)}", "remove one of these uses")
        stamp = (name, path.stat().st_mtime_ns)
        if stamp not in self._files:
            self._open.append(name)
            try:
                self._files[stamp] = self.template(Workflow.load(_shown(path)))
            finally:
                self._open.pop()
        return self._files[stamp]


def _shown(path: Path) -> Path:
    """The path as a person would write it: relative when it lies below the working folder."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


class _Compilation:
    """One workflow on its way to a template."""

    def __init__(self, checker: Checker, workflow: Workflow, ports: Mapping[str, Port] | None = None):
        self.checker, self.registry, self.world = checker, checker.registry, checker.world
        self.workflow = workflow
        self.template = Template(workflow)
        self.index = {name: number for number, name in enumerate(workflow.nodes)}
        self.given: list[dict[str, Type]] = []
        self.template.names = list(workflow.nodes)
        self._requires()
        if ports is None:
            self._inputs()
        else:
            self.template.inputs = dict(ports)
            self.template.feeds = {name: [] for name in ports}
        for name, node in workflow.nodes.items():
            self._node(name, node)
        if self._order():
            for index in self.template.sequence():
                self._types(index)
            self._outputs()
            if ports is None:
                self._inherit_bounds()
            if not self.template.problems and not any(child.all_problems for child in self.template.children):
                _FactsPass(self).run()
        self._in_file_order()

    def report(self, code: str, path: tuple[str | int, ...], text: str, fix: str = "", **data: Any) -> None:
        self.template.problems.append(self.workflow.problem(code, path, text, fix, **data))

    def _in_file_order(self) -> None:
        self.template.problems.sort(key=lambda problem: (problem.line, problem.column))

    def _requires(self) -> None:
        for pack, wanted in self.workflow.requires.items():
            have = self.registry.versions.get(pack)
            least = wanted.removeprefix(">=").strip()
            if not least.isdigit():
                self.report("bad-requires", ("requires", pack), f"{wanted!r} is no version range", 'write ">=1"')
            elif have is None:
                fix = did_you_mean(pack, self.registry.versions) or "install the pack, or name its folder in NODEGRAPH_PACKS"
                self.report("pack-missing", ("requires", pack), f"the pack {pack!r} is not here", fix)
            elif have < int(least):
                self.report(
                    "pack-version", ("requires", pack), f"the pack {pack!r} is version {have}, but {wanted} is required", f"update {pack!r}"
                )

    # -- the workflow's own inputs ---------------------------------------------------------------------------------

    def _inputs(self) -> None:
        for name, declared in self.workflow.inputs.items():
            try:
                port = input_port(name, declared)
            except ValueError as error:
                self.report("bad-type", ("inputs", name, "type"), str(error), "see the types with: nodegraph types")
                port = Port(name, types.ANY)
            if port.default is not REQUIRED:
                self._input_default(port)
            self.template.inputs[name] = port
            self.template.feeds[name] = []

    def _input_default(self, port: Port) -> None:
        try:
            literal(port, port.default, self._outside)
        except Refused as error:
            if port.default is None and port.type.kind == "name":
                return  # "default": null makes an input optional
            self.report(error.code, ("inputs", port.name, "default"), error.text, error.fix)

    # -- nodes: names, links, literals -----------------------------------------------------------------------------

    def _node(self, name: str, node: Node) -> None:
        template = self.template
        used = self._used(name, node)
        template.types.append(used)
        links: dict[str, Links] = {}
        literals: dict[str, Any] = {}
        template.links.append(links)
        template.literals.append(literals)
        if used is None:
            return
        if used.__class__ is NodeType and used.was and node.use in used.was:
            pass  # a former name goes on working
        index = len(template.types) - 1
        for port, reference in node.from_.items():
            if self._port(index, port, "from") and (link := self._reference(("nodes", name, "from", port), reference)) is not None:
                links[port] = link
        for port, given in node.with_.items():
            if declared := self._port(index, port, "with"):
                self._literal(index, declared, given, ("nodes", name, "with", port), literals)
                if port in links:
                    self.report(
                        "set-twice", ("nodes", name, "with", port), f"{port!r} of {name!r} is linked and written", "keep one of them"
                    )
        if node.each:
            self._each(index, node)
        self._required(index, name, node)

    def _used(self, name: str, node: Node) -> NodeType | Template | None:
        """What the node uses, or None when that cannot be had (then it is reported)."""
        use = node.use
        if isinstance(use, str) and not is_path(use):
            known = self.registry.get(use)
            if known is None:
                text, fix = self.registry.unknown(use)
                self.report("unknown-node", ("nodes", name, "use"), text, fix)
            return known
        try:
            child = self.checker.template(use) if isinstance(use, Workflow) else self.checker.used_file(use, self.workflow.folder)
        except Refused as error:
            self.report(error.code, ("nodes", name, "use"), error.text, error.fix)
            return None
        except WorkflowInvalid as error:
            self.template.problems.extend(error.problems)
            return None
        self.template.children.append(child)
        return child

    def _port(self, index: int, port: str, section: str) -> Port | None:
        used, name = self.template.types[index], self.template.names[index]
        declared = used.inputs.get(port)
        if declared is None and used.__class__ is NodeType:
            declared = used.port(port)
        if declared is None:
            fix = did_you_mean(port, used.inputs) or (f"its inputs are {listing(used.inputs)}" if used.inputs else "it has no inputs")
            self.report("unknown-input", ("nodes", name, section, port), f"{name!r} has no input {port!r}", fix)
        return declared  # type: ignore[no-any-return]

    def _reference(self, path: tuple[str | int, ...], reference: str | list[str]) -> Links | None:
        if isinstance(reference, list):
            found = [self._single((*path, number), one) for number, one in enumerate(reference)]
            return None if None in found else found  # type: ignore[return-value]
        return self._single(path, reference)

    def _single(self, path: tuple[str | int, ...], reference: str) -> Link | None:
        name, dot, port = reference.partition(".")
        number = self.index.get(name)
        if number is not None and port:
            return number, port
        if name == "inputs" and port:
            if port in self.template.inputs:
                return INPUTS, port
            fix = did_you_mean(port, self.template.inputs) or f'declare it: "inputs": {{"{port}": {{"type": "…"}}}}'
            self.report("unknown-reference", path, f"the workflow has no input {port!r}", fix)
        elif not dot or not port:
            self.report(
                "bad-reference",
                path,
                f"{reference!r} is no reference; one is written 'node.output' or 'inputs.name'",
                f"write '{name}.<output>'" if number is not None else "",
            )
        else:
            self.report(
                "unknown-reference",
                path,
                f"there is no node {name!r}",
                did_you_mean(name, self.index) or f"the nodes are {listing(self.index)}",
            )
        return None

    def _literal(self, index: int, port: Port, given: Any, path: tuple[str | int, ...], literals: dict[str, Any]) -> None:
        try:
            value = literal(port, given, self._outside)
            self._live_choice(index, port, value)
        except Refused as error:
            self.report(error.code, path, error.text, error.fix)
            return
        except WorkflowInvalid as error:
            self.template.problems.extend(error.problems)
            return
        if value.__class__ is Pending:
            self.template.pending.append((index, port.name, value))
        literals[port.name] = value

    def _live_choice(self, index: int, port: Port, value: Any) -> None:
        if port.live and isinstance(value, str):
            known = self.registry.choices(self.template.types[index], port, self.world)
            if known is not None and value not in known:
                raise Refused(
                    "not-a-choice",
                    f"{port.name!r} must be one of {listing(map(str, known))}, but is {value!r}",
                    did_you_mean(value, map(str, known)),
                )

    def _outside(self, kind: Type, port: Port, given: Any) -> Any:
        """Resolve the text of a file, model or workflow port."""
        if kind is types.WORKFLOW:
            inner = Workflow.of(given) if isinstance(given, dict) else None
            if inner is not None and self.workflow.folder is not None:
                inner._folder, inner._file = self.workflow.folder, self.workflow.file
            child = self.checker.template(inner) if inner else self.checker.used_file(given, self.workflow.folder)
            if child not in self.template.children:
                self.template.children.append(child)
            return child.workflow
        if not isinstance(given, str):
            raise Refused(
                "wrong-type",
                f"{port.name!r} takes {article(kind)}, named by text, but the given value is {given!r}",
                "write its name in double quotes",
            )
        if kind is types.MODEL:
            return Pending("model", self.world.model(given, port.model))
        return Pending("file", given, str(self.world.file(given, self.workflow.folder)))

    def _each(self, index: int, node: Node) -> None:
        name, lengths, mapped = self.template.names[index], {}, {}
        for port, given in node.each.items():
            path = ("nodes", name, "each", port)
            declared = self._port(index, port, "each")
            if port in node.from_ or port in node.with_:
                self.report("set-twice", path, f"{port!r} of {name!r} is mapped by each, and set beside it", "keep one of them")
            if declared is None:
                continue
            if isinstance(given, str):
                mapped[port] = self._single(path, given)
            else:
                lengths[port] = len(given)
                mapped[port] = self._each_items(index, declared, given, path)
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{port!r} has {count}" for port, count in lengths.items())
            self.report(
                "each-lengths", ("nodes", name, "each"), f"the lists of each must be of one length, but {counts}", "make them of one length"
            )
        self.template.each[index] = {port: given for port, given in mapped.items() if given is not None}

    def _each_items(self, index: int, port: Port, given: list[Any], path: tuple[str | int, ...]) -> list[Any]:
        items = []
        for number, item in enumerate(given):
            holder: dict[str, Any] = {}
            before = len(self.template.pending)
            self._literal(index, port, item, (*path, number), holder)
            del self.template.pending[before:]
            items.append(holder.get(port.name))
        return items

    def _required(self, index: int, name: str, node: Node) -> None:
        for port, declared in self.template.types[index].inputs.items():
            if (
                declared.default is REQUIRED
                and not declared.open
                and port not in node.from_
                and port not in node.with_
                and port not in node.each
            ):
                fix = (
                    "link it: " + self._sources_for(declared.type)
                    if declared.type.kind != "name" or declared.type not in types.PLAIN.values()
                    else f'link it, or write "with": {{"{port}": …}}'
                )
                self.report("missing-input", ("nodes", name), f"{name!r} needs {port!r} ({declared.type})", fix)

    def _sources_for(self, wanted: Type) -> str:
        """Outputs in this workflow that would fit."""
        found = [f"inputs.{name}" for name, port in self.template.inputs.items() if types.accepts(wanted, port.type, {})]
        for number, used in enumerate(self.template.types):
            if used is not None:
                found += [
                    f"{self.template.names[number]}.{port}"
                    for port, kind in _declared_outputs(used).items()
                    if not types.has_variables(kind) and types.accepts(wanted, kind, {})
                ]
        return f"these give {wanted}: {listing(found, 4)}" if found else f"nothing here gives {wanted} yet"

    # -- order and types -------------------------------------------------------------------------------------------

    def _order(self) -> bool:
        sources = [[link[0] for link in self._flat(index)] for index in range(len(self.template.names))]
        try:
            self.template.order = graph.order(sources)
        except graph.CycleError as error:
            names = [self.template.names[index] for index in [*error.path, error.path[0]]]
            self.report(
                "cycle",
                ("nodes", names[0]),
                f"these nodes depend on each other in a circle: {' → '.join(names)}",
                "remove one of these links; a loop is the node 'repeat'",
            )
            return False
        self.given = [{} for _ in sources]
        return True

    def _flat(self, index: int) -> list[Link]:
        """Every link of a node, but to the workflow's inputs."""
        found: list[Link] = []
        links: list[Any] = list(self.template.links[index].values())
        if index in self.template.each:
            links += [one for one in self.template.each[index].values() if isinstance(one, tuple)]
        for link in links:
            found += [one for one in link if one[0] >= 0] if link.__class__ is list else [link] if link[0] >= 0 else []
        return found

    def _types(self, index: int) -> None:
        """Check every link of a node, and find the types of its outputs."""
        used = self.template.types[index]
        if used is None:
            return
        inputs, bound = used.inputs, {}
        for port, link in self.template.links[index].items():
            declared = inputs.get(port) or used.port(port)
            if link.__class__ is tuple and link[0] >= 0:
                # the common case, without a call: the same type on both sides
                source = self.given[link[0]].get(link[1])
                if source is declared.type:
                    continue
            self._link(index, "from", declared, link, bound)
        for port, link in self.template.each.get(index, {}).items():
            self._link(index, "each", inputs.get(port) or used.port(port), link, bound)
        for port, value in self.template.literals[index].items():
            declared = inputs.get(port) or used.port(port)
            if types.has_variables(declared.type):
                types.accepts(declared.type, _type_of(value), bound)
        outputs = _declared_outputs(used)
        if bound or index in self.template.each or (used.__class__ is NodeType and any(map(types.has_variables, outputs.values()))):
            outputs = {name: types.substitute(kind, bound) for name, kind in outputs.items()}
            if index in self.template.each:
                outputs = {name: types.list_of(kind) for name, kind in outputs.items()}
        self.given[index] = outputs

    def _link(self, index: int, section: str, port: Port, link: Any, bound: dict[str, Type]) -> None:
        name = self.template.names[index]
        path = ("nodes", name, section, port.name)
        if section == "each":
            if isinstance(link, list):
                for value in link:
                    types.accepts(port.type, _type_of(value), bound)
                return
            source = self._source_type(path, link)
            if source is None:
                return
            if source.kind != "list" and source is not types.ANY:
                self.report(
                    "each-type",
                    path,
                    f"each takes a list, but {self._spelled(link)!r} gives {source}",
                    f'link it in "from", or give a list[{port.type}]',
                )
                return
            self._accept(index, path, port, source.args[0] if source.kind == "list" else source, link, bound)
        elif isinstance(link, list):
            self._list_link(index, path, port, link, bound)
        elif (source := self._source_type(path, link)) is not None:
            self._accept(index, path, port, source, link, bound)

    def _list_link(self, index: int, path: tuple[str | int, ...], port: Port, links: list[Link], bound: dict[str, Type]) -> None:
        target = types.without_none(port.type)
        if target.kind != "list" and target is not types.ANY:
            self.report(
                "type-mismatch", path, f"{self._target(path)} takes one {port.type}, but {len(links)} links are given", "keep one link"
            )
            return
        item = Port(port.name, target.args[0] if target.kind == "list" else types.ANY)
        for number, link in enumerate(links):
            if (source := self._source_type((*path, number), link)) is not None:
                self._accept(index, (*path, number), item, source, link, bound)

    def _source_type(self, path: tuple[str | int, ...], link: Link) -> Type | None:
        index, port = link
        if index == INPUTS:
            return self.template.inputs[port].type
        known = self.given[index].get(port)
        if known is None and self.template.types[index] is not None:
            outputs = _declared_outputs(self.template.types[index])
            name = self.template.names[index]
            fix = did_you_mean(port, outputs) or (f"its outputs are {listing(outputs)}" if outputs else "it has no outputs")
            self.report("unknown-output", path, f"{name!r} has no output {port!r}", fix)
        return known

    def _accept(self, index: int, path: tuple[str | int, ...], port: Port, source: Type, link: Link, bound: dict[str, Type]) -> None:
        if link[0] == INPUTS:
            self.template.feeds[link[1]].append((index, port))
        if not types.accepts(port.type, source, bound):
            if link[0] == INPUTS and self._null_for_default(link[1], port, source):
                return
            wanted = bound.get(port.type.name, port.type) if port.type.kind == "var" else port.type
            text = f"{self._target(path)} takes {wanted}, but {self._spelled(link)!r} gives {source}"
            self.report("type-mismatch", path, text, self._sources_fix(wanted, source, link), expected=str(wanted), given=str(source))
        elif source is types.ANY and port.type is not types.ANY and not types.has_variables(port.type):
            self.template.checked[index] = (*self.template.checked.get(index, ()), port.name)

    def _null_for_default(self, name: str, port: Port, source: Type) -> bool:
        return port.default is not REQUIRED and types.accepts(port.type, types.without_none(source), {})

    def _sources_fix(self, wanted: Type, source: Type, link: Link) -> str:
        if wanted.kind == "list" and types.accepts(wanted.args[0], source, {}):
            return f'write it as a list: ["{self._spelled(link)}"]'
        if source.kind == "list" and types.accepts(wanted, source.args[0], {}):
            return 'to run once for each item, move it from "from" to "each"'
        text = self._sources_for(wanted)
        return text if text.startswith("these") else f"add a node that turns {source} into {wanted}"

    def _target(self, path: tuple[str | int, ...]) -> str:
        """`'decode.latent'`: a port in the author's words."""
        return repr(f"{path[1]}.{path[3]}") if path[0] == "nodes" else repr(f"outputs.{path[1]}")

    def _spelled(self, link: Link) -> str:
        return f"{'inputs' if link[0] == INPUTS else self.template.names[link[0]]}.{link[1]}"

    def _outputs(self) -> None:
        for name, reference in self.workflow.outputs.items():
            link = self._reference(("outputs", name), reference)
            if link is None:
                continue
            kinds = [self._source_type(("outputs", name), one) for one in (link if isinstance(link, list) else [link])]
            if all(kind is not None for kind in kinds):
                self.template.outputs[name] = link
                self.template.output_types[name] = types.list_of(types.union(kinds)) if isinstance(link, list) else kinds[0]  # type: ignore[assignment, arg-type]

    def _inherit_bounds(self) -> None:
        """Give each input the bounds of the ports it feeds, and check its default against them."""
        for name, fed in self.template.feeds.items():
            port = self.template.inputs[name]
            bounded = [one for _, one in fed if one.bounded]
            if bounded:
                self.template.inputs[name] = port = inherit(port, bounded)
                if port.default is not REQUIRED:
                    self._input_default(port)


def inherit(port: Port, fed: list[Port]) -> Port:
    """The port with the narrowest bounds of itself and of the ports it feeds."""

    def narrowest(field: str, pick: Any) -> Any:
        limits = [limit for one in (port, *fed) if (limit := getattr(one, field)) is not None]
        return pick(limits) if limits else None

    choices = next((one.choices for one in (port, *fed) if one.choices), ())
    limits = {field: narrowest(field, max) for field in ("minimum", "above", "min_length", "multiple", "pattern")}
    limits.update({field: narrowest(field, min) for field in ("maximum", "below", "max_length")})
    return replace(port, choices=choices, **limits)


def input_port(name: str, declared: Input) -> Port:
    """The port that a declared input is. Raises ValueError for a type that is none."""
    default = declared.default if not declared.required else REQUIRED
    kind = types.parse(declared.type)
    if default is None and not kind.optional:
        kind = types.union((kind, types.NONE))
    choices = tuple(declared.choices or ())
    return Port(name, kind, default, doc=declared.doc, minimum=declared.min, maximum=declared.max, choices=choices, model=declared.kind)


def _declared_outputs(used: NodeType | Template) -> dict[str, Type]:
    if isinstance(used, Template):
        return used.output_types
    kept = used.__dict__.get("_output_types")
    if kept is None:
        kept = {name: port.type for name, port in used.outputs.items()}
        object.__setattr__(used, "_output_types", kept)
    return kept


def _type_of(value: Any) -> Type:
    """The type of a literal, for binding type variables."""
    if isinstance(value, list):
        return types.list_of(types.union(map(_type_of, value)) if value else types.ANY)
    if isinstance(value, Pending):
        return types.named(value.kind)
    return types.PLAIN.get(type(value), types.JSON if isinstance(value, dict) else types.ANY)


class _FactsPass:
    """Carries facts through a template in topological order and reports what does not go together."""

    def __init__(self, compilation: _Compilation, given: Mapping[str, Facts] | None = None):
        self.compilation, self.template = compilation, compilation.template
        self.given = dict(given or {})
        self.known: dict[Link, Facts] = {}

    def run(self) -> None:
        template, registry = self.template, self.compilation.registry
        with_facts: dict[int, Any] = {}
        for index, used in enumerate(template.types):
            if used.__class__ is NodeType and (function := registry.facts(used)):
                with_facts[index] = function
        if not with_facts:
            return
        for index in template.sequence():
            if index in with_facts:
                self._node(index, with_facts[index])

    def _node(self, index: int, function: Any) -> None:
        import inspect

        template = self.template
        name, used = template.names[index], template.types[index]
        wanted = inspect.signature(function).parameters
        everything = any(one.kind is one.VAR_KEYWORD for one in wanted.values())
        facts = {port: self._input(index, port, declared) for port, declared in used.inputs.items() if everything or port in wanted}
        if "look" in wanted:
            facts["look"] = self.compilation.world
        try:
            found = function(**facts)
        except Exception as error:  # facts are hints of a pack: a mistake in them must not stop a workflow
            text = f"the facts of {name!r} failed: {type(error).__name__}: {error}"
            self.compilation.report("facts-failed", ("nodes", name), text, f"mend facts.py of the pack {used.pack!r}")
            return
        if isinstance(found, Mismatch):
            section = "with" if found.port in template.literals[index] else "each" if found.port in template.each.get(index, {}) else "from"
            self.compilation.report("facts-mismatch", ("nodes", name, section, found.port), found.text, found.fix)
        elif isinstance(found, Facts) and len(used.outputs) == 1:
            self.known[(index, next(iter(used.outputs)))] = found
        elif isinstance(found, Mapping):
            self.known.update({(index, port): one for port, one in found.items()})

    def _input(self, index: int, port: str, declared: Port) -> Facts:
        template = self.template
        if port in template.each.get(index, {}):
            return Facts()
        link = template.links[index].get(port)
        if isinstance(link, tuple):
            if link[0] == INPUTS:
                return self.given.get(link[1]) or self._default(template.inputs[link[1]])
            return self.known.get(link, Facts())
        if link is not None:
            return Facts()
        if port in template.literals[index]:
            return _value_facts(template.literals[index][port])
        return Facts(value=declared.default) if declared.default is not REQUIRED else Facts()

    def _default(self, port: Port) -> Facts:
        return Facts(value=port.default) if port.default is not REQUIRED else Facts()


def _value_facts(value: Any) -> Facts:
    return Facts(value=value.text) if isinstance(value, Pending) else Facts(value=value)
