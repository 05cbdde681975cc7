"""Workflow × registry → problems, all at once and in file order, and the template that plans are made from.

Nothing is computed and no weight is read. Facts of models come from configurations and headers. A workflow is compiled in three
passes: names, links and literals (`compiling`), types (`typing_pass`), facts (`facts_pass`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from nodegraph import looks, types
from nodegraph.compiling import Compilation, Signature
from nodegraph.errors import WorkflowInvalid
from nodegraph.facts import Facts, Look
from nodegraph.facts_pass import Flow
from nodegraph.literals import Refused
from nodegraph.reading import MAX_DEPTH
from nodegraph.registry import Registry
from nodegraph.renaming import with_present_ports
from nodegraph.spec import NodeType, Port
from nodegraph.template import Template
from nodegraph.witness import Witness
from nodegraph.workflow import Node, Workflow

FILES = 256
"""How many used workflow files are remembered as they were read."""


class World(Look, Protocol):
    """What check may know of the outside: files in the allowed roots, and models by name."""

    def file(self, text: str, folder: Path | None) -> Path:
        """The path of a file named in a workflow. Raises Refused when it is missing or outside of the roots."""

    def model(self, name: str, kind: str) -> str:
        """The full name of a model. Raises Refused when there is none of that name and kind."""


class Checker:
    """Compiles workflows against one registry and one world. One thread at a time."""

    def __init__(self, registry: Registry, world: World):
        self.registry, self.world = registry, Witness(world)
        self.flow = Flow(registry, self.world)
        self.signatures: dict[NodeType, Signature | None] = {}
        self._read: dict[Path, Workflow] = {}
        self._templates: dict[str, Template] = {}
        self._nested: dict[tuple[int, frozenset[str]], tuple[Workflow, Template]] = {}
        self._open: list[str] = []
        self._depth = 0

    def template(self, workflow: Workflow, given: Collection[str] = ()) -> Template:
        """The workflow compiled; its problems are in the template's `all_problems`. `given`: its inputs that have a value, so that
        what is wrong with their defaults is no problem; then it is not kept. Raises Refused when it is nested too deeply."""
        if not self._depth:
            self.world.look_up()
            return self._template(workflow, given)
        name = id(workflow), frozenset(given)
        if name not in self._nested:  # or else what is wrong deep inside would be found twice as often at each level
            self._nested[name] = workflow, self._template(workflow, given)  # the workflow, so that its id stays its own
        return self._nested[name][1]

    def _template(self, workflow: Workflow, given: Collection[str]) -> Template:
        if given:
            return self._compile(workflow, given=given)
        kept = workflow._compiled
        if kept is not None and kept[0] is self.registry and kept[1] == self.registry.generation and not self._stale(kept[2]):
            return kept[2]
        made = self._compile(workflow)
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
        outputs = record["outputs"]
        workflow = Workflow.model_construct(nodegraph=1, name=name, doc="", requires={}, inputs={}, nodes=nodes, outputs=outputs)
        template = self._compile(workflow, ports)
        for output, kind in template.output_types.items():
            declared = types.erase(parent.outputs[output].type) if output in parent.outputs else types.ANY
            if not types.accepts(declared, kind, {}):
                text = f"{parent.name!r} gives {output!r} as {declared}, but its graph gives {kind}"
                template.problems.append(workflow.problem("type-mismatch", ("outputs", output), text, "give what is declared"))
        return template

    def used_file(self, text: str, folder: Path | None) -> Template:
        """The template of a workflow used as a node. Raises Refused and WorkflowInvalid."""
        path = self.world.file(text, folder)
        name = str(path)
        if name in self._open:
            circle = [Path(one).name for one in [*self._open[self._open.index(name) :], name]]
            raise Refused("workflow-cycle", f"workflows use each other in a circle: {' → '.join(circle)}", "remove one of these uses")
        known = self._templates.get(name)
        if known is None:
            known = self._templates[name] = self.template(self._load(path))
        return known

    def _load(self, path: Path) -> Workflow:
        """Read a file, once as long as it stays as it is."""
        try:
            looks.stat(path)
        except OSError as error:
            raise Refused("file-missing", f"cannot read {path.name!r}: {error.strerror}", "give the path of a workflow file") from None
        read = Workflow.load(_shown(path), self._read.get(path))
        if len(self._read) >= FILES and path not in self._read:
            self._read.clear()
        self._read[path] = read
        return read

    def _stale(self, template: Template) -> bool:
        """Whether something outside may have changed what check says, here or in a workflow it uses: any problem, other files, or
        other answers about files and models."""
        stack, seen = [template], {id(template)}
        while stack:
            one = stack.pop()
            if one.problems or (one is not template and not self._says_again(one.workflow)) or not self.world.says_again(one.said):
                return True  # each is asked: what one asked first is not in what others that use the same workflow asked
            fresh = [child for child in one.children if id(child) not in seen]
            seen.update(map(id, fresh))
            stack += fresh
        return False

    def _says_again(self, used: Workflow) -> bool:
        """Whether the file of a workflow that is used still says what was read from it."""
        if used._stamp is None:
            return True
        name, seen = used._stamp
        try:
            return (used._settled and looks.stamp(name) == seen) or self._load(Path(name)) is used
        except (OSError, Refused, WorkflowInvalid):
            return False

    def _compile(self, workflow: Workflow, ports: Mapping[str, Port] | None = None, given: Collection[str] = ()) -> Template:
        if self._depth > MAX_DEPTH:
            text = f"workflows use each other more than {MAX_DEPTH} deep"
            raise Refused("too-deep", text, "use fewer workflows inside of workflows; a loop is the node 'repeat'")
        if not self._depth:
            self._templates.clear()
            self._nested.clear()
            self.world.look_up()
        mark = self.world.mark()
        self._open.append(str(workflow._stamp[0]) if workflow._stamp else "")
        self._depth += 1
        try:
            made = Compilation(self, with_present_ports(workflow, self.registry), ports, given).template
            made.said = self.world.since(mark)
            return made
        finally:
            self._depth -= 1
            self._open.pop()

    def check_facts(self, template: Template, given: Mapping[str, Facts]) -> None:
        """Report what is known not to go together in a template without other problems."""
        self.flow.check(template, given)


def _shown(path: Path) -> Path:
    """The path as a person would write it: relative when it lies below the working folder."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


__all__ = ["Checker", "World"]
