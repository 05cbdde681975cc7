"""Canonical bytes and digests, pinned: a change here forgets every cache in the world."""

from __future__ import annotations

import math

import pytest
from engine_nodes import flow, make_engine
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import keys, kinds
from nodegraph.plan import Identities, Plan
from nodegraph.spec import NodeType, Port
from nodegraph.types import INT

GOLDEN = {
    "none": (None, b"n"),
    "true": (True, b"t"),
    "int": (1, b"i1;"),
    "negative": (-12, b"i-c;"),
    "big": (10**30, b"ic9f2c9cd04674edea40000000;"),
    "float": (1.0, b"d?\xf0\0\0\0\0\0\0"),
    "minus zero": (-0.0, b"d\x80\0\0\0\0\0\0\0"),
    "nan": (math.nan, b"d\x7f\xf8\0\0\0\0\0\0"),
    "text": ("é", b"s2:\xc3\xa9"),
    "bytes": (b"ab", b"b2:ab"),
    "list": ([1, "a"], b"l2:i1;s1:a"),
    "dict": ({"b": 1, "a": 2}, b"m2:s1:ai2;s1:bi1;"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_canonical_bytes(name):
    value, expected = GOLDEN[name]
    assert keys.canonical(value) == expected


def test_golden_digests():
    assert keys.digest(b"file", b"abc").hex() == "b7bd218a7b3adc96a2385f063433e06804a3b10d"
    assert keys.digest(b"plan", b"", b"x").hex() == "e9d7c9836f4f5fdd91cbe29a18d327fe0e6a0701"
    assert keys.merkle(b"model", [("b", b"2"), ("a", b"1")]).hex() == "1e44e983041d64b2007c36f701832dc51106645a"
    assert keys.short(b"v", b"x" * 60).hex() == "2334d59a4e9a0d4f9019c84658ed095deee238e88b"
    assert keys.digest(b"a", b"x", b"y") != keys.digest(b"a", b"xy")
    assert keys.digest(b"a", b"x") != keys.digest(b"b", b"x")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain, plain)
def test_canonical_bytes_tell_values_apart(one, other):
    def spelled(value):  # repr tells -0.0, 1, 1.0 and True apart, as keys must
        if isinstance(value, dict):
            return "map", sorted((key, spelled(item)) for key, item in value.items())
        return [spelled(item) for item in value] if isinstance(value, list) else repr(value)

    assert (keys.canonical(one) == keys.canonical(other)) == (repr(spelled(one)) == repr(spelled(other)))


def test_things_without_canonical_bytes_are_refused():
    for value in (object(), {1: 2}, {3}):
        with pytest.raises(TypeError):
            keys.canonical(value)


def _node(name, identity="v1", numerics=b""):
    return NodeType(
        name, {"a": Port("a", INT), "b": Port("b", INT, 0)}, {"int": Port("int", INT)}, None, pack="p", identity=identity, numerics=numerics
    )


def _plan_key(identities, node_type, literals):
    from nodegraph.plan import Scope

    plan = Plan(identities, None)
    plan.step(node_type, "n", Scope("", "w"), {}, literals, plan._parts(node_type, literals))
    return plan.keys[0].hex()


def test_what_a_plan_key_holds():
    plain_key = _plan_key(Identities(), _node("n"), {"a": 1})
    assert plain_key == _plan_key(Identities(), _node("n"), {"a": 1, "b": 0}), "a port at its default is left out"
    different = [
        _plan_key(Identities(), _node("n"), {"a": 2}),
        _plan_key(Identities(), _node("n"), {"a": 1, "b": 1}),
        _plan_key(Identities(), _node("m"), {"a": 1}),
        _plan_key(Identities(), _node("n", identity="v2"), {"a": 1}),
        _plan_key(Identities(), _node("n", numerics=b"torch==1"), {"a": 1}),
        _plan_key(Identities(b"cuda"), _node("n", numerics=b"torch==1"), {"a": 1}),
    ]
    assert len({plain_key, *different}) == len(different) + 1
    assert plain_key == _plan_key(Identities(b"cuda"), _node("n"), {"a": 1}), "a pack without numerics does not care for the device"


def test_output_keys_are_the_same_everywhere():
    """The digest of an output in one place: node code is left out by giving identities by hand."""
    add = NodeType(
        "add", {"a": Port("a", INT), "b": Port("b", INT, 0)}, {"int": Port("int", INT)}, lambda a, b=0: a + b, pack="golden", identity="1"
    )
    from nodegraph import Engine

    with Engine(nodes=[add], cache=False) as engine:
        result = engine.run(
            flow({"x": {"use": "add", "with": {"a": 1}}, "y": {"use": "add", "from": {"a": "x.int"}, "with": {"b": 41}}}, {"out": "y.int"})
        )
    assert result.outputs == {"out": 42}
    assert result.keys == {"out": keys.digest(b"output", b"=i2a;").hex()}


def test_content_identity_of_arrays_and_values():
    numpy = pytest.importorskip("numpy")
    from nodegraph import Image, Mask

    pixels = numpy.zeros((1, 3, 2, 2), numpy.float32)
    assert kinds.content(Image(pixels)) == kinds.content(Image(pixels.copy()))
    assert kinds.content(Image(pixels)) != kinds.content(Image(pixels + 1))
    assert kinds.content(Mask(pixels[:, :1])) != kinds.content(Image(pixels))
    assert kinds.content([1, Image(pixels)]) != kinds.content([Image(pixels), 1])


def test_same_engine_same_keys_in_another_process():
    with make_engine() as engine:
        one = engine.run(flow({"a": {"use": "plus", "with": {"a": 3}}}, {"out": "a.int"})).keys
    with make_engine() as engine:
        assert engine.run(flow({"b": {"use": "plus", "with": {"a": 3}}}, {"out": "b.int"})).keys == one
