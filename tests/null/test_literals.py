# ruff: noqa: E501  (tables)
"""Values that people write, for ports of each type. The texts of refusals are in test_check."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import types
from nodegraph.limits import check_bounds
from nodegraph.literals import Pending, Refused, literal, number
from nodegraph.spec import Port


def outside(kind, port, given):
    return Pending(str(kind), given)


def value_of(kind: str, given, **limits):
    return literal(Port("x", types.parse(kind), **limits), given, outside)


TAKEN = [
    ("int", 5, 5), ("float", 5, 5.0), ("float", 0.5, 0.5), ("bool", True, True), ("text", "", ""), ("list[int]", (1, 2), [1, 2]),
    ("list[float]", [1], [1.0]), ("int | text", "5", "5"), ("float | none", None, None), ("float | none", 1, 1.0), ("json", {"a": [None]}, {"a": [None]}),
    ("int", numpy.int64(5), 5), ("float", numpy.float64(0.5), 0.5), ("float", numpy.float32(0.5), 0.5), ("float", numpy.int32(5), 5.0), ("bool", numpy.True_, True),
    ("list[float]", numpy.linspace(0, 1, 3), [0.0, 0.5, 1.0]), ("list[float]", [numpy.float64(1), numpy.int8(2)], [1.0, 2.0]), ("seed", numpy.uint64(7), 7), ("any", numpy.float64(1), 1.0),
    ("any", [1, {"b": 2}], [1, {"b": 2}]), ("seed", [1, 2], [1, 2]), ("file", "a.txt", Pending("file", "a.txt")), ("list[model]", ["m"], [Pending("model", "m")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "value"), TAKEN)
def test_taken(kind, given, value):
    found = value_of(kind, given)
    assert found == value
    assert type(found) is type(value)


REFUSED = [
    ("int", numpy.float64(1)), ("int", numpy.True_), ("float", numpy.float64("nan")), ("list[int]", numpy.zeros(2)), ("float", numpy.zeros(1)), ("text", numpy.int64(1)),
    ("int", True), ("int", 1.0), ("int", "1"), ("float", True), ("float", math.nan), ("float", math.inf), ("float", 10**400), ("bool", 1), ("text", 1),
    ("text", None), ("list[int]", "12"), ("list[int]", [True]), ("int | text", 1.5), ("json", {1: 2}), ("any", {1, 2}), ("none", 0), ("seed", True),
    ("image", "cat.png"), ("latent", [1.0]), ("text", "a \ud800"), ("list[text]", ["a", "\udfff"]), ("json", {"a": ["\udcff"]}), ("any", {"\ud800": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given"), REFUSED)
def test_refused(kind, given):
    with pytest.raises(Refused) as error:
        value_of(kind, given)
    assert error.value.fix


@pytest.mark.parametrize("array", [numpy.ma.masked_array([1, 2], [0, 1]), numpy.array([object()], object)])
def test_arrays_whose_content_is_not_their_bytes_are_refused(array):
    with pytest.raises(Refused) as error:
        value_of("any", array)
    assert error.value.fix.endswith("has no content identity; give a plain array of numbers")


def test_bounds_hold_for_items():
    with pytest.raises(Refused, match="at least 1"):
        value_of("list[int] | none", [1, 0], minimum=1)
    with pytest.raises(Refused, match="must be one of"):
        value_of("int", 1, choices=(True, 2))


LIMITS = st.integers(-1000, 1000)


@given(st.integers(-5000, 5000), LIMITS, st.integers(0, 1000), st.integers(1, 64))
def test_the_fix_of_a_number_is_right(value, low, room, multiple):
    """What a fix says to use is accepted."""
    limits = {"minimum": low, "maximum": low + room + multiple, "multiple": multiple}
    try:
        value_of("int", value, **limits)
    except Refused as error:
        advice = int(error.fix.removeprefix("use "))
    else:
        advice = value
    assert value_of("int", advice, **limits) == advice


HUGE = 10**400 + 3
TOO_FAR = [
    ("int", HUGE, {"minimum": 1, "maximum": 64}, "'x' must be at most 64, but is a number of 1329 bits", "use 64"),
    ("int", -HUGE, {"above": 0}, "'x' must be greater than 0, but is a number of 1329 bits", "use a number greater than 0"),
    ("int", HUGE, {"multiple": 8}, "'x' must be a multiple of 8, but is a number of 1329 bits", "use a multiple of 8"),
    ("int", 8 * 10**15 + 1, {"multiple": 8.0}, "'x' must be a multiple of 8, but is 8000000000000001", "use 8000000000000000"),
    ("int", 0, {"minimum": 0.5}, "'x' must be at least 0.5, but is 0", "use 1"),
    ("int", 3, {"maximum": 2.5}, "'x' must be at most 2.5, but is 3", "use 2"),
    ("float", 0, {"minimum": 0.5}, "'x' must be at least 0.5, but is 0", "use 0.5"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "limits", "text", "fix"), TOO_FAR)
def test_bounds_of_very_large_numbers_and_between_whole_ones(kind, given, limits, text, fix):
    with pytest.raises(Refused) as error:
        value_of(kind, given, **limits)
    assert (error.value.text, error.value.fix) == (text, fix)


def test_a_number_that_python_does_not_print():
    with pytest.raises(Refused) as error:
        value_of("text", 10**5000)
    assert (error.value.text, error.value.fix) == ("'x' takes text, but a number of 16610 bits is an int", 'write "…"')


@pytest.mark.parametrize("given", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_no_multiple(given):
    """A node may give it."""
    with pytest.raises(Refused, match=r"'x' must be a multiple of 0\.5, but is") as error:
        check_bounds(Port("x", types.FLOAT, multiple=0.5), given)
    assert error.value.fix == "use a multiple of 0.5"
    check_bounds(Port("x", types.FLOAT, multiple=1e-10), 1e300)


@pytest.mark.parametrize(("value", "text"), [(1_000_000, "1000000"), (0.5, "0.5"), (2.0, "2"), (1234567.5, "1234567.5"), (1e300, "1e+300")])
def test_numbers_are_spelled_in_full(value, text):
    assert number(value) == text
