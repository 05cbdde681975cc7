"""Line and column of values in JSON text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from nodegraph import positions

TEXT = '{\n  "a": [1,\n    {"b": "x\\"}"}],\n  "é\\u0041": {"c": []}\n}'


def test_places():
    assert positions.locate(TEXT, ()) == (1, 1)
    assert positions.locate(TEXT, ("a",)) == (2, 8)
    assert positions.locate(TEXT, ("a", 1, "b")) == (3, 11)
    assert positions.locate(TEXT, ("éA", "c")) == (4, 20)


def test_what_is_not_there_is_where_it_would_be():
    assert positions.locate(TEXT, ("a", 7)) == positions.locate(TEXT, ("a",))
    assert positions.locate(TEXT, ("a", 0, "deeper")) == positions.locate(TEXT, ("a", 0))
    assert positions.locate(TEXT, ("zzz",)) == (1, 1)


def test_repeated_keys_in_order():
    text = '{"a": {"x": 1, "x": 2}, "b": [{"y": 1, "y": 2}], "a": 3}'
    assert [path for path, _ in positions.repeated_keys(text)] == [("a", "x"), ("b", 0, "y"), ("a",)]


def test_constants_in_strings_do_not_count():
    assert positions.constant('{"NaN": "Infinity", "x": -Infinity}') == 25
    assert positions.constant('{"NaN": 1}') == -1


VALUES = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(VALUES, st.sampled_from([None, 1, "\t"]))
def test_every_value_is_found(value, indent):
    text = json.dumps(value, indent=indent)
    where = positions.Positions(text)

    def walk(here, path):
        start = where.offset(path)
        assert json.JSONDecoder().raw_decode(text, start)[0] == here
        for key, inner in here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ():
            walk(inner, (*path, key))

    walk(value, ())
