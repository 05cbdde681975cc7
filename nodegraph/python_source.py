"""A workflow as Python source: what `Workflow.build` makes that very workflow of."""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from unicodedata import normalize

from nodegraph.builder import BuilderBase
from nodegraph.workflow import Node, Workflow

WIDTH = 120
_TAKEN = {*keyword.kwlist, *keyword.softkwlist, "w", "Workflow"}


def python_source(workflow: Workflow) -> str:
    """Statements that leave a builder in `w`; `w.to_workflow().to_json()` is the workflow's own JSON. Names stay the author's."""
    return "\n".join(_Source(workflow).lines()) + "\n"


class _Source:
    def __init__(self, workflow: Workflow):
        self.workflow = workflow
        self.variables: dict[str, str] = {}
        self.taken = set(_TAKEN)
        self.given: set[str] = set()  # names of nodes that the builder has by now

    def lines(self) -> Iterator[str]:
        flow = self.workflow
        nodes = {name: self._variable(name, name) for name in flow.nodes}  # nodes have the first choice of names
        head = {"doc": flow.doc, "requires": flow.requires}
        yield "from nodegraph import Workflow"
        yield ""
        yield _call(
            "w = Workflow.build", [_literal(flow.name)] if flow.name else [], [(key, _literal(one)) for key, one in head.items() if one]
        )
        for name, declared in flow.inputs.items():
            facts = [(key, _literal(getattr(declared, key))) for key in type(declared).model_fields if key in declared.model_fields_set]
            yield _call(
                f"{self._variable(f'inputs.{name}', name if name not in nodes else f'{name}_input')} = w.input",
                [_literal(name), _literal(declared.type)],
                facts[1:],
            )
        for name, node in flow.nodes.items():
            yield from self._node(name, node)
        if flow.outputs:
            yield _call("w.output", [], [(name, self._link(link)) for name, link in flow.outputs.items()])

    def _node(self, name: str, node: Node) -> Iterator[str]:
        ports = [(port, f"w.each({self._link(given) if isinstance(given, str) else _literal(given)})") for port, given in node.each.items()]
        ports += [(port, self._link(link)) for port, link in node.from_.items()]
        ports += [(port, _literal(value)) for port, value in node.with_.items()]
        if isinstance(node.use, Workflow):
            yield from self._inner(name, node.use)
            called, words = "w.use", [f"{self.variables[f'{name}/']}", _literal(name)]
        elif _is_method(node.use):
            called, words = f"w.{node.use}", [] if name == node.use and name not in self.given else [_literal(name)]
        else:
            called, words = "w.use", [_literal(node.use), _literal(name)]
        variable = self.variables[name]
        self.given.add(name)
        yield _call(f"{variable} = {called}", words, ports)
        if node.doc:
            yield f"w.describe({variable}, {_literal(node.doc)})"

    def _inner(self, name: str, inner: Workflow) -> Iterator[str]:
        """An inner workflow stands in a variable of its own."""
        yield f"{self._variable(f'{name}/', f'{name}_workflow')} = Workflow.of({_literal(inner.to_json())})"

    def _variable(self, key: str, wish: str) -> str:
        stem = "".join(char if char.isalnum() or char == "_" else "_" for char in normalize("NFKC", wish))  # as Python reads names
        stem = stem if stem.isidentifier() else f"n_{stem}"
        name, number = stem, 2
        while name in self.taken:
            name, number = f"{stem}_{number}", number + 1
        self.taken.add(name)
        self.variables[key] = name
        return name

    def _link(self, link: str | list[str]) -> str:
        if isinstance(link, list):
            return f"[{', '.join(map(self._link, link))}]" if link else "w.link()"
        node, _, port = link.partition(".")
        if link in self.variables:  # an input of the workflow
            return self.variables[link]
        if node not in self.given:  # it is added further down, or nowhere
            return f"w.link({_literal(link)})"
        plain = _is_name(port) and not port.startswith("_")
        return f"{self.variables[node]}.{port}" if plain else f"{self.variables[node]}[{_literal(port)}]"


def _is_method(use: str) -> bool:
    """Whether a node type's name can be called on a builder."""
    return _is_name(use) and not use.startswith("_") and not hasattr(BuilderBase, use)


def _is_name(text: str) -> bool:
    """Whether Python reads a text as that very name."""
    return text.isidentifier() and not keyword.iskeyword(text) and normalize("NFKC", text) == text


def _call(called: str, words: Iterable[str], ports: Iterable[tuple[str, str]]) -> str:
    """A call on one line if it fits, else with an argument a line. What is no name is given in a mapping."""
    listed = list(ports)
    odd = [(name, value) for name, value in listed if not _is_name(name)]
    if odd:  # order matters: what follows an odd name goes into the mapping with it
        start = listed.index(odd[0])
        mapping = ", ".join(f"{_literal(name)}: {value}" for name, value in listed[start:])
        arguments = [*words, *(f"{name}={value}" for name, value in listed[:start]), f"**{{{mapping}}}"]
    else:
        arguments = [*words, *(f"{name}={value}" for name, value in listed)]
    line = f"{called}({', '.join(arguments)})"
    if len(line) <= WIDTH or not arguments:
        return line
    return f"{called}(\n" + "".join(f"    {one},\n" for one in arguments) + ")"


def _literal(value: Any) -> str:
    """A JSON value as Python spells it; text in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=not value.isprintable()) if _encodable(value) else repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def _encodable(text: str) -> bool:
    """Whether JSON and Python spell a text alike: JSON writes what is beyond 16 bits as two halves, which Python keeps apart."""
    return text.isprintable() or all(ord(char) < 0xD800 for char in text)


__all__ = ["python_source"]
