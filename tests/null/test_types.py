# ruff: noqa: E501  (tables)
"""Which links types allow, and what type variables become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import types

ACCEPTED = [
    ("int", "int"), ("float", "int"), ("any", "image"), ("int", "any"), ("list[float]", "list[int]"), ("int | none", "int"), ("int | none", "none"),
    ("int | text", "text"), ("int | text | none", "int | none"), ("json", "list[int]"), ("json", "text | none"), ("seed", "int"), ("seed", "rng"),
    ("seed", "list[int]"), ("list[any]", "list[image]"), ("list[int]", "any"),
]  # fmt: skip
REFUSED = [
    ("int", "float"), ("int", "bool"), ("bool", "int"), ("text", "int"), ("int", "int | none"), ("image", "mask"), ("list[int]", "int"),
    ("int", "list[int]"), ("list[int]", "list[float]"), ("json", "image"), ("json", "list[image]"), ("seed", "float"), ("none", "int"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "source"), ACCEPTED)
def test_accepted(target, source):
    assert types.accepts(types.parse(target), types.parse(source), {})


@pytest.mark.parametrize(("target", "source"), REFUSED)
def test_refused(target, source):
    assert not types.accepts(types.parse(target), types.parse(source), {})


BINDINGS = [
    (["T", "T"], ["image", "image"], "image"),
    (["T", "T"], ["image", "mask"], None),
    (["T", "T"], ["int", "float"], "float"),
    (["T", "T"], ["float", "int"], "float"),
    (["T", "T"], ["image", "image | none"], "image | none"),
    (["T", "T"], ["image | none", "image"], "image | none"),
    (["T", "T"], ["image", "none"], "image | none"),
    (["T", "T"], ["none", "image"], "image | none"),
    (["T", "T"], ["image", "any"], "any"),
    (["T", "T"], ["any", "image"], "any"),
    (["T", "list[T]"], ["image", "list[image]"], "image"),
    (["list[T]", "T"], ["list[image]", "mask"], None),
    (["list[T]"], ["any"], "any"),
    (["T | none"], ["image | none"], "image"),
    (["T | none"], ["image | mask"], "image | mask"),
    (["T | none", "T"], ["none", "image"], "image"),
    (["list[T]"], ["image"], None),
    (["T"], ["image | mask"], "image | mask"),
]


@pytest.mark.parametrize(("ports", "sources", "bound"), BINDINGS)
def test_variables(ports, sources, bound):
    """The first link binds; int widens to float, T to `T | none`; nothing else does."""
    found: types.Bindings = {}
    outcomes = [types.accepts(types.parse(port), types.parse(source), found) for port, source in zip(ports, sources, strict=True)]
    fits = all(outcomes)
    assert fits == (bound is not None)
    if fits:
        assert types.substitute(types.variable("T"), found) is types.parse(bound)


NAMES = st.sampled_from(["int", "float", "text", "image", "none", "json", "seed", "pack/Thing"])
KINDS = st.recursive(
    NAMES.map(types.named), lambda inner: inner.map(types.list_of) | st.lists(inner, min_size=1, max_size=3).map(types.union), max_leaves=5
)


@given(KINDS)
def test_spelling_is_read_back(kind):
    assert types.parse(str(kind)) is kind


@given(KINDS)
def test_a_type_accepts_itself_and_any_accepts_it(kind):
    assert types.accepts(kind, kind, {})
    assert types.accepts(types.ANY, kind, {})
    assert types.accepts(types.union([kind, types.NONE]), kind, {})


@pytest.mark.parametrize("text", ["", "list[", "list[int", "int]", "int |", "| int", "a b", "list[]", "int,float", "[int]"])
def test_no_type(text):
    with pytest.raises(ValueError, match="is no type"):
        types.parse(text)
