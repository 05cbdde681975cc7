"""Constants, arithmetic, expressions and JSON of the core pack."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import Invalid
from nodes.core import values
from nodes.core.expressions import evaluate


def test_constants_give_their_value():
    assert values.integer(7) == 7
    assert values.number(7) == 7.0
    assert isinstance(values.number(7), float)
    assert values.boolean(True) is True
    assert values.text("fox") == "fox"
    assert values.seed([1, 2]).seed == [1, 2]


def test_a_derived_seed_depends_on_seed_name_and_index_alone():
    assert values.derive_seed(1, "noise", 2) == 5248621362744760540
    variants = {
        values.derive_seed(*given) for given in [(1, "noise", 2), (2, "noise", 2), (1, "nose", 2), (1, "noise", 3), (12, "noise", 0)]
    }
    assert len(variants) == 5
    assert all(0 <= seed < 1 << 63 for seed in variants)


@pytest.mark.parametrize(
    ("operation", "a", "b", "result"),
    [
        ("add", 2, 3, 5.0),
        ("subtract", 2, 3, -1.0),
        ("multiply", 2, 3, 6.0),
        ("divide", 3, 2, 1.5),
        ("floor_divide", -7, 2, -4.0),
        ("remainder", -7, 2, 1.0),
        ("power", 2, 0.5, math.sqrt(2)),
        ("minimum", 2, 3, 2.0),
        ("maximum", 2, 3, 3.0),
    ],
)
def test_math(operation, a, b, result):
    assert values.math(a, b, operation) == result
    if operation in ("add", "subtract", "multiply", "floor_divide", "remainder", "minimum", "maximum"):
        whole = values.integer_math(a, b, operation)
        assert whole == result
        assert type(whole) is int


@pytest.mark.parametrize(
    ("operation", "a", "b", "port"),
    [("divide", 1, 0, "b"), ("remainder", 1, 0, "b"), ("power", -8, 0.5, "b"), ("power", 10, 1000, "b"), ("multiply", 1e300, 1e300, "a")],
)
def test_math_without_a_result_says_which_number_is_wrong(operation, a, b, port):
    with pytest.raises(Invalid) as caught:
        values.math(a, b, operation)
    assert caught.value.port == port
    assert caught.value.fix


def test_integer_division_by_zero_is_invalid():
    with pytest.raises(Invalid, match="5 cannot be divided by zero"):
        values.integer_math(5, 0, "floor_divide")
    longest = 10**values.MAX_DIGITS - 1
    assert values.integer_math(longest - 1, 1) == longest
    for negative in (False, True):
        with pytest.raises(Invalid, match="more than 4,300 digits"):
            values.integer_math(-longest if negative else longest, 2, "multiply")


def test_rounding_to_multiples():
    assert values.round_number(2.5) == 2
    assert values.round_number(3.5) == 4
    assert values.round_number(515, "down", 8) == 512
    assert values.round_number(513, "up", 8) == 520
    assert values.round_number(516.1, "nearest", 8) == 520
    with pytest.raises(Invalid):
        values.round_number(math.inf)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * -4", -20),
        ("(width + 63) // 64 * 64", 512),
        ("2 ** 3 ** 2", 512),
        ("-7 % 3", 2),
        ("max(1, width, 3) / min(2, 4)", 250),
        ("round(2.6) + floor(2.6) + ceil(2.1)", 8),
        ("sqrt(16) + abs(-1) + exp(0) + log(e)", 7),
        ("sin(pi / 2) + cos(0)", 2),
    ],
)
def test_expressions(expression, result):
    assert evaluate(expression, {"width": 500}) == pytest.approx(result)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.sampled_from(["+", "-", "*"]))
def test_expressions_agree_with_python(a, b, sign):
    expression = f"a {sign} ({b})"
    assert evaluate(expression, {"a": a}) == eval(expression, {"a": a})


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 / 0",
        "nobody",
        "__import__('os')",
        "(1).real",
        "[1][0]",
        "'a' * 3",
        "True",
        "lambda: 1",
        "9 ** 9 ** 9",
        "exp(1000)",
        "sqrt(-1)",
        "1e308 * 10",
        "min()",
        "sqrt(1, 2)",
        "max(*[1, 2])",
        "2j",
        "(" * 240 + "1" + ")" * 240,
        "1" * 501,
    ],
)
def test_what_is_no_expression_is_invalid(expression):
    with pytest.raises(Invalid) as caught:
        evaluate(expression, {})
    assert caught.value.port == "expression"


def test_calculate_gives_the_number_and_the_rounded_integer():
    result = values.calculate("a / 2", a=5)
    assert result == (2.5, 2)
    assert type(result.integer) is int


def test_json_goes_both_ways():
    record = {"b": [1, 2.5, None, True], "a": "ü"}
    assert values.parse_json(values.format_json(record)) == record
    assert values.format_json(record) == '{"a": "ü", "b": [1, 2.5, null, true]}'
    assert json.loads(values.format_json(record, 2)) == record


@pytest.mark.parametrize(
    "text", ["", "{", "{'a': 1}", "NaN", "[Infinity]", "[" * 100_000, "1e999", "[-1e999]", "9" * 5000, '"\\ud800"', '{"\\udfff": 1}']
)
def test_what_is_no_json_is_invalid(text):
    with pytest.raises(Invalid) as caught:
        values.parse_json(text)
    assert caught.value.port == "text"


@pytest.mark.parametrize(
    ("json", "said"),
    [(math.nan, "no numbers"), ([math.inf], "infinite"), ([10**4300], "than 4,300 digits"), ({"a": [-(10**5000)]}, "than 4,300 digits")],
)
def test_numbers_that_json_has_not_are_invalid(json, said):
    with pytest.raises(Invalid, match=said) as caught:
        values.format_json(json)
    assert caught.value.port == "json"


def test_a_pointer_leads_to_a_part():
    record = {"images": [{"prompt": "a fox"}], "a/b": 1, "m~n": 2, "": 3}
    assert values.get_json(record) is record
    assert values.get_json(record, "/images/0/prompt") == "a fox"
    assert values.get_json(record, "/a~1b") == 1
    assert values.get_json(record, "/m~0n") == 2
    assert values.get_json(record, "/") == 3


@pytest.mark.parametrize(
    ("pointer", "told"),
    [
        ("/prompt", "has no 'prompt', it has 'images'"),
        ("/images/1", "has 1 items and none at '1'"),
        ("/images/-1", "none at '-1'"),
        ("/images/00", "none at '00'"),
        ("/images/٠", "none at '٠'"),
        ("/images/" + "9" * 5000, "none at '9"),
        ("/images/0/x", "'a fox' has no parts"),
        ("images", "is no JSON pointer"),
    ],
)
def test_a_pointer_that_leads_nowhere_says_what_is_there(pointer, told):
    with pytest.raises(Invalid, match=told):
        values.get_json({"images": ["a fox"]}, pointer)


def test_a_missing_part_can_be_null():
    assert values.get_json({"a": 1}, "/b/c", "null") is None


def test_make_json_names_its_inputs():
    assert values.make_json(a=1, b=["x"]) == {"a": 1, "b": ["x"]}


def test_a_deep_expression_has_a_value_or_is_invalid():
    with contextlib.suppress(Invalid):
        assert evaluate("-" * 499 + "1", {}) == -1
