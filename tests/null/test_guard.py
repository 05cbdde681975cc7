"""Debug runs name the node that changes its input in place; a profile is a trace that tools can read."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest
from engine_nodes import flow

from nodegraph import Engine, Image, Lazy, node


@node
def make_image(value: float = 0.5) -> Image:
    return Image(np.full((1, 3, 4, 4), value, np.float32))


@node
def darken_in_place(image: Image) -> Image:
    data = image.data
    data.flags.writeable = True
    data *= 0.5
    return Image(data.copy())


@node
def darken(image: Image) -> Image:
    return Image(image.data * 0.5)


@node
def append_to_list(items: list[int]) -> int:
    items.append(1)
    return len(items)


@node
def append_to_default(a: int, items: list[int] = [1], named: object = {"b": [2]}, seen: Lazy[object] = {"c": [3]}) -> list[int]:  # noqa: B006
    for one in (items, named["b"], seen.value["c"]):
        one.append(a)
    return [len(items), len(named["b"]), len(seen.value["c"])]


@node
async def darken_later(image: Image) -> Image:
    image.data.flags.writeable = True
    image.data[:] = 0
    return Image(image.data.copy())


@node
def look(image: Lazy[Image]) -> Image:
    from nodegraph import Need

    return Image(image.value.data * 1) if image.ready else Need("image")


BOTH = threading.Barrier(2, timeout=20)


@node
def darken_beside(image: Image) -> float:
    BOTH.wait()
    image.data[:] = 0
    BOTH.wait()
    return 0.0


@node
def brightness(image: Image) -> float:
    if not BOTH.broken:
        BOTH.wait()
        BOTH.wait()
    return float(image.data.mean())


@node
def darken_and_fail(image: Image) -> Image:
    image.data[:] = 0
    raise ValueError("too dark")


INSIDE: set[int] = set()


@node
async def together(a: int) -> int:
    """Ends when two of it are at work."""
    while len(INSIDE) < 2:
        INSIDE.add(a)
        await asyncio.sleep(0)
    return a


NODES = [together, make_image, darken_in_place, darken, append_to_list, append_to_default]
NODES += [darken_later, look, darken_beside, brightness, darken_and_fail]


@pytest.mark.parametrize("name", ["darken_in_place", "darken_later"])
def test_the_node_and_the_input_are_named(name):
    nodes = {"make": {"use": "make_image"}, "dark": {"use": name, "from": {"image": "make.image"}}}
    with Engine(nodes=NODES, cache=False, debug=True) as engine:
        (problem,) = engine.submit(flow(nodes, {"image": "dark.image"})).result().problems
        assert problem.code == "input-changed"
        assert problem.where == "dark"
        assert "'image'" in problem.text


def test_lists_are_watched_too():
    with Engine(nodes=NODES, cache=False, debug=True) as engine:
        (problem,) = engine.submit(flow({"n": {"use": "append_to_list", "with": {"items": [1, 2]}}}, {"n": "n.int"})).result().problems
        assert problem.code == "input-changed"


def test_defaults_that_are_changed_in_place_are_those_of_one_call():
    with Engine(nodes=NODES, cache=False) as engine:
        nodes = {name: {"use": "append_to_default", "with": {"a": a}} for a, name in enumerate("xyz")}
        nodes["given"] = {"use": "append_to_default", "with": {"a": 9, "items": [1, 2]}}
        outputs = engine.run(flow(nodes, {name: f"{name}.ints" for name in nodes})).outputs
        assert outputs == {"x": [2, 2, 2], "y": [2, 2, 2], "z": [2, 2, 2], "given": [3, 2, 2]}


def test_what_is_changed_is_nobody_elses():
    image = {"from": {"image": "make.image"}}
    nodes = {"make": {"use": "make_image"}, "dark": {"use": "darken_beside", **image}, "mean": {"use": "brightness", **image}}
    with Engine(nodes=NODES, cache=False, debug=True, threads=2) as engine:
        result = engine.submit(flow(nodes, {"mean": "mean.float", "dark": "dark.float"})).result()
        assert [problem.where for problem in result.problems] == ["dark"]
        assert result.outputs == {"mean": 0.5}
        BOTH.abort()
        nodes["dark"]["use"] = "darken_and_fail"
        assert not engine.submit(flow(nodes, {"image": "dark.image"})).result().ok
        nodes["mean"]["use"] = "darken"
        assert engine.run(flow(nodes, {"image": "mean.image"})).outputs["image"].data.mean() == 0.25


def test_who_changes_nothing_is_not_blamed(monkeypatch):
    monkeypatch.setenv("NODEGRAPH_DEBUG", "1")
    nodes = {"make": {"use": "make_image"}, "dark": {"use": "darken", "from": {"image": "make.image"}}}
    nodes["look"] = {"use": "look", "from": {"image": "dark.image"}}
    with Engine(nodes=NODES, cache=False) as engine:
        assert engine.settings.debug
        assert engine.run(flow(nodes, {"image": "look.image"})).ok


def test_without_debug_nothing_is_watched():
    nodes = {"make": {"use": "make_image"}, "dark": {"use": "darken_in_place", "from": {"image": "make.image"}}}
    with Engine(nodes=NODES, cache=False) as engine:
        assert engine.submit(flow(nodes, {"image": "dark.image"})).result().ok


def test_a_profile_is_a_trace_of_nodes_lanes_and_hits(tmp_path):
    nodes = {"make": {"use": "make_image"}, "dark": {"use": "darken", "from": {"image": "make.image"}}}
    with Engine(nodes=NODES, cache=False) as engine:
        profile = engine.profile()
        for _ in range(2):
            assert engine.run(flow(nodes, {"image": "dark.image"})).ok
        profile.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = {event["name"]: event for event in events if event["ph"] == "X"}
    assert set(spans) == {"make", "dark"}
    assert spans["dark"]["ts"] >= spans["make"]["ts"] + spans["make"]["dur"]
    assert spans["dark"]["args"]["use"] == "darken"
    assert any(event["name"] == "dark: cached" and event["args"]["bytes"] > 0 for event in events)
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert threads[spans["dark"]["tid"]].startswith("cpu")


def test_spans_of_one_thread_lie_inside_of_each_other_or_are_pairs(tmp_path):
    nodes = {name: {"use": "together", "with": {"a": number}} for number, name in enumerate("xy")}
    with Engine(nodes=NODES, cache=False) as engine:
        profile = engine.profile()
        assert engine.run(flow(nodes, {"x": "x.int", "y": "y.int"})).ok
        profile.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert not [event for event in events if event["ph"] == "X"]
    begun, ended = ({event["id"]: event for event in events if event["ph"] == kind} for kind in "be")
    assert {event["name"] for event in begun.values()} == {"x", "y"}
    assert all(begun[ident]["ts"] <= ended[ident]["ts"] and begun[ident]["name"] == ended[ident]["name"] for ident in begun)
