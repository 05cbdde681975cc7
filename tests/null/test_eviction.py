"""What leaves a tier first, and that no tier ever holds more than its budget."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_nodes import flow
from fake_device import FakeDevice, on_device
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Engine, Image, node
from nodegraph.cache import Cache
from nodegraph.entries import Entry
from nodegraph.eviction import Eviction, saved

BUDGET = 100_000
SECONDS = st.floats(0, 100)
BYTES = st.integers(1, 1 << 40)


@dataclass
class Item:
    seconds: float
    nbytes: int
    stored: bool = False
    age: float = 0.0
    uses: int = 1


ITEMS = st.builds(Item, SECONDS, BYTES, st.booleans())


@given(ITEMS, SECONDS, BYTES)
def test_more_seconds_more_uses_and_fewer_bytes_are_never_worth_less(item, seconds, nbytes):
    policy = Eviction()
    worth = policy.worth(item)
    assert policy.worth(Item(max(item.seconds, seconds), item.nbytes, item.stored)) >= worth
    assert policy.worth(Item(item.seconds, item.nbytes, item.stored, uses=2)) >= worth
    assert policy.worth(Item(item.seconds, item.nbytes, item.stored, age=1.0)) >= worth
    if not item.stored:
        assert policy.worth(Item(item.seconds, min(item.nbytes, nbytes))) >= worth
        assert saved(Item(item.seconds, item.nbytes, stored=True)) <= saved(item), "what the disk has as well is less of a loss"


@given(st.lists(ITEMS, min_size=1, max_size=30), st.integers(0, 30))
def test_the_least_worthy_leave_first_and_the_age_never_falls(items, count):
    policy = Eviction()
    for item in items:
        policy.admitted(item)
    leaving = policy.leaving(items)
    gone, ages = [], [policy.age]
    for _ in range(min(count, len(items))):
        gone.append(next(leaving))
        ages.append(policy.age)
    kept = [item for item in items if not any(item is one for one in gone)]
    assert ages == sorted(ages)
    assert all(policy.worth(one) <= policy.worth(other) for one in gone for other in kept)
    if kept and gone:
        policy.used(kept[0])
        assert kept[0].uses == 2
        assert kept[0].age == policy.age


def test_what_is_not_used_leaves_in_the_end_however_much_it_cost():
    policy = Eviction()
    costly = Item(3.0, 100)
    policy.admitted(costly)
    tier = [costly]
    for _ in range(2000):
        fresh = Item(0.01, 100)
        policy.admitted(fresh)
        tier.append(fresh)
        tier.remove(next(policy.leaving(tier)))
        if costly not in tier:
            return
    pytest.fail("the costly result is still there")


# -- the tiers -----------------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "plain", "get", "pin", "unpin", "share", "settle", "leave"]), st.integers(0, 19), BYTES, SECONDS
    ),
    min_size=1,
    max_size=60,
)


def entry_of(number: int, values: tuple[Any, ...], seconds: float) -> Entry:
    key = number.to_bytes(32, "little")
    return Entry(key, "values", tuple(f"o{n}" for n in range(len(values))), values, (key,) * len(values), seconds)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_no_tier_in_memory_passes_its_budget_and_what_is_pinned_stays(actions):
    """The cache itself recounts every byte after every change, and raises when one is over."""
    device = FakeDevice(1 << 30)
    cache = Cache(None, BUDGET, BUDGET // 2, lambda value: True, debug=True)
    pinned: dict[bytes, Entry] = {}
    for what, number, size, seconds in actions:
        key = number.to_bytes(32, "little")
        present = cache._entries.get(key)
        if what == "put":
            side = size % 130
            pixels = np.zeros((1, 3, side + 1, side + 1), np.float32)
            array = on_device(device, pixels) if size % 3 == 0 else pixels
            cache.put(entry_of(number, (Image(array), "t" * (size % 5000)), seconds), None, ())
            pinned.pop(key, None)
        elif what == "plain":
            cache.put_plain(key, number, ("int",), key)
            pinned.pop(key, None)
        elif what == "share" and present is not None and isinstance(present, Entry) and present.__class__ is Entry:
            cache.put(entry_of(number + 100, present.values, seconds), None, ())
        elif what == "get":
            cache.get(key)
        elif what == "pin" and present is not None and not present.pins:
            present.pins, pinned[key] = 1, present
        elif what == "unpin" and key in pinned:
            entry = pinned.pop(key)
            entry.pins = 0
            cache.unpinned(entry)
        elif what == "settle":
            cache.settle()
        elif what == "leave":
            cache.leave_device()
            assert cache.device_used == 0
        assert all(cache._entries.get(key) is entry and entry.values is not None for key, entry in pinned.items())
    for entry in pinned.values():
        entry.pins = 0
    cache.settle()
    assert cache.used <= BUDGET


def test_a_large_result_that_passes_through_drives_nothing_out():
    cache = Cache(None, BUDGET, BUDGET, lambda value: True, debug=True)
    for number in range(8):
        cache.put(entry_of(number, ("t" * 10_000,), 1.0), None, ())
    passing = entry_of(99, ("t" * 10 * BUDGET,), 1.0)
    passing.pins = 1
    cache.put(passing, None, ())
    assert len(cache) == 9
    passing.pins = 0
    cache.unpinned(passing)
    assert len(cache) == 8
    assert passing.values is None


def test_what_steps_hold_on_to_leaves_when_the_disk_has_it():
    cache = Cache(None, BUDGET, BUDGET, lambda value: True, debug=True)
    held = entry_of(99, ("t" * 10 * BUDGET,), 1.0)
    held.pins = 1
    cache.put(held, None, ())
    held.stored = True  # by the disk's writer, in its own time
    cache.put(entry_of(1, ("t",), 1.0), None, ())
    assert held.values is None
    assert len(cache) == 1


@node
def wide_text(number: int, size: int, near: str = "") -> str:
    """A text of some size that depends on another."""
    return f"{number:08d}{len(near):08d}" * (size // 16)


@node
def text_lengths(texts: list[str]) -> int:
    return sum(map(len, texts))


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(16, 30_000), st.integers(0, 5)), min_size=1, max_size=25),
    st.integers(1, 200_000),
    st.integers(1, 200_000),
)
def test_runs_within_any_budget_give_the_same_and_no_tier_passes_it(parts, memory, disk):
    nodes: dict[str, Any] = {}
    for place, (number, size, back) in enumerate(parts):
        link = {"near": f"t{place - back}.text"} if 0 < back <= place else {}
        nodes[f"t{place}"] = {"use": "wide_text", "with": {"number": number, "size": size}, "from": link}
    nodes["sum"] = {"use": "text_lengths", "from": {"texts": [f"t{place}.text" for place in range(len(parts))]}}
    workflow = flow(nodes, {"sum": "sum.int", "last": f"t{len(parts) - 1}.text"})
    with Engine(nodes=[wide_text, text_lengths], cache=False) as engine:
        expected = engine.run(workflow, cache=False).outputs
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            with Engine(nodes=[wide_text, text_lengths], cache=folder, memory=memory, disk=disk, debug=True) as engine:
                for _ in range(2):
                    assert engine.run(workflow).outputs == expected
                assert engine.store is not None
                engine.store.flush()
                assert engine.cache.used <= memory
                assert engine.store.trouble == ""
                assert engine.store.info()["bytes"] <= disk
                assert sum(path.stat().st_size for path in Path(folder).glob("results/*/*")) <= disk
