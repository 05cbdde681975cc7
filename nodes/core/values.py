"""Constants, arithmetic and JSON."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from hashlib import blake2b
from json import JSONDecodeError, dumps, loads
from math import ceil, floor, isfinite
from math import pow as power
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph import Field, Invalid, Seed, node

from .expressions import evaluate


@node
def integer(value: int = 0) -> int:
    """A whole number."""
    return value


@node
def number(value: float = 0.0) -> float:
    """A number."""
    return float(value)


@node
def boolean(value: bool = False) -> bool:
    """True or false."""
    return value


@node
def text(value: str = "") -> str:
    """A text."""
    return value


class SeedValue(NamedTuple):
    seed: Seed


@node
def seed(value: Seed = 0) -> SeedValue:
    """A seed: one number, or one for each picture of a batch."""
    return SeedValue(value)


@node
def derive_seed(
    seed: int,
    name: Annotated[str, "what the new seed is for; another name gives an unrelated seed"] = "",
    index: Annotated[int, "another index gives an unrelated seed"] = 0,
) -> int:
    """A new seed in 0..2^63-1 that depends on a seed, a name and an index, and on nothing else (BLAKE2b of the three)."""
    given = dumps([seed, name, index]).encode()
    return int.from_bytes(blake2b(given, digest_size=8, person=b"derive_seed").digest(), "little") >> 1


_ON_NUMBERS: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "power": power,
    "minimum": min,
    "maximum": max,
}
_ON_INTEGERS: dict[str, Callable[[int, int], int]] = {
    name: _ON_NUMBERS[name]  # type: ignore[misc]
    for name in ("add", "subtract", "multiply", "floor_divide", "remainder", "minimum", "maximum")
}


@node
def math(
    a: float,
    b: float = 0.0,
    operation: Literal["add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power", "minimum", "maximum"] = "add",
) -> float:
    """One operation on two numbers. The remainder has the sign of `b`, as in Python."""
    try:
        result = _ON_NUMBERS[operation](float(a), float(b))
    except ZeroDivisionError:
        raise Invalid(f"{a:g} cannot be divided by zero", fix="use a b other than 0", port="b") from None
    except (ValueError, OverflowError):
        raise Invalid(f"{a:g} to the power of {b:g} is no real number of finite size", fix="use a smaller power", port="b") from None
    if not isfinite(result):
        raise Invalid(f"{operation} of {a:g} and {b:g} is too large for a number", fix="use smaller numbers", port="a")
    return result


@node
def integer_math(
    a: int,
    b: int = 0,
    operation: Literal["add", "subtract", "multiply", "floor_divide", "remainder", "minimum", "maximum"] = "add",
) -> int:
    """One operation on two whole numbers, of up to 4,300 digits. Division rounds down; the remainder has the sign of `b`."""
    try:
        result = _ON_INTEGERS[operation](a, b)
    except ZeroDivisionError:
        raise Invalid(f"{a} cannot be divided by zero", fix="use a b other than 0", port="b") from None
    if abs(result) >= _TOO_LONG:
        raise Invalid(f"the result has more than {MAX_DIGITS:,} digits", fix="use smaller numbers", port="a")
    return result


MAX_DIGITS = 4300
"""Of a whole number: with more, neither JSON nor a terminal takes it, as Python spells no longer ones."""
_TOO_LONG = 10**MAX_DIGITS

_ROUNDINGS: dict[str, Callable[[float], int]] = {"nearest": round, "down": floor, "up": ceil}


@node
def round_number(
    number: float,
    to: Annotated[Literal["nearest", "down", "up"], "halves go to the even neighbour"] = "nearest",
    multiple: Annotated[int, Field(ge=1, le=1_000_000_000), "round to a multiple of this, such as 8 for sizes of latents"] = 1,
) -> int:
    """A whole number from a number."""
    if not isfinite(number):
        raise Invalid(f"{number} cannot be rounded", fix="use a finite number", port="number")
    return _ROUNDINGS[to](number / multiple) * multiple


class Calculated(NamedTuple):
    number: float
    integer: Annotated[int, "the number, rounded; halves go to the even neighbour"]


@node
def calculate(
    expression: Annotated[str, "such as '(width + 63) // 64 * 64'"],
    **values: Annotated[float, "a number that the expression names"],
) -> Calculated:
    """The value of an arithmetic expression over named numbers.

    It may use + - * / // % ** and brackets, the constants pi and e, and the functions abs, ceil, cos, exp, floor, log, max,
    min, round, sin, sqrt and tan.
    """
    result = evaluate(expression, values)
    return Calculated(result, round(result))


@node
def parse_json(text: str) -> object:
    """The JSON value that a text spells."""
    try:
        value = loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        dumps(value, ensure_ascii=False).encode()
    except JSONDecodeError as error:
        problem = f"the text is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Invalid(problem, fix="see json.org for the notation", port="text") from None
    except UnicodeEncodeError as error:
        raise Invalid(f"the JSON spells {error.object[error.start]!r}, half a character", fix="write the whole one", port="text") from None
    except ValueError:
        raise Invalid(f"the JSON has a number of more than {MAX_DIGITS:,} digits", fix="use a smaller number", port="text") from None
    except RecursionError:
        raise Invalid("the JSON is nested too deeply", fix="use fewer levels", port="text") from None
    return value


def _refuse_constant(name: str) -> None:
    raise Invalid(f"{name} is no JSON", fix="use null or a finite number", port="text")


def _finite(spelled: str) -> float:
    if not isfinite(value := float(spelled)):
        raise Invalid(f"{spelled} is too large for a number", fix="use a smaller number", port="text")
    return value


@node
def format_json(
    json: object,
    indent: Annotated[int | None, Field(ge=0, le=16), "spaces a level; none writes it on one line"] = None,
) -> str:
    """A JSON value as text. Equal values give equal texts: keys are sorted."""
    try:
        return dumps(json, indent=indent, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except ValueError as error:
        text, fix = "JSON has no infinite numbers, and none that are no numbers", "use null or a finite number"
        if "digits" in str(error):  # of an int that Python does not spell
            text, fix = f"the value has a whole number of more than {MAX_DIGITS:,} digits", "use a smaller number"
        raise Invalid(text, fix=fix, port="json") from None


@node
def make_json(**values: object) -> object:
    """A JSON object of all inputs by their names."""
    return dict(values)


_INDEX = re.compile("0|[1-9][0-9]{,17}")
"""A place in a list, as RFC 6901 spells it."""


@node
def get_json(
    json: object,
    pointer: Annotated[str, "a JSON pointer (RFC 6901) such as /images/0/prompt; empty is the whole value"] = "",
    missing: Annotated[Literal["error", "null"], "what a place that is not there gives"] = "error",
) -> Any:
    """The part of a JSON value that a pointer leads to."""
    if pointer and not pointer.startswith("/"):
        raise Invalid(f"{pointer!r} is no JSON pointer", fix=f"start it with a slash: '/{pointer}'", port="pointer")
    part: Any = json
    for token in pointer.split("/")[1:]:
        token = token.replace("~1", "/").replace("~0", "~")
        if isinstance(part, dict) and token in part:
            part = part[token]
        elif isinstance(part, list | tuple) and _INDEX.fullmatch(token) and int(token) < len(part):
            part = part[int(token)]
        elif missing == "null":
            return None
        else:
            raise Invalid(f"{pointer!r} leads nowhere: {_not_there(part, token)}", fix="mend it, or set missing to 'null'", port="pointer")
    return part


def _not_there(part: Any, token: str) -> str:
    if isinstance(part, dict):
        return f"the object has no {token!r}, it has {', '.join(map(repr, part)) or 'nothing'}"
    if isinstance(part, list | tuple):
        return f"the list has {len(part)} items and none at {token!r}"
    return f"{part!r} has no parts"
