"""Stretches: what goes one after another must give, tell and leave what steps by themselves do, also where it does not stay plain."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
from engine_nodes import flow

from nodegraph import Engine, Invalid, node
from nodegraph.execution import Execution
from nodegraph.job import Result
from nodegraph.stretch import Stretch

CALLED: Counter[tuple[int, int, int]] = Counter()
COUNTING = threading.Lock()
MEETING = threading.Barrier(2)
GATE = threading.Event()
SALTS = iter(range(10**6, 10**9, 10**4))
LONG = 3 << 126


@node
def mix(a: int, b: int = 0, how: int = 0) -> int:
    """A small number; `how` may make it fail, take a while, or be no small number."""
    with COUNTING:
        CALLED[a, b, how] += 1
    if how == 1:
        raise Invalid("told to fail")
    if how == 2:
        time.sleep(0.002)
    if how == 3:
        return LONG + a
    if how == 4:
        MEETING.wait(20)
    if how == 5:
        GATE.wait(20)
    if how == 6:
        time.sleep(0.03)  # long enough for the rest to be handed out
    return (7 * a + 3 * b + how) % 1_000_003


@node
def added(items: list[int]) -> int:
    """Takes several, so that it is part of no stretch."""
    return sum(items) % 1_000_003


@node
def words(number: int) -> str:
    return f"{number} " * 40


@node
def counted(text: str, more: int = 0) -> int:
    return len(text) + more


NODES = (mix, added, words, counted)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(nodes=NODES, cache=False, threads=3) as made:
        run(made, warm())
        yield made


def warm() -> dict[str, Any]:
    """Every type once, so that all are known to be quick; nothing that another workflow asks for."""
    nodes = {
        "mix": {"use": "mix", "with": {"a": next(SALTS)}},
        "added": {"use": "added", "from": {"items": ["mix.int"]}},
        "words": {"use": "words", "from": {"number": "mix.int"}},
        "counted": {"use": "counted", "from": {"text": "words.text"}},
    }
    return flow(nodes, {"value": "counted.int", "sum": "added.int"})


def run(engine: Engine, workflow: dict[str, Any]) -> Result:
    return engine.submit(workflow).result(timeout=60)


def random_flow(seed: int, odd: tuple[int, ...]) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Nodes that each take from some before them, and what they give by plain Python: a value, or None behind a failure."""
    rng, salt = random.Random(seed), next(SALTS)
    nodes: dict[str, Any] = {}
    ways: list[tuple[str, Any, Callable[..., Any]]] = []
    for number in range(rng.randint(5, 60)):
        before = [name for name in nodes if not name.startswith("w")]
        how = rng.choice(odd) if odd and rng.random() < 0.15 else 0
        name = f"n{number}"
        if before and rng.random() < 0.15:
            taken = [rng.choice(before) for _ in range(rng.randint(1, 4))]
            nodes[name] = {"use": "added", "from": {"items": [f"{one}.int" for one in taken]}}
            ways.append((name, taken, lambda *items: sum(items) % 1_000_003))
        elif before and rng.random() < 0.1:
            one = rng.choice(before)
            nodes[f"w{number}"] = {"use": "words", "from": {"number": f"{one}.int"}}
            nodes[name] = {"use": "counted", "from": {"text": f"w{number}.text"}, "with": {"more": salt}}
            ways.append((name, [one], lambda given: len(f"{given} " * 40) + salt))
        elif before and rng.random() < 0.9:
            first, second = rng.choice(before), rng.choice(before)
            nodes[name] = {"use": "mix", "from": {"a": f"{first}.int", "b": f"{second}.int"}, "with": {"how": how}}
            ways.append((name, [first, second], lambda a, b, how=how: mixed(a, b, how)))
        else:
            nodes[name] = {"use": "mix", "with": {"a": salt + rng.randint(0, 3), "how": how}}
            ways.append((name, [], lambda given=nodes[name]["with"], how=how: mixed(given["a"], 0, how)))

    def expected() -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, taken, way in ways:
            given = [values[one] for one in taken]
            values[name] = None if None in given else way(*given)
        return values

    chosen = {name for name in nodes if not name.startswith("w") and rng.random() < 0.4} or {"n0"}
    return flow(nodes, {f"out_{name}": f"{name}.int" for name in chosen}), expected


def mixed(a: int, b: int, how: int) -> int | None:
    if how == 1:
        return None
    return LONG + a if how == 3 else (7 * a + 3 * b + how) % 1_000_003


@pytest.mark.parametrize("odd", [(), (2,), (1,), (3,), (1, 2, 3)], ids=["plain", "slow", "failing", "long", "all"])
@pytest.mark.parametrize("seed", range(12))
def test_it_gives_what_plain_python_gives(engine, seed, odd):
    workflow, expected = random_flow(seed, odd)
    for again in range(2):
        job = engine.submit(workflow)
        values = expected()
        result = job.result(timeout=60)
        wanted = {name: values[name.removeprefix("out_")] for name in workflow["outputs"]}
        assert result.outputs == {name: value for name, value in wanted.items() if value is not None}
        assert result.status == ("failed" if None in wanted.values() else "ok")
        told_in_order(workflow, list(job.events()), again)


