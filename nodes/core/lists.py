"""Lists: separate results, such as the many that `each` maps over. (A batch, in contrast, is one value; see batches.py.)"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, TypeVar

from nodegraph import Field, Invalid, node

T = TypeVar("T")
U = TypeVar("U")

MAX_ITEMS = 1_000_000
"""The longest list that a node makes out of a number, or of pairs."""
Count = Annotated[int, Field(ge=0, le=MAX_ITEMS)]


@node
def make_list(items: Annotated[list[T], "several links, in their order, or one literal list"]) -> list[T]:
    """A list of all linked values."""
    return list(items)


@node
def integer_range(
    start: int = 0,
    stop: Annotated[int, "the first number that is no longer in the list"] = 10,
    step: Annotated[int, "negative counts down; never 0"] = 1,
) -> list[int]:
    """The whole numbers from start up to, but without, stop."""
    if step == 0:
        raise Invalid("a range cannot go on by 0", fix="use a step of 1 or -1", port="step")
    numbers = range(start, stop, step)
    if numbers and (numbers[-1] - start) // step >= MAX_ITEMS:
        raise Invalid(f"the range from {start} to {stop} is too long", fix=f"use at most {MAX_ITEMS:,} numbers", port="stop")
    return list(numbers)


@node
def number_range(start: float = 0.0, stop: float = 1.0, count: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 5) -> list[float]:
    """Evenly spaced numbers from start to stop, both included. A count of 1 gives start."""
    if count == 1:
        return [float(start)]
    return [start * (1 - k / (count - 1)) + stop * (k / (count - 1)) for k in range(count)]


@node
def list_length(items: list[Any]) -> int:
    """How many items a list has."""
    return len(items)


@node
def list_item(
    items: list[T],
    index: Annotated[int, "0 is the first, -1 the last"] = 0,
    wrap: Annotated[bool, "count on from the start after the last, so that every index is one"] = False,
) -> T:
    """One item of a list."""
    if wrap and len(items):
        return items[index % len(items)]
    if not -len(items) <= index < len(items):
        raise Invalid(f"the list has {len(items)} items and none at {index}", fix="use a smaller index, or set wrap", port="index")
    return items[index]


@node
def slice_list(
    items: list[T],
    start: Annotated[int | None, "the first item; negative counts from the end; none is the start"] = None,
    stop: Annotated[int | None, "the first item that is left out; none is the end"] = None,
    step: Annotated[int, "take every so many; negative goes backward; never 0"] = 1,
) -> list[T]:
    """Some items of a list, as Python's items[start:stop:step]: what lies outside is left out."""
    if step == 0:
        raise Invalid("a slice cannot go on by 0", fix="use a step of 1 or -1", port="step")
    return [items[index] for index in range(*slice(start, stop, step).indices(len(items)))]


@node
def concatenate_lists(lists: Annotated[list[list[T]], "several links of lists, in their order, or one list of lists"]) -> list[T]:
    """The items of all lists as one list. This also flattens a list of lists by one level."""
    return [item for items in lists for item in items]


@node
def zip_lists(lists: Annotated[list[list[T]], "lists of one length"]) -> list[list[T]]:
    """The first items of all lists, then the second items, and so on."""
    lengths = sorted({len(items) for items in lists})
    if len(lengths) > 1:
        raise Invalid(
            f"the lists have {', '.join(map(str, lengths))} items", fix="make them equally long, with slice_list say", port="lists"
        )
    return [list(items) for items in zip(*lists, strict=True)]


class Pairs(NamedTuple):
    """Two lists of one length: all pairs of the inputs."""

    first: list[T]  # type: ignore[valid-type]
    second: list[U]  # type: ignore[valid-type]


@node
def pair_lists(first: list[T], second: list[U]) -> Pairs:
    """Every item of one list with every item of another, the second changing fastest: the two axes of a contact sheet."""
    if len(first) * len(second) > MAX_ITEMS:
        text = f"{len(first):,} items with {len(second):,} others are {len(first) * len(second):,} pairs"
        raise Invalid(text, fix=f"use shorter lists, of at most {MAX_ITEMS:,} pairs", port="second")
    return Pairs([item for item in first for _ in range(len(second))], [item for _ in range(len(first)) for item in second])


@node
def repeat_list(items: list[T], count: Count = 2) -> list[T]:
    """The whole list again and again."""
    if len(items) * count > MAX_ITEMS:
        raise Invalid(f"{len(items)} items {count} times are too many", fix=f"stay below {MAX_ITEMS:,}", port="count")
    return list(items) * count


@node
def repeat_item(value: T, count: Count = 2) -> list[T]:
    """A list of one value, several times."""
    return [value] * count


@node
def reverse_list(items: list[T]) -> list[T]:
    """The items from the last to the first."""
    return [items[index] for index in range(len(items) - 1, -1, -1)]


@node
def sort_list(items: list[T], descending: bool = False) -> list[T]:
    """Numbers in order of size, or texts in order of their characters. Equal items keep their order."""
    try:
        return sorted(items, reverse=descending)  # type: ignore[type-var]
    except TypeError as error:
        raise Invalid(f"the items have no common order: {error}", fix="sort numbers, or texts", port="items") from None


@node
def filter_list(items: list[T], keep: Annotated[list[bool], "one for each item"]) -> list[T]:
    """The items whose flag is true."""
    if len(items) != len(keep):
        raise Invalid(f"there are {len(items)} items and {len(keep)} flags", fix="give one flag for each item", port="keep")
    return [items[index] for index in range(len(items)) if keep[index]]
