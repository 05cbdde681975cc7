"""The inputs of a workflow as ports: their types, and the bounds that they inherit from the ports they feed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from nodegraph import types
from nodegraph.errors import did_you_mean
from nodegraph.limits import Refused, number
from nodegraph.spec import REQUIRED, Port
from nodegraph.workflow import Input

MAX_TYPE = 200
"""The longest spelling of a type, in characters."""


def input_port(name: str, declared: Input, known: Iterable[str]) -> Port:
    """The port that a declared input is. `known`: the names of types. Raises Refused."""
    kind = _type(declared.type, known)
    default = REQUIRED if declared.required else declared.default
    if declared.min is not None or declared.max is not None:
        numbers = types.without_none(kind.args[0] if kind.kind == "list" else kind)
        if numbers not in (types.INT, types.FLOAT, types.SEED, types.ANY):
            raise Refused(
                "bad-bounds", f"{name!r} is {declared.type}, which has no min and max", "remove them, or declare an int or a float"
            )
    if default is None and not kind.optional:
        kind = types.union((kind, types.NONE))
    choices = tuple(declared.choices or ())
    return Port(name, kind, default, doc=declared.doc, minimum=declared.min, maximum=declared.max, choices=choices, model=declared.kind)


def _type(text: str, known: Iterable[str]) -> types.Type:
    try:
        if len(text) > MAX_TYPE:
            raise ValueError(f"a type of {len(text)} characters is too long")
        kind = types.parse(text)
    except ValueError as error:
        raise Refused("bad-type", str(error), "see the types with: nodegraph types") from None
    if types.has_variables(kind):
        raise Refused("bad-type", f"{text!r} is a type variable, which only nodes have", "use 'any', or the type that is meant")
    names = set(known)
    for name in types.names(kind):
        if name not in names:
            meant = _MEANT.get(name.lower(), name.lower())
            near = f"did you mean {meant!r}?" if meant in names else did_you_mean(name, names)
            raise Refused("bad-type", f"there is no type {name!r}", near or "see the types with: nodegraph types")
    return kind


_MEANT = {
    **dict.fromkeys(("str", "string"), "text"),
    **dict.fromkeys(("number", "double", "real"), "float"),
    **dict.fromkeys(("dict", "object", "mapping"), "json"),
    "integer": "int",
    "boolean": "bool",
    "null": "none",
}
"""What types are called elsewhere."""


def inherit(port: Port, fed: list[Port]) -> Port:
    """The port with the narrowest bounds of itself and of the ports it feeds. Raises Refused when nothing is left."""
    every = (port, *fed)
    limits: dict[str, Any] = {}
    for field, pick in _NARROWEST.items():
        found = [limit for one in every if (limit := getattr(one, field)) is not None]
        limits[field] = pick(found) if found else None
    limits["model"] = next((one.model for one in every if one.model), "")
    limits["choices"] = _common_choices(port.name, every)
    made = replace(port, **limits)
    low, high = made.minimum, made.maximum
    if low is not None and high is not None and low > high:
        text = f"no value fits {port.name!r}: it must be at least {number(low)} and at most {number(high)}"
        raise Refused("empty-range", text, "change min or max, or feed these nodes from two inputs")
    return made


def _common_choices(name: str, ports: Iterable[Port]) -> tuple[Any, ...]:
    chosen = [one.choices for one in ports if one.choices]
    common = tuple(one for one in chosen[0] if all(one in others for others in chosen)) if chosen else ()
    if chosen and not common:
        text = f"no value fits {name!r}: the nodes it feeds have no choice in common"
        raise Refused("empty-range", text, "change choices, or feed these nodes from two inputs")
    return common


def _common_multiple(limits: list[float]) -> float:
    """The least common multiple of whole numbers; the largest of others."""
    return math.lcm(*map(int, limits)) if all(float(one).is_integer() for one in limits) else max(limits)


_NARROWEST: dict[str, Any] = {
    "minimum": max,
    "above": max,
    "min_length": max,
    "maximum": min,
    "below": min,
    "max_length": min,
    "multiple": _common_multiple,
    "pattern": lambda found: found[0],
}

__all__ = ["inherit", "input_port"]
