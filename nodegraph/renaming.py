"""Former names of ports: a workflow that uses them is read as if it used the present ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodegraph.registry import Registry
from nodegraph.spec import NodeType
from nodegraph.workflow import Node, Workflow

Names = Mapping[str, str]
"""Former name → present name."""


def with_present_ports(workflow: Workflow, registry: Registry) -> Workflow:
    """The workflow itself, or a copy in which no port of a node type has a former name."""
    uses = {use for node in workflow.nodes.values() if (use := node.use).__class__ is str}
    known = {use: one for use in uses if (one := registry.get(use)) is not None and one.renamed}
    if not known:
        return workflow
    inputs = {use: names for use, one in known.items() if (names := former_names(one.inputs))}
    outputs = {use: names for use, one in known.items() if (names := former_names(one.outputs))}
    given = {name: outputs[node.use] for name, node in workflow.nodes.items() if isinstance(node.use, str) and node.use in outputs}
    nodes = {
        name: _node(node, inputs.get(node.use, {}) if isinstance(node.use, str) else {}, given) for name, node in workflow.nodes.items()
    }
    made = workflow.model_copy(update={"nodes": nodes, "outputs": {name: _link(link, given) for name, link in workflow.outputs.items()}})
    made._compiled = None
    return made


def former_names(ports: Mapping[str, Any]) -> dict[str, str]:
    """Former name → port, but for names that a port has now."""
    return {old: name for name, port in ports.items() for old in port.was if old not in ports}


def former_ports(one: NodeType) -> tuple[dict[str, str], dict[str, str]]:
    """Those of the inputs and of the outputs of a node type."""
    return former_names(one.inputs), former_names(one.outputs)


def _node(node: Node, names: Names, given: Mapping[str, Names]) -> Node:
    def present(section: Mapping[str, Any], links: bool) -> dict[str, Any]:
        # one that has both names keeps the one under the present name, and the other is unknown
        found = {names[port] if port in names and names[port] not in section else port: value for port, value in section.items()}
        return {port: _link(value, given) for port, value in found.items()} if links else found

    mapped = {port: items if isinstance(items, list) else _link(items, given) for port, items in present(node.each, False).items()}
    return node.model_copy(update={"from_": present(node.from_, True), "with_": present(node.with_, False), "each": mapped})


def _link(link: Any, given: Mapping[str, Names]) -> Any:
    """A reference, or a list of them."""
    if isinstance(link, list):
        return [_link(one, given) for one in link]
    name, dot, port = link.partition(".") if isinstance(link, str) else ("", "", "")
    return f"{name}.{given[name][port]}" if dot and port in given.get(name, {}) else link


__all__ = ["former_names", "former_ports", "with_present_ports"]
