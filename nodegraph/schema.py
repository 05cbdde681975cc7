"""A JSON Schema (draft 7) of workflow files for the packs installed here.

With it an editor completes node types, port names, ranges and choices while a person types. It is made for completion: what
it refuses is wrong, but only `check` knows everything that is. Draft 7 is what editors know: the language server of VS Code says of
later drafts that it does not support them, and underlines nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from nodegraph import types
from nodegraph.kinds import CLASSES
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.types import Type

Json = dict[str, Any]
LiveChoices = Callable[[NodeType, Port], Sequence[str]]
"""What can be chosen now for a port whose choices are known only at run time (models, files); empty when unknown."""

DIALECT = "http://json-schema.org/draft-07/schema#"
NAME = r"^[^\s.\d-][^\s.]*$"
REFERENCE = r"^[^\s.]+\..+$"
_TEXT: Json = {"type": "string"}
_REFERENCE: Json = {"type": "string", "pattern": REFERENCE, "description": "'node.output' or 'inputs.name'"}
_LINK: Json = {"anyOf": [{"$ref": "#/definitions/reference"}, {"type": "array", "items": {"$ref": "#/definitions/reference"}}]}


def workflow_schema(registry: Iterable[NodeType], live: LiveChoices | None = None) -> Json:
    """The schema as plain data, the same for the same node types and live choices."""
    known = sorted(registry, key=lambda one: (one.name, one.pack))
    writer = _Writer(live or _nothing)
    definitions = {
        "workflow": _workflow(),
        "input": _input(known),
        "reference": _REFERENCE,
        "link": _LINK,
        "node": _node(known),
        **{f"node.{one.name}": writer.node(one) for one in known},
    }
    return {
        "$schema": DIALECT,
        "title": "nodegraph workflow",
        "description": "A typed node graph with declared inputs and outputs.",
        "allOf": [{"$ref": "#/definitions/workflow"}],
        "definitions": definitions,
    }


def _nothing(one: NodeType, port: Port) -> Sequence[str]:
    return ()


def _record(properties: Json, required: Sequence[str] = (), **further: Any) -> Json:
    """A JSON object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        **further,
    }


def _named(entry: Json, description: str) -> Json:
    """A JSON object by names that people choose."""
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": entry, "description": description}


def _workflow() -> Json:
    nodes = _named({"$ref": "#/definitions/node"}, "The nodes by name.")
    nodes["propertyNames"] = {"pattern": NAME, "not": {"const": "inputs"}}
    return _record(
        {
            "$schema": {**_TEXT, "description": "Where this schema lies, for editors: './workflow.schema.json'."},
            "nodegraph": {"const": 1, "description": "The version of this format."},
            "name": {**_TEXT, "description": "A short name; outputs are saved under it."},
            "doc": {**_TEXT, "description": "What the workflow does."},
            "requires": {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": r"^(>=)?\s*\d+$"},
                "description": 'Packs and their least versions: {"diffusion": ">=1"}.',
            },
            "inputs": _named({"$ref": "#/definitions/input"}, "What is given to a run, by name."),
            "nodes": nodes,
            "outputs": _named({"$ref": "#/definitions/link"}, "What a run gives, by name: 'node.output'."),
        }
    )


def _input(known: Sequence[NodeType]) -> Json:
    return _record(
        {
            "type": {
                "anyOf": [{"enum": _type_names(known)}, _TEXT],
                "description": "The type: 'text', 'int', 'list[image]', 'image | none' …",
            },
            "kind": {**_TEXT, "description": "For a model: which kind."},
            "default": {"description": "The value when none is given; without it the input is required."},
            "min": {"type": ["number", "null"], "description": "The least value; by default that of the ports it feeds."},
            "max": {"type": ["number", "null"], "description": "The greatest value; by default that of the ports it feeds."},
            "choices": {"type": ["array", "null"], "description": "The only values allowed."},
            "doc": {**_TEXT, "description": "What it is for."},
        },
        required=["type"],
    )


def _type_names(known: Sequence[NodeType]) -> list[str]:
    """Spellings of types worth completing: the plain ones, the values of nodegraph, and those that packs bring."""
    plain = [kind.name for kind in (types.TEXT, types.INT, types.FLOAT, types.BOOL, types.JSON, types.SEED, types.FILE, types.MODEL)]
    own = [name for name in CLASSES if name not in plain and "/" not in name]
    brought = sorted({kind.name for one in known for port in one.outputs.values() for kind in _leaves(port.type) if "/" in kind.name})
    return [*plain, *own, *brought, *(f"list[{name}]" for name in ("text", "int", "float", "image"))]


def _leaves(kind: Type) -> Iterable[Type]:
    if kind.args:
        for inner in kind.args:
            yield from _leaves(inner)
    else:
        yield kind


def _node(known: Sequence[NodeType]) -> Json:
    """One use of a node type or workflow: the keys, and what each node type makes of them."""
    names: list[Json] = [{"const": one.name, "description": _doc(one)} for one in known]
    names += [{"const": old, "description": f"The former name of {one.name}.", "deprecated": True} for one in known for old in one.was]
    use = {
        "description": "A node type, the path of a workflow file, or a workflow.",
        "anyOf": [*names, {"type": "string", "pattern": _other_names(known)}, {"$ref": "#/definitions/workflow"}],
    }
    keys = {
        "use": use,
        "doc": {**_TEXT, "description": "What this node is for."},
        "each": {
            "type": "object",
            "additionalProperties": {"type": ["string", "array"]},
            "description": "Inputs to run once for each item of: a link to a list, or a list.",
        },
        "from": {
            "type": "object",
            "additionalProperties": {"$ref": "#/definitions/link"},
            "description": "Links, by input: 'node.output'.",
        },
        "with": {"type": "object", "description": "Values, by input."},
    }
    return _record(keys, required=["use"], allOf=[_when(one) for one in known])


