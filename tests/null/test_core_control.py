"""Control nodes of the core pack: what they ask for and what they give, called as the engine calls them."""

import pytest

from nodegraph import Invalid, Lazy, Need, Skip
from nodes.core import control


def test_switch_gives_an_alias_and_asks_for_nothing():
    on_true, on_false = Lazy("on_true"), Lazy("on_false")
    assert control.switch(True, on_true, on_false) is on_true
    assert control.switch(False, on_true, on_false) is on_false


def test_choose_gives_the_named_input():
    options = {"small": Lazy("small"), "large": Lazy("large")}
    assert control.choose("large", **options) is options["large"]
    with pytest.raises(Invalid, match="no input 'huge'") as caught:
        control.choose("huge", **options)
    assert caught.value.fix == "choose one of 'small', 'large'"


def test_coalesce_asks_one_by_one_in_order():
    skipped, null, open_ = Lazy("b", skipped=True), Lazy("a", None, ready=True), Lazy("z")
    assert control.coalesce(b=skipped, a=null, z=open_) == Need("z")
    found = Lazy("z", 0, ready=True)
    assert control.coalesce(b=skipped, a=null, z=found, last=Lazy("last")) is found


def test_coalesce_of_nothing_is_skipped():
    assert isinstance(control.coalesce(), Skip)
    assert isinstance(control.coalesce(a=Lazy("a", None, ready=True), b=Lazy("b", skipped=True)), Skip)


def test_skip_if_does_not_ask_for_what_it_skips():
    value = Lazy("value")
    assert control.skip_if(True, value, "too dark") == Skip("too dark")
    assert control.skip_if(False, value) is value


def test_require():
    value = Lazy("value")
    assert control.require(True, value) is value
    with pytest.raises(Invalid, match=r"^the picture is too small$"):
        control.require(False, value, "the picture is too small")


def test_is_null():
    assert control.is_null()
    assert control.is_null(None)
    assert not control.is_null(0)
    assert not control.is_null("")


@pytest.mark.parametrize(
    ("a", "b", "true_for"),
    [
        (1, 2, {"not_equal", "less", "less_or_equal"}),
        (2.0, 2, {"equal", "less_or_equal", "greater_or_equal"}),
        ("b", "a", {"not_equal", "greater", "greater_or_equal"}),
        (True, True, {"equal", "less_or_equal", "greater_or_equal"}),
    ],
)
def test_comparisons(a, b, true_for):
    operations = ("equal", "not_equal", "less", "less_or_equal", "greater", "greater_or_equal")
    assert {operation for operation in operations if control.compare(a, b, operation)} == true_for


def test_a_text_and_a_number_have_no_order():
    assert control.compare("1", 1, "equal") is False
    assert control.compare("1", 1, "not_equal") is True
    with pytest.raises(Invalid, match="'1' and 1 have no order"):
        control.compare("1", 1, "less")


def test_logic():
    table = {
        operation: [control.logic(a, b, operation) for a in (False, True) for b in (False, True)]
        for operation in ("and", "or", "xor", "not")
    }
    assert table == {
        "and": [False, False, False, True],
        "or": [False, True, True, True],
        "xor": [False, True, True, False],
        "not": [True, True, False, False],
    }
