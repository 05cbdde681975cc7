"""From what a person writes (JSON, or a Python value) to the value of a port, without silent casts.

`true` is not 1, `3.9` is not an int, `"5"` is not a number. The only widening is int → float.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nodegraph import arrays, kinds, types
from nodegraph.limits import Refused as Refused
from nodegraph.limits import check_bounds, number
from nodegraph.spec import Port
from nodegraph.types import Type

MAX_DEPTH = 100
"""How deep lists and objects may lie inside of each other in one literal."""
described = kinds.describe


class Unwritable(Refused):
    """A literal for a port whose values no literal stands for. `instead`: the fix where it is an input that was given to a run."""

    def __init__(self, code: str, text: str, fix: str, instead: str):
        super().__init__(code, text, fix)
        self.instead = instead


@dataclass(frozen=True, slots=True)
class Pending:
    """A literal that names something outside. What it means is looked up when the workflow is planned."""

    kind: str  # file, model, workflow
    text: str
    path: str = ""


def has_pending(value: Any) -> bool:
    """Whether a literal, or an item of a literal list, stands for something outside."""
    return value.__class__ is Pending or (value.__class__ is list and any(map(has_pending, value)))


Outside = Callable[[Type, Port, Any], Any]
"""Turns the text of a file, model or workflow port into a Pending (or a value), or raises Refused."""


def literal(port: Port, given: Any, outside: Outside) -> Any:
    """The value of `given` for a port. Raises Refused."""
    if isinstance(given, list | tuple | dict) and _too_deep(given):
        raise Refused("too-deep", f"the value of {port.name!r} is nested more than {MAX_DEPTH} deep", "write it flatter")
    if half := _half_character(given):
        text = f"{port.name!r} holds {half!r}, which is half a character"
        raise Refused("wrong-type", text, "write the whole character, and give text in UTF-8")
    value = _convert(port.type, given, port, outside)
    if not types.is_json(port.type) and (wrong := kinds.wrong_numbers(value)):
        raise Refused("out-of-range", f"{port.name!r} has {wrong[0]}", wrong[1])
    if port.bounded:
        check_bounds(port, value)
    return value


def _too_deep(given: Any) -> bool:
    """Whether a value is nested deeper than every reader of it can follow."""
    level = [given]
    for _ in range(MAX_DEPTH):
        level = [
            item for one in level for item in (one.values() if isinstance(one, dict) else one) if isinstance(item, list | tuple | dict)
        ]
        if not level:
            return False
    return True


def _half_character(given: Any) -> str:
    """The first lone surrogate in a text, or in those of a list or an object: JSON can spell it, and bytes of a command line that are
    no UTF-8 come in as such, but no tokenizer, file or terminal takes it. Empty if there is none."""
    if isinstance(given, str):
        found = None if given.isascii() else re.search("[\ud800-\udfff]", given)
        return found.group() if found else ""
    if isinstance(given, dict):
        given = [*given, *given.values()]
    return next(filter(None, map(_half_character, given)), "") if isinstance(given, list | tuple) else ""


def _convert(kind: Type, given: Any, port: Port, outside: Outside) -> Any:
    if given.__class__.__module__ == "numpy":
        given = _from_numpy(kind, given)
    if kind is types.INT:
        if type(given) is int:
            return given
        fix = f"write {round(given)}" if isinstance(given, float) and math.isfinite(given) else _number_fix(given, whole=True)
        raise _mismatch(port, kind, given, fix)
    if kind is types.FLOAT:
        return _float(kind, given, port)
    if kind.kind == "list":
        return _list(kind, given, port, outside)
    if kind.kind == "union":
        return _union(kind, given, port, outside)
    if kind is types.ANY or kind.kind == "var":
        return _keyable(port, given)
    if kind in (types.FILE, types.MODEL, types.WORKFLOW):
        return given if not isinstance(given, str | dict) and kinds.conforms(kind, given) else outside(kind, port, given)
    if kinds.conforms(kind, given):
        return kinds.apart(given)
    if kind is types.SECRET:  # what was given is not shown: it may be the secret
        text = f"{port.name!r} takes a secret, which is never written down in a workflow"
        fix = f'declare an input of type \'secret\', and link it: {{"from": {{"{port.name}": "inputs.…"}}}}'
        raise Unwritable("secret-literal", text, fix, "give its text, which is not empty")
    made = _from_python(kind, given, port)
    if made is not None:
        return made
    refused = _mismatch(port, kind, given, _plain_fix(kind, given))
    raise refused if kind is types.TEXT or kind in _EXAMPLES else Unwritable(refused.code, refused.text, refused.fix, _value_fix(kind))


def _from_numpy(kind: Type, given: Any) -> Any:
    """Python's own value for a number, bool or text of numpy, and a list for an array where a list is taken."""
    dimensions = getattr(given, "ndim", None)
    return given.tolist() if dimensions == 0 or (dimensions and kind.kind == "list" and types.is_json(kind)) else given


def _keyable(port: Port, given: Any) -> Any:
    """Any value whose content can be told from that of another."""
    if not kinds.is_json(given):
        try:
            kinds.content(given)
        except TypeError as error:
            raise Refused("wrong-type", f"{port.name!r} cannot take {described(given)}", str(error)) from None
    return kinds.apart(given)