def _other_names(known: Sequence[NodeType]) -> str:
    """A pattern of what else may be used: paths of workflow files, and node types with their pack before them."""
    packs = sorted({one.pack for one in known if one.pack})
    return r"^\.{0,2}/|\.json$" + (f"|^({'|'.join(packs)})/" if packs else "")


def _when(one: NodeType) -> Json:
    """What holds for a node that uses a type. Its names are a pattern, as editors would offer those of an enum a second time."""
    names = "|".join([one.name, *one.was])
    pack = f"({one.pack}/)?" if one.pack else ""
    used = {"properties": {"use": {"type": "string", "pattern": f"^{pack}({names})$"}}, "required": ["use"]}
    return {"if": used, "then": {"$ref": f"#/definitions/node.{one.name}"}}


class _Writer:
    """Writes the schema of single node types."""

    def __init__(self, live: LiveChoices):
        self.live = live

    def node(self, one: NodeType) -> Json:
        sections: dict[str, Callable[[Port], Json]] = {
            "from": _link,
            "each": partial(self._mapped, one),
            "with": partial(self.literal, one),
        }
        properties = {}
        for key, schema in sections.items():
            ports = {name: schema(port) for name, port in one.inputs.items() if key != "with" or _writable(port.type)}
            further = schema(one.open) if one.open and (key != "with" or _writable(one.open.type)) else False
            properties[key] = {"type": "object", "properties": ports, "additionalProperties": further}
        return {"description": _doc(one), "properties": properties}

    def _mapped(self, one: NodeType, port: Port) -> Json:
        """What `each` takes for a port: a link to a list, or a list of values."""
        place = "additionalProperties" if port.open else f"properties/{port.name}"
        items = {"$ref": f"#/definitions/node.{one.name}/properties/with/{place}"} if _writable(port.type) else False
        return {"anyOf": [{"$ref": "#/definitions/reference"}, {"type": "array", "items": items}], **_described(port)}

    def literal(self, one: NodeType, port: Port) -> Json:
        """The schema of a value written for a port."""
        schema = self._choices(one, port) or _shape(port.type, _limits(port))
        if _plain(port.default):
            schema["default"] = port.default
        return {**schema, **_described(port)}

    def _choices(self, one: NodeType, port: Port) -> Json | None:
        if not (port.choices or port.live or port.model):
            return None
        if port.choices:
            item: Json = {"enum": list(port.choices)}
        else:
            choices = list(self.live(one, port))
            item = {"anyOf": [{"enum": choices}, _TEXT]} if choices else dict(_TEXT)
        members: list[Json] = []
        kind = types.without_none(port.type)
        members.append({"type": "array", "items": item} if kind.kind == "list" else item)
        if port.type.optional:
            members.append({"type": "null"})
        return members[0] if len(members) == 1 else {"anyOf": members}


def _link(port: Port) -> Json:
    """A link into a port; only a list takes several."""
    several = any(kind.kind in ("list", "any", "var") for kind in (port.type, *port.type.args))
    return {"$ref": "#/definitions/link" if several else "#/definitions/reference", **_described(port)}


def _described(port: Port) -> Json:
    default = f" = {port.default}" if port.default is not REQUIRED and port.default is not None else ""
    return {"description": f"{port.type}{default}" + (f": {port.doc}" if port.doc else "")}


def _doc(one: NodeType) -> str:
    gives = ", ".join(f"{name} ({port.type})" for name, port in one.outputs.items())
    return "\n\n".join(part for part in (one.doc, f"Gives {gives}." if gives else "", f"Pack {one.pack}." if one.pack else "") if part)


_LITERALS: dict[Type, Json] = {
    types.INT: {"type": "integer"},
    types.FLOAT: {"type": "number"},
    types.BOOL: {"type": "boolean"},
    types.TEXT: _TEXT,
    types.NONE: {"type": "null"},
    types.JSON: {},
    types.ANY: {},
    types.FILE: _TEXT,
    types.MODEL: _TEXT,
    types.SEED: {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
    types.WORKFLOW: {"anyOf": [_TEXT, {"$ref": "#/definitions/workflow"}]},
}


def _writable(kind: Type) -> bool:
    """Whether a file can hold a value of the type: an image, say, must be linked, and of a list of images only none can be written."""
    if kind.kind == "union":
        return any(map(_writable, kind.args))
    return kind.kind in ("list", "var") or kind in _LITERALS


def _shape(kind: Type, limits: Json) -> Json:
    """The JSON that a type can be written as; limits bound its numbers and texts, wherever they stand in it."""
    if kind.kind == "list":
        items = kind.args[0]
        return {"type": "array", **({"items": _shape(items, limits)} if _writable(items) else {"maxItems": 0})}
    if kind.kind == "union":
        return {"anyOf": [_shape(member, limits) for member in kind.args if _writable(member)]}
    return {**_LITERALS.get(kind, {}), **limits}


_LIMITS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
    "multiple": "multipleOf",
    "pattern": "pattern",
    "min_length": "minLength",
    "max_length": "maxLength",
}


def _limits(port: Port) -> Json:
    """A port's limits as keywords; each keyword concerns numbers or texts only, so it may stand beside any type."""
    return {theirs: limit for ours, theirs in _LIMITS.items() if (limit := getattr(port, ours)) is not None}


def _plain(value: Any) -> bool:
    """Whether JSON can hold a default."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is not REQUIRED and (value is None or isinstance(value, bool | int | float | str | dict))


__all__ = ["workflow_schema"]
