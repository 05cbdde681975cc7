"""`nodegraph_nodes.pyi`: what editors and type checkers are told of `Workflow.build` and of the nodes that are here.

Type checkers look it up by name when they read nodegraph; nothing of it exists when a program runs.
"""

from __future__ import annotations

import json
import keyword
import textwrap
from collections.abc import Iterable, Iterator

from nodegraph import kinds, types
from nodegraph.builder import BuilderBase
from nodegraph.spec import NodeType, Port
from nodegraph.types import Type

MODULE = "nodegraph_nodes"
_PLAIN = {
    types.INT: "builtins.int",  # a port may be called int
    types.FLOAT: "builtins.float",
    types.BOOL: "builtins.bool",
    types.TEXT: "builtins.str",
    types.NONE: "None",
}
_LITERALS = {
    **_PLAIN,
    types.SEED: "builtins.int | Sequence[builtins.int]",
    types.FILE: "builtins.str",
    types.MODEL: "builtins.str",
    types.WORKFLOW: "builtins.str | Workflow | BuilderBase | Mapping[str, Any]",
    types.JSON: "Any",
    types.ANY: "Any",
}
_LINKS = {**_PLAIN, types.SEED: "builtins.int | builtins.list[builtins.int] | Rng", types.JSON: "Any", types.ANY: "Any"}
_HEAD = '''\
"""The nodes that are here, for `Workflow.build`. Written by `nodegraph stubs`: write it again when packs change."""

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nodegraph import {classes}
from nodegraph.builder import BuilderBase, Each, Link, NodeBase
'''


def stubs(registry: Iterable[NodeType]) -> str:
    """The text of the stub file, the same for the same node types."""
    known = sorted(registry, key=lambda one: (one.name, one.pack))
    usable = [one for one in known if not keyword.iskeyword(one.name) and not hasattr(BuilderBase, one.name)]
    classes = sorted({cls.__name__ for cls, name in kinds.NAMES.items() if "/" not in name})
    names = {name for one in known for port in [*one.inputs.values(), *one.outputs.values()] for name in types.names(port.type)}
    parts = [_HEAD.format(classes=", ".join(classes))]
    parts += [f"class {_class_name(name)}: ...\n" for name in sorted(names) if name not in kinds.CLASSES and "/" in name]
    parts += [_outputs(one) for one in usable]
    parts.append("class Nodes(BuilderBase):\n" + "\n".join(_method(one) for one in usable))
    return "\n".join(parts)


def _outputs(one: NodeType) -> str:
    ports = [port for port in one.outputs.values() if port.name.isidentifier() and not keyword.iskeyword(port.name)]
    lines = [f"class {_node_name(one)}(NodeBase):"]
    for port in ports:
        lines += ["    @property", f"    def {port.name}(self) -> Link[{_linked(port.type)}]:", *_doc(port.doc, 8), "        ..."]
    return "\n".join(lines if ports else [f"{lines[0]} ..."]) + "\n"


def _method(one: NodeType) -> str:
    ports = [port for port in one.inputs.values() if port.name.isidentifier() and not keyword.iskeyword(port.name)]
    lines = [f"    def {one.name}(", "        self,", '        _name: builtins.str = "",', "        /,"]
    lines += ["        *,"] if ports else []
    lines += [f"        {port.name}: {_accepted(port)}{'' if port.required else ' = ...'}," for port in ports]
    lines += [f"        **{one.open.name}: {_accepted(one.open)},"] if one.open else []
    lines.append(f"    ) -> {_node_name(one)}:")
    told = [one.doc, *(f"{port.name}: {port.doc}" for port in ports if port.doc)]
    return "\n".join([*lines, *_doc("\n\n".join(part for part in told if part), 8), "        ..."])


def _doc(text: str, indent: int) -> list[str]:
    if not text.strip():
        return []
    safe = text.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')
    lines = textwrap.dedent(safe).strip().splitlines()
    lead = " " * indent
    return (
        [f'{lead}"""{lines[0]}', *(f"{lead}{line}".rstrip() for line in lines[1:]), f'{lead}"""']
        if lines[1:]
        else [f'{lead}"""{lines[0]}"""']
    )


def _node_name(one: NodeType) -> str:
    return f"{one.name}_node"


def _class_name(name: str) -> str:
    """The name in the stub of a class that a pack brings: `pack/Name`."""
    return "".join(char if char.isalnum() else "_" for char in name)


def _accepted(port: Port) -> str:
    """What an input takes: values that a file can hold, links, and lists to run over."""
    members = list(dict.fromkeys([*_values(port), *_links(port.type), f"Each[{_linked(port.type)}]"]))
    return "Any" if "Any" in members else " | ".join(members)


def _values(port: Port) -> Iterator[str]:
    if port.choices:
        item = f"Literal[{', '.join(_spelled(choice) for choice in port.choices)}]"
        inner = types.without_none(port.type)
        yield f"Sequence[{item}]" if inner.kind == "list" else item
        if port.type.optional:
            yield "None"
        return
    for member in port.type.args if port.type.kind == "union" else (port.type,):
        if (text := _value(member)) is not None:
            yield text


def _value(kind: Type) -> str | None:
    if kind.kind == "list":
        inner = _value(kind.args[0])
        return None if inner is None else f"Sequence[{inner}]"
    return "Any" if kind.kind == "var" else _LITERALS.get(kind)


def _links(kind: Type) -> Iterator[str]:
    """Links that fit; a list takes several links, and one."""
    if kind.optional:
        yield f"Link[{_linked(types.without_none(kind))} | None]"
    else:
        yield f"Link[{_linked(kind)}]"
    inner = types.without_none(kind)
    if inner.kind == "list":
        item = _linked(inner.args[0])
        yield f"Link[{item}]"
        yield f"Sequence[Link[{item}]]"


def _linked(kind: Type) -> str:
    """The type as the parameter of a Link."""
    if kind.kind == "list":
        return f"builtins.list[{_linked(kind.args[0])}]"
    if kind.kind == "union":
        return " | ".join(dict.fromkeys(_linked(member) for member in kind.args))
    if kind.kind == "var" or kind is types.ANY:
        return "Any"
    if kind in _LINKS:
        return _LINKS[kind]
    cls = kinds.CLASSES.get(kind.name)
    return cls.__name__ if cls and "/" not in kind.name else _class_name(kind.name)


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


__all__ = ["MODULE", "stubs"]
