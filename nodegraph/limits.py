"""The bounds and choices of a port, and what is said of a value that is not within them."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nodegraph.errors import did_you_mean, listing
from nodegraph.kinds import describe

if TYPE_CHECKING:
    from nodegraph.spec import Port


class Refused(Exception):
    """A literal does not fit: code, what is wrong, and a fix."""

    def __init__(self, code: str, text: str, fix: str = ""):
        super().__init__(text)
        self.code, self.text, self.fix = code, text, fix


def number(value: float) -> str:
    """A number as a person writes it: `1000000`, `0.5`; of hundreds of digits, how large it is."""
    if isinstance(value, int):
        return describe(value)
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


def check_bounds(port: Port, value: Any) -> None:
    """Raises Refused for a value, or an item of a list, that is none of the port's choices or outside of its bounds."""
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
        if item is None:
            continue
        if port.choices and not any(type(one) is type(item) and one == item for one in port.choices):
            near = did_you_mean(str(item), map(str, port.choices)) or f"use {describe(port.choices[0])}"
            raise Refused(
                "not-a-choice", f"{port.name!r} must be one of {listing(map(str, port.choices), 40)}, but is {describe(item)}", near
            )
        if isinstance(item, int | float) and not isinstance(item, bool):
            _check_number(port, item)
        elif isinstance(item, str):
            _check_text(port, item)


def _check_number(port: Port, value: float) -> None:
    checks = (
        (port.minimum, operator.ge, "at least", math.ceil),
        (port.maximum, operator.le, "at most", math.floor),
        (port.above, operator.gt, "greater than", None),
        (port.below, operator.lt, "less than", None),
    )
    for limit, fits, words, inward in checks:
        if limit is not None and not fits(value, limit):
            if inward is None:
                fix = f"use a number {words} {number(limit)}"
            else:
                fix = f"use {number(_allowed(port, inward(limit) if isinstance(value, int) else limit))}"
            raise Refused("out-of-range", f"{port.name!r} must be {words} {number(limit)}, but is {number(value)}", fix)
    if port.multiple is not None and not _is_multiple(value, port.multiple):
        step = number(port.multiple)
        fix = f"use {number(_allowed(port, value))}" if abs(value) < _FAR else f"use a multiple of {step}"
        raise Refused("out-of-range", f"{port.name!r} must be a multiple of {step}, but is {number(value)}", fix)


_FAR = 10**50
"""Nobody writes the multiple that is nearest to a larger number, or to one that is none."""


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and float(step).is_integer():
        return value % int(step) == 0  # exactly, however large it is
    times = value / step
    if not math.isfinite(times):
        return math.isfinite(value)  # so large that every number is
    return value % step == 0 or math.isclose(times, round(times), rel_tol=1e-12, abs_tol=1e-9)


def _nearest(value: float, step: float) -> float:
    """The multiple that is nearest to a number."""
    if isinstance(value, int) and float(step).is_integer():
        from fractions import Fraction  # without which a division is one of floats

        return round(Fraction(value, int(step))) * int(step)
    return round(value / step) * step


def _allowed(port: Port, value: float) -> float:
    """The multiple that fits the limits and is nearest to a number."""
    if port.multiple is None:
        return value
    step = port.multiple
    nearest = _nearest(value, step)
    for limit, fits, towards in (
        (port.minimum, nearest >= (port.minimum or 0), step),
        (port.above, nearest > (port.above or 0), step),
        (port.maximum, nearest <= (port.maximum or 0), -step),
        (port.below, nearest < (port.below or 0), -step),
    ):
        if limit is not None and not fits:
            nearest += towards
    return nearest


def _check_text(port: Port, value: str) -> None:
    if port.min_length is not None and len(value) < port.min_length:
        few = "write something" if port.min_length == 1 else f"write at least {port.min_length} characters"
        raise Refused("out-of-range", f"{port.name!r} needs at least {_characters(port.min_length)}, but has {len(value)}", few)
    if port.max_length is not None and len(value) > port.max_length:
        raise Refused(
            "out-of-range",
            f"{port.name!r} may have at most {_characters(port.max_length)}, but has {len(value)}",
            f"leave out {len(value) - port.max_length}",
        )
    if port.pattern is not None and not re.search(port.pattern, value):
        raise Refused("out-of-range", f"{port.name!r} must match {port.pattern!r}, but is {describe(value)}", "write it in that form")


def _characters(count: int) -> str:
    return f"{count} character" + ("" if count == 1 else "s")