def told_in_order(workflow: dict[str, Any], events: list[Any], again: bool) -> None:
    """Each node is told of once, and after what it takes; started before it is finished."""
    at: dict[tuple[str, str], int] = {}
    for event in events:
        assert (event.kind, event.node) not in at, "nothing is told twice"
        at[event.kind, event.node] = event.seq
    ends = {name: seq for (kind, name), seq in at.items() if kind in ("finished", "cached", "failed") and name}
    for (kind, name), seq in at.items():
        if kind == "started":
            assert seq < ends[name]
            given = [one.partition(".")[0] for link in workflow["nodes"][name].get("from", {}).values() for one in _listed(link)]
            assert all(ends[one] < seq for one in given)
        assert kind != "finished" or ("started", name) in at
    assert not again or not any(kind == "finished" for kind, _ in at), "what is there is not computed again"


def _listed(link: Any) -> list[str]:
    return link if isinstance(link, list) else [link]


def test_steps_that_take_long_for_once_overlap(engine):
    """Both wait for each other in their calls, though nothing of their type took long before."""
    salt = next(SALTS)
    nodes: dict[str, Any] = {f"n{number}": {"use": "mix", "with": {"a": salt + number}} for number in range(100)}
    nodes["n30"] = {"use": "mix", "from": {"a": "n3.int"}, "with": {"how": 4}}
    nodes["n60"] = {"use": "mix", "from": {"a": "n6.int"}, "with": {"how": 4}}
    nodes["end"] = {"use": "added", "from": {"items": [f"n{number}.int" for number in range(100)]}}
    assert run(engine, flow(nodes, {"sum": "end.int"})).status == "ok"


def test_cancelled_on_the_way(engine):
    GATE.clear()
    salt = next(SALTS)
    nodes: dict[str, Any] = {"n0": {"use": "mix", "with": {"a": salt}}}
    for number in range(1, 50):
        nodes[f"n{number}"] = {"use": "mix", "from": {"a": f"n{number - 1}.int"}, "with": {"how": 5 if number == 20 else 0}}
    job = engine.submit(flow(nodes, {"value": "n49.int"}))
    for event in job.events():
        if event.kind == "started" and event.node == "n20":
            job.cancel()
            GATE.set()
    assert job.result(timeout=20).status == "cancelled"
    assert not any(event.kind == "started" and event.node == "n21" for event in job.events())
    given_up(engine)
    assert run(engine, flow(nodes, {"value": "n49.int"})).status == "ok"


def test_runs_at_once_compute_each_key_once(engine):
    workflow, expected = random_flow(99, ())
    CALLED.clear()
    results = [job.result(timeout=60) for job in [engine.submit(workflow) for _ in range(40)]]
    values = expected()
    assert all(one.outputs == {name: values[name.removeprefix("out_")] for name in workflow["outputs"]} for one in results)
    assert set(CALLED.values()) == {1}


@pytest.mark.parametrize(
    "place",
    [(Stretch, "_tell"), (Stretch, "_hand_out"), (Stretch, "_demand"), (Execution, "record_plain"), (Execution, "demand")],
    ids=lambda place: f"{place[0].__name__}.{place[1]}",
)
def test_no_mistake_of_the_engine_hangs_it(engine, place, monkeypatch):
    reached = 0
    for at in range(6):
        workflow, _ = random_flow(1000 + at, (1, 2, 3, 6))
        with broken(monkeypatch, place, at) as raised, suppress(Injected):  # whoever submits is told at once
            assert run(engine, workflow).status in ("ok", "failed")
        given_up(engine)
        workflow, expected = random_flow(2000 + at, ())
        values = expected()
        assert run(engine, workflow).outputs == {name: values[name.removeprefix("out_")] for name in workflow["outputs"]}
        reached += len(raised)
    assert reached, "a place that is never reached shows nothing"


class Injected(Exception):
    """A mistake of the engine."""


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], at: int) -> Iterator[list[int]]:
    """The call at that place raises, and every one after it. Gives the numbers of those that did."""
    owner, name = place
    called, calls, raised = getattr(owner, name), count(), list[int]()

    def call(*args: Any, **named: Any) -> Any:
        if (number := next(calls)) >= at:
            raised.append(number)
            raise Injected
        return called(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, call)
        yield raised


def given_up(engine: Engine) -> None:
    """Every claim, by the time that the calls have come back."""
    until = time.monotonic() + 20
    while engine._ready().claims and time.monotonic() < until:
        time.sleep(0.001)
    assert not engine._ready().claims
