"""List nodes of the core pack. Lists of a run are read-only sequences, so the nodes are called with those, too."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import Invalid
from nodes.core import lists


class Fetched(Sequence):
    """A read-only sequence without slices, like a list that fetches its items."""

    def __init__(self, items):
        self._items = list(items)

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        if isinstance(index, slice):
            raise TypeError("no slices")
        return self._items[index]


@given(st.lists(st.integers()), st.integers(-9, 9) | st.none(), st.integers(-9, 9) | st.none(), st.integers(-3, 3).filter(bool))
def test_slices_are_pythons(items, start, stop, step):
    assert lists.slice_list(Fetched(items), start, stop, step) == items[start:stop:step]


@given(st.lists(st.integers()))
def test_making_reversing_and_sorting(items):
    fetched = Fetched(items)
    assert lists.make_list(fetched) == items
    assert lists.reverse_list(fetched) == items[::-1]
    assert lists.sort_list(fetched) == sorted(items)
    assert lists.sort_list(fetched, True) == sorted(items, reverse=True)
    assert lists.list_length(fetched) == len(items)


@given(st.lists(st.integers(), max_size=4), st.lists(st.text(max_size=2), max_size=4))
def test_pairs_are_all_pairs(first, second):
    pairs = lists.pair_lists(Fetched(first), Fetched(second))
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(a, b) for a in first for b in second]


def test_pairs_that_no_memory_would_hold():
    assert len(lists.pair_lists([1] * 1000, [2] * 1000).second) == 1_000_000
    with pytest.raises(Invalid, match="1,000 items with 1,001 others are 1,001,000 pairs") as caught:
        lists.pair_lists([1] * 1000, [2] * 1001)
    assert caught.value.port == "second"


def test_ranges():
    assert lists.integer_range(0, 5, 2) == [0, 2, 4]
    assert lists.integer_range(5, 0, -2) == [5, 3, 1]
    assert lists.integer_range(5, 0) == []
    assert lists.number_range(0, 1, 5) == [0, 0.25, 0.5, 0.75, 1]
    assert lists.number_range(3, 4, 1) == [3.0]
    assert lists.number_range(0.1, 0.7, 4)[-1] == 0.7
    with pytest.raises(Invalid, match="by 0"):
        lists.integer_range(0, 5, 0)
    with pytest.raises(Invalid, match="too long"):
        lists.integer_range(0, 10**12)


def test_items():
    items = Fetched("abc")
    assert [lists.list_item(items, k) for k in (0, 2, -1, -3)] == ["a", "c", "c", "a"]
    assert lists.list_item(items, 7, wrap=True) == "b"
    for index in (3, -4):
        with pytest.raises(Invalid, match=f"3 items and none at {index}"):
            lists.list_item(items, index)
    with pytest.raises(Invalid):
        lists.list_item([], 0, wrap=True)


def test_lists_of_lists():
    assert lists.concatenate_lists([Fetched([1, 2]), [], [3]]) == [1, 2, 3]
    assert lists.zip_lists([Fetched([1, 2]), Fetched("ab")]) == [[1, "a"], [2, "b"]]
    assert lists.zip_lists([]) == []
    with pytest.raises(Invalid, match="have 1, 2 items"):
        lists.zip_lists([[1], [1, 2]])


def test_repeating():
    assert lists.repeat_list(Fetched([1, 2]), 2) == [1, 2, 1, 2]
    assert lists.repeat_list([1], 0) == []
    assert lists.repeat_item("x", 3) == ["x", "x", "x"]
    with pytest.raises(Invalid, match="too many"):
        lists.repeat_list([1] * 1000, 10_000)


def test_filtering():
    assert lists.filter_list(Fetched("abc"), Fetched([True, False, True])) == ["a", "c"]
    with pytest.raises(Invalid, match="3 items and 1 flags"):
        lists.filter_list("abc", [True])


def test_what_has_no_order_is_not_sorted():
    with pytest.raises(Invalid, match="no common order"):
        lists.sort_list([1, "a"])
