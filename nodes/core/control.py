"""Control: choosing between inputs, skipping, and comparing. What is not chosen is not computed."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, TypeVar

from nodegraph import Invalid, Lazy, Need, Skip, node

from .facts.rules import choice_problem

T = TypeVar("T")

# A lazy input that a node returns is an alias for its value; the annotations name the value.
# mypy: disable-error-code="return-value"


@node
def switch(condition: bool, on_true: Lazy[T], on_false: Lazy[T]) -> T:
    """One of two inputs. The other one is not computed."""
    return on_true if condition else on_false


@node
def choose(
    choice: Annotated[str, "the name of one of the inputs"],
    **options: Annotated[Lazy[T], "what this choice gives"],
) -> T:
    """The input that is named. The others are not computed."""
    if problem := choice_problem(choice, options):
        raise Invalid(problem[0], fix=problem[1], port="choice")
    return options[choice]


@node
def coalesce(**values: Annotated[Lazy[T | None], "asked in the order of the file, what is linked before what is written"]) -> T:
    """The first input that is neither null nor skipped. Those behind it are not computed; if there is none, this is skipped."""
    for name, value in values.items():
        if value.skipped:
            continue
        if not value.ready:
            return Need(name)
        if value.value is not None:
            return value
    return Skip("all inputs are null or skipped")


@node
def skip_if(
    condition: bool,
    value: Lazy[T],
    reason: Annotated[str, "why, for whoever reads the result"] = "the condition is true",
) -> T:
    """The value, or nothing: if the condition is true, all that depends on this is skipped, and the value is not computed."""
    return Skip(reason) if condition else value


@node
def require(condition: bool, value: Lazy[T], message: str = "the condition is false") -> T:
    """The value; or a failure with this message if the condition is false."""
    if not condition:
        raise Invalid(message, fix="give inputs that meet the condition", port="condition")
    return value


@node
def is_null(value: Annotated[Any, "may be left out"] = None) -> bool:
    """Whether there is no value."""
    return value is None


Scalar = int | float | str | bool

_COMPARISONS = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_or_equal": operator.le,
    "greater": operator.gt,
    "greater_or_equal": operator.ge,
}


@node
def compare(
    a: Scalar,
    b: Scalar,
    operation: Literal["equal", "not_equal", "less", "less_or_equal", "greater", "greater_or_equal"] = "equal",
) -> bool:
    """Whether a stands to b as said. Texts are ordered by their characters; a text and a number are never equal."""
    if isinstance(a, str) != isinstance(b, str) and operation not in ("equal", "not_equal"):
        raise Invalid(f"{a!r} and {b!r} have no order", fix="compare two numbers, or two texts", port="b")
    return bool(_COMPARISONS[operation](a, b))


@node
def logic(a: bool, b: bool = False, operation: Literal["and", "or", "xor", "not"] = "and") -> bool:
    """One operation on truth values. `not` looks at a alone."""
    return {"and": a and b, "or": a or b, "xor": a != b, "not": not a}[operation]
