"""From what a person writes (JSON, or a Python value) to the value of a port, without silent casts.

`true` is not 1, `3.9` is not an int, `"5"` is not a number. The only widening is int → float.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nodegraph import kinds, types
from nodegraph.spec import Port
from nodegraph.types import Type


class Refused(Exception):
    """A literal does not fit: code, what is wrong, and a fix."""

    def __init__(self, code: str, text: str, fix: str = ""):
        super().__init__(text)
        self.code, self.text, self.fix = code, text, fix


@dataclass(frozen=True, slots=True)
class Pending:
    """A literal that names something outside. What it means is looked up when the workflow is planned."""

    kind: str  # file, model, workflow
    text: str
    path: str = ""


Outside = Callable[[Type, Port, Any], Any]
"""Turns the text of a file, model or workflow port into a Pending (or a value), or raises Refused."""


def literal(port: Port, given: Any, outside: Outside) -> Any:
    """The value of `given` for a port. Raises Refused."""
    value = _convert(port.type, given, port, outside)
    if port.bounded:
        _check_bounds(port, value)
    return value


def _convert(kind: Type, given: Any, port: Port, outside: Outside) -> Any:
    if kind is types.INT:
        if type(given) is int:
            return given
        fix = f"write {round(given)}" if isinstance(given, float) and math.isfinite(given) else _number_fix(given)
        raise _mismatch(port, kind, given, fix)
    if kind is types.FLOAT:
        return _float(kind, given, port)
    if kind.kind == "list":
        return _list(kind, given, port, outside)
    if kind.kind == "union":
        return _union(kind, given, port, outside)
    if kind is types.ANY or kind.kind == "var":
        return given
    if kind in (types.FILE, types.MODEL, types.WORKFLOW):
        return given if not isinstance(given, str | dict) and kinds.conforms(kind, given) else outside(kind, port, given)
    if kinds.conforms(kind, given):
        return given
    if made := _from_python(kind, given):
        return made
    raise _mismatch(port, kind, given, _plain_fix(kind, given))


def _float(kind: Type, given: Any, port: Port) -> float:
    if type(given) in (int, float):
        try:
            value = float(given)
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return value
    raise _mismatch(port, kind, given, _number_fix(given))


def _list(kind: Type, given: Any, port: Port, outside: Outside) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise _mismatch(port, kind, given, f"write a list: [{given!r}]" if isinstance(given, int | float) else "write a list: […]")
    return [_convert(kind.args[0], item, port, outside) for item in given]


def _union(kind: Type, given: Any, port: Port, outside: Outside) -> Any:
    for member in kind.args:
        if member.kind != "var" and member not in (types.FLOAT, types.ANY) and kinds.conforms(member, given):
            return given
    refused = None
    for member in kind.args:
        try:
            return _convert(member, given, port, outside)
        except Refused as error:
            refused = refused or error
    only = types.without_none(kind)
    if only.kind != "union" and refused:
        raise refused
    raise _mismatch(port, kind, given, "")


def _from_python(kind: Type, given: Any) -> Any:
    """A value from PIL, numpy or torch where the type allows it; None where it does not."""
    cls = kinds.CLASSES.get(kind.name)
    if kind.name in ("image", "mask") and hasattr(given, "convert"):
        return cls.from_pil(given)  # type: ignore[union-attr]
    from nodegraph import arrays

    if cls and kind.name in ("image", "mask", "latent", "embedding") and arrays.is_array(given):
        try:
            return cls(given)
        except (TypeError, ValueError):
            return None
    return None


def _mismatch(port: Port, kind: Type, given: Any, fix: str) -> Refused:
    return Refused("wrong-type", f"{port.name!r} takes {article(kind)}, but {kinds.describe(given)} is {_what(given)}", fix)


def _what(given: Any) -> str:
    """What a JSON value is, in a word."""
    words = {
        bool: "a bool",
        int: "an int",
        float: "a float",
        str: "text",
        list: "no such list",
        tuple: "no such list",
        dict: "no such object",
        type(None): "no value",
    }
    return words.get(type(given), f"a {type(given).__name__}")


def article(kind: Type) -> str:
    text = str(kind)
    return text if kind in (types.TEXT, types.JSON) or kind.kind in ("list", "union") else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _number_fix(given: Any) -> str:
    if isinstance(given, str):
        try:
            return f"write {float(given):g} without quotes"
        except ValueError:
            return "write a number"
    return f"write {int(given)}" if isinstance(given, bool) else "write a number"


def _plain_fix(kind: Type, given: Any) -> str:
    if kind is types.BOOL:
        return "write true or false"
    if kind is types.TEXT:
        return f'write "{given}"' if isinstance(given, int | float) else "write text in double quotes"
    if kind is types.SEED:
        return "write a whole number, or a list of them"
    return f"{article(kind)} cannot be written down: link an output that gives it"


def _check_bounds(port: Port, value: Any) -> None:
    for item in value if isinstance(value, list | tuple) and port.type.kind == "list" else [value]:
        if item is None:
            continue
        if port.choices and item not in port.choices:
            from nodegraph.errors import did_you_mean, listing

            raise Refused(
                "not-a-choice",
                f"{port.name!r} must be one of {listing(map(str, port.choices), 40)}, but is {kinds.describe(item)}",
                did_you_mean(str(item), map(str, port.choices)),
            )
        if isinstance(item, int | float) and not isinstance(item, bool):
            _check_number(port, item)
        elif isinstance(item, str):
            _check_text(port, item)


def _check_number(port: Port, value: float) -> None:
    checks = (
        (port.minimum, lambda limit: value >= limit, "at least", 0),
        (port.maximum, lambda limit: value <= limit, "at most", 0),
        (port.above, lambda limit: value > limit, "greater than", 1),
        (port.below, lambda limit: value < limit, "less than", 1),
    )
    for limit, fits, words, strict in checks:
        if limit is not None and not fits(limit):
            raise Refused("out-of-range", f"{port.name!r} must be {words} {limit:g}, but is {value:g}", "" if strict else f"use {limit:g}")
    if port.multiple is not None and not math.isclose(value / port.multiple, round(value / port.multiple), abs_tol=1e-9):
        nearest = max(1, round(value / port.multiple)) * port.multiple
        raise Refused("out-of-range", f"{port.name!r} must be a multiple of {port.multiple:g}, but is {value:g}", f"use {nearest:g}")


def _check_text(port: Port, value: str) -> None:
    if port.min_length is not None and len(value) < port.min_length:
        raise Refused("out-of-range", f"{port.name!r} needs at least {port.min_length} characters, but has {len(value)}")
    if port.max_length is not None and len(value) > port.max_length:
        raise Refused("out-of-range", f"{port.name!r} may have at most {port.max_length} characters, but has {len(value)}")
    if port.pattern is not None and not re.search(port.pattern, value):
        raise Refused("out-of-range", f"{port.name!r} must match {port.pattern!r}, but is {kinds.describe(value)}")
