"""Pictures of a workflow in text: a tree for a terminal, and a Mermaid flowchart. No pack is needed to see one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nodegraph.workflow import Input, Link, Node, Workflow

LITERAL = 40
"""The most characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One reference: from an output of a node (or an input of the workflow, node `inputs`) to a port."""

    source: str
    output: str
    port: str
    mapped: bool = False

    @property
    def reference(self) -> str:
        return f"{self.source}.{self.output}" if self.output else self.source


def edges(node: Node) -> list[Edge]:
    """What a node takes from others, in file order; `each` first."""
    linked: list[tuple[str, Link, bool]] = [(port, given, True) for port, given in node.each.items() if isinstance(given, str)]
    linked += [(port, given, False) for port, given in node.from_.items()]
    return [edge for port, given, mapped in linked for edge in _references(port, given, mapped)]


def _references(port: str, link: Link, mapped: bool = False) -> Iterator[Edge]:
    for reference in link if isinstance(link, list) else [link]:
        source, _, output = reference.partition(".")
        yield Edge(source, output, port, mapped)


# -- the tree ----------------------------------------------------------------------------------------------------------


def tree(workflow: Workflow) -> str:
    """Each output as a root with what it comes from; a node that was shown already is not opened again.

        image ← decode.image  decode_latent
        ├─ vae ← model.vae  load_model(name="tiny-sd")
        └─ latent ← sample.latent  sample_latent(steps=20)
           └─ model ← model.denoiser  (above)

    Nodes that no output needs, such as those that save, follow as roots of their own.
    """
    drawing = _Tree(workflow)
    head = workflow.name or workflow.file or "workflow"
    drawing.lines.append(f"{head}: {' '.join(workflow.doc.split())}" if workflow.doc else head)
    for name, declared in workflow.inputs.items():
        drawing.lines.append(f"  {name}: {_declared(declared)}")
    for name, link in workflow.outputs.items():
        for edge in _references(name, link):
            drawing.root(edge)
    for name in [*_sinks(workflow), *workflow.nodes]:
        if name not in drawing.shown:
            drawing.root(Edge(name, "", ""))
    return "\n".join(drawing.lines)


class _Tree:
    """The lines of a tree, and the nodes that are in it."""

    def __init__(self, workflow: Workflow):
        self.workflow = workflow
        self.lines: list[str] = []
        self.shown: set[str] = set()

    def root(self, root: Edge) -> None:
        """Add an edge and all that is behind it, depth first; without recursion, as chains may be long."""
        stack = [(root, "", "")]
        while stack:
            edge, lead, indent = stack.pop()
            node = self.workflow.nodes.get(edge.source)
            again = edge.source in self.shown
            self.lines.append(f"{lead}{_label(edge)}{_described(edge, node, again)}")
            if node is None or again:
                continue
            self.shown.add(edge.source)
            behind = edges(node)
            last = len(behind) - 1
            rows = [
                (one, indent + ("└─ " if number == last else "├─ "), indent + ("   " if number == last else "│  "))
                for number, one in enumerate(behind)
            ]
            stack += reversed(rows)


def _label(edge: Edge) -> str:
    if not edge.port:
        return edge.source
    return f"{'each ' if edge.mapped else ''}{edge.port} ← {edge.reference}"


def _described(edge: Edge, node: Node | None, again: bool) -> str:
    if node is None:
        return "" if edge.source == "inputs" else "  (missing)"
    return "  (above)" if again else f"  {use_of(node)}{_literals(node)}"


def use_of(node: Node) -> str:
    """What a node uses, in a word."""
    return node.use if isinstance(node.use, str) else f"workflow {node.use.name}".rstrip()


def _literals(node: Node) -> str:
    written = [f"{port}={_short(value)}" for port, value in node.with_.items()]
    written += [f"each {port}={_short(given)}" for port, given in node.each.items() if not isinstance(given, str)]
    return f"({', '.join(written)})" if written else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LITERAL else text[: LITERAL - 1] + "…"


def _declared(declared: Input) -> str:
    return declared.type if declared.required else f"{declared.type} = {_short(declared.default)}"


def _sinks(workflow: Workflow) -> list[str]:
    """The nodes that no other node takes anything from, in file order."""
    taken = {edge.source for node in workflow.nodes.values() for edge in edges(node)}
    return [name for name in workflow.nodes if name not in taken]


# -- Mermaid -----------------------------------------------------------------------------------------------------------


def mermaid(workflow: Workflow) -> str:
    """A Mermaid flowchart: inputs and outputs round, workflows as nodes with a double frame, port names on the edges."""
    nodes = {name: f"n{number}" for number, name in enumerate(workflow.nodes)}
    inputs = {name: f"i{number}" for number, name in enumerate(workflow.inputs)}
    lines = ["flowchart LR"]
    lines += [f'  {inputs[name]}(["{_escaped(name)}: {_escaped(declared.type)}"])' for name, declared in workflow.inputs.items()]
    for name, node in workflow.nodes.items():
        start, end = ("[[", "]]") if not isinstance(node.use, str) or node.use.endswith(".json") else ("[", "]")
        lines.append(f'  {nodes[name]}{start}"{_escaped(name)}<br/>{_escaped(use_of(node))}"{end}')
    lines += [f'  o{number}(["{_escaped(name)}"])' for number, name in enumerate(workflow.outputs)]
    for name, node in workflow.nodes.items():
        lines += [_arrow(edge, inputs, nodes, nodes[name]) for edge in edges(node)]
    for number, (name, link) in enumerate(workflow.outputs.items()):
        lines += [_arrow(edge, inputs, nodes, f"o{number}") for edge in _references(name, link)]
    return "\n".join(line for line in lines if line)


def _arrow(edge: Edge, inputs: dict[str, str], nodes: dict[str, str], target: str) -> str:
    """One edge, or nothing when what it names is missing; a thick one runs once for each item."""
    source = inputs.get(edge.output) if edge.source == "inputs" else nodes.get(edge.source)
    if source is None:
        return ""
    ports = edge.output if edge.output == edge.port else f"{edge.output} → {edge.port}"
    return f'  {source} {"==>" if edge.mapped else "-->"}|"{_escaped(ports)}"| {target}'


def _escaped(text: str) -> str:
    """Text inside of quotes in Mermaid, whose entities are written with #."""
    for char, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(char, entity)
    return text


__all__ = ["Edge", "edges", "mermaid", "tree", "use_of"]