def _float(kind: Type, given: Any, port: Port) -> float:
    if type(given) in (int, float):
        try:
            value = float(given)
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return value
        raise Refused(
            "out-of-range",
            f"{port.name!r} takes a finite number, but is {described(given)}",
            "write a number" if value != value else "write a smaller number",
        )
    raise _mismatch(port, kind, given, _number_fix(given))


def _list(kind: Type, given: Any, port: Port, outside: Outside) -> list[Any]:
    if not isinstance(given, list | tuple):
        scalar = isinstance(given, str | int | float) and not isinstance(given, bool)
        raise _mismatch(port, kind, given, f"write a list: [{_json(given)}]" if scalar else "write a list: […]")
    return [_convert(kind.args[0], item, port, outside) for item in given]


def _union(kind: Type, given: Any, port: Port, outside: Outside) -> Any:
    for member in kind.args:
        if member.kind != "var" and member not in (types.FLOAT, types.ANY) and kinds.conforms(member, given):
            return kinds.apart(given)
    refused = None
    for member in kind.args:
        try:
            return _convert(member, given, port, outside)
        except Refused as error:
            refused = refused or error
    only = types.without_none(kind)
    if only.kind != "union" and refused:
        raise refused
    raise _mismatch(port, kind, given, f"write {' or '.join(_example(member) for member in kind.args)}")


def _from_python(kind: Type, given: Any, port: Port) -> Any:
    """A value from PIL, numpy or torch where the type allows it; None where it does not. Raises Refused."""
    cls: Any = kinds.CLASSES.get(kind.name)
    pixels = kind.name in ("image", "mask")
    from_pil = pixels and hasattr(given, "convert")
    if not from_pil and (not cls or kind.name not in ("image", "mask", "latent", "embedding") or not arrays.is_array(given)):
        return None
    try:
        value = cls.from_pil(given) if from_pil else cls(kinds.apart(given))
        ends = arrays.extent(value.data) if pixels and not from_pil else (0.0, 1.0)
    except (TypeError, ValueError, RuntimeError, OSError, SyntaxError) as error:  # PIL reads a file when its pixels are asked for
        text, fix = f"{port.name!r} takes {article(kind)}, but this cannot be one: {error}", _value_fix(kind)
        raise Unwritable("wrong-type", text, fix if pixels else _plain_fix(kind, given), fix) from None
    _check_unit(port, *ends)
    return value


def _check_unit(port: Port, least: float, most: float) -> None:
    """Raises Refused for pixels from `least` to `most` that are not all in 0..1."""
    if not (least >= 0 and most <= 1):
        fix = "divide them by 255" if least >= 0 and 1 < most <= 255 else "bring them to 0..1"
        raise Refused("out-of-range", f"{port.name!r} takes values in 0..1, but these go from {least:g} to {most:g}", fix)


# -- words ---------------------------------------------------------------------------------------------------------


def _mismatch(port: Port, kind: Type, given: Any, fix: str) -> Refused:
    what = _WORDS.get(type(given))
    is_what = f"{described(given)} is {what}" if what else f"this is {described(given)}"
    return Refused("wrong-type", f"{port.name!r} takes {article(kind)}, but {is_what}", fix)


_WORDS: dict[type, str] = {bool: "a bool", int: "an int", float: "a float", str: "text"}
"""What a plain value is, in a word."""


def article(kind: Type) -> str:
    """`an int`, `text`, `list[image]`: a type as a noun."""
    text = str(kind)
    return (
        text
        if kind in (types.TEXT, types.JSON, types.ANY) or kind.kind in ("list", "union")
        else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
    )


def _number_fix(given: Any, whole: bool = False) -> str:
    if isinstance(given, bool):
        return f"write {int(given)}"
    if isinstance(given, str):
        try:
            value = float(given)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and (not whole or value.is_integer()):
            return f"write {number(value)} without quotes"
    return "write a whole number" if whole else "write a number"


def _json(given: Any) -> str:
    import json

    try:
        text = json.dumps(given, ensure_ascii=False)
    except ValueError:  # an int of thousands of digits
        return "…"
    return text if len(text) <= 60 else "…"


def _plain_fix(kind: Type, given: Any) -> str:
    if kind is types.TEXT:
        return f'write "{_json(given)}"' if isinstance(given, int | float) else "write text in double quotes"
    if kind in _EXAMPLES:
        return f"write {_EXAMPLES[kind]}"
    return f"{article(kind)} cannot be written down: link an output that gives it"


def _value_fix(kind: Type) -> str:
    """What a person who works in Python can give for a type that no literal stands for."""
    if kind.name in ("image", "mask"):
        return f"give float32 [B,{3 if kind.name == 'image' else 1},H,W] in 0..1, or a PIL picture"
    cls = kinds.CLASSES.get(kind.name)
    return f"give an object of the class {cls.__name__}" if cls else f"give {article(kind)}"


_EXAMPLES = {
    types.BOOL: "true or false",
    types.TEXT: "text in double quotes",
    types.INT: "a whole number",
    types.FLOAT: "a number",
    types.SEED: "a whole number, or a list of them",
    types.JSON: "text, a number, true, false, null, a list or an object",
    types.NONE: "null",
    types.FILE: "a path",
    types.MODEL: "the name of a model",
    types.WORKFLOW: "the path of a workflow",
}


def _example(kind: Type) -> str:
    if kind.kind == "list":
        return f"a list of {kind.args[0]}"
    return _EXAMPLES.get(kind) or f"link {article(kind)}"
