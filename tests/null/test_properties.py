"""Whatever is thrown at check and run, the outcome is a result or Problems: never another exception, never a hang."""

from __future__ import annotations

import copy
import string
from typing import Any, TypeVar

import pytest
from cases import bare_engine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nodegraph import Graph, Invalid, Lazy, Need, Skip, WorkflowInvalid, node
from nodegraph.errors import render
from nodegraph.literals import MAX_DEPTH

T = TypeVar("T")
SECONDS = 20
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@node
def num(value: int = 0) -> int:
    return value


@node
def plus(a: int, b: int = 1) -> int:
    return (a + b) % 1000


@node
def text(value: str = "x") -> str:
    return value


@node
def total(values: list[int]) -> int:
    return sum(values) % 1000


@node
def upto(count: int) -> list[int]:
    return list(range(min(abs(count), 4)))


@node
def either(condition: bool, a: Lazy[T], b: Lazy[T]) -> T:
    return a if condition else b


@node
def some(value: Lazy[int]) -> int:
    return value.value if value.ready else Need("value")


@node
def fail(value: int = 0) -> int:
    raise Invalid("no", fix="yes", port="value")


@node
def skip(value: int = 0) -> int:
    return Skip("not today")


@node
def anything(value: Any = None) -> Any:
    return value


@node
def twice(value: int) -> int:
    graph = Graph()
    one = graph.add("one", "plus", a=graph.input("value"), b=0)
    return graph.give(int=graph.add("two", "plus", a=one["int"], b=0)["int"])


NODES = [num, plus, text, total, upto, either, some, fail, skip, anything, twice]
SOURCES = {"num": "int", "plus": "int", "text": "text", "total": "int", "upto": "ints", "either": "value", "some": "int",
           "fail": "int", "skip": "int", "anything": "value", "twice": "int"}  # fmt: skip
PORTS = {"num": [], "plus": ["a"], "text": [], "total": ["values"], "upto": ["count"], "either": ["a", "b"], "some": ["value"],
         "fail": ["value"], "skip": ["value"], "anything": ["value"], "twice": ["value"]}  # fmt: skip
LITERALS = {"either": {"condition": True}}


@pytest.fixture(scope="module")
def engine():
    with bare_engine(nodes=NODES, threads=2) as made:
        yield made


def settle(engine, workflow: Any, keep: bool = False, **inputs: Any) -> str:
    """Check and run; every outcome is a status or `refused`, and check and run agree."""
    problems = engine.check(workflow)
    render(problems)
    assert all(problem.to_json() for problem in problems)
    try:
        job = engine.submit(workflow, inputs, cache=keep)
    except WorkflowInvalid:
        return "refused"
    assert not problems
    result = job.result(SECONDS)
    assert result.status == ("failed" if result.problems else "ok")
    return result.status


@st.composite
def workflows(draw) -> dict[str, Any]:
    """Workflows that are mostly valid: links go backward to nodes of any type."""
    nodes: dict[str, Any] = {}
    made: list[str] = []
    for number in range(draw(st.integers(1, 7))):
        use = draw(st.sampled_from(sorted(SOURCES)))
        record: dict[str, Any] = {"use": use, "from": {}, "with": dict(LITERALS.get(use, {}))}
        for port in PORTS[use]:
            if made and draw(st.booleans()):
                record["from"][port] = draw(st.sampled_from(made))
            else:
                record["with"][port] = [1, 2] if port == "values" else draw(st.integers(-2, 9))
        if PORTS[use] and not draw(st.integers(0, 4)):
            port = PORTS[use][0]
            record["from"].pop(port, None)
            record["with"].pop(port, None)
            record["each"] = {port: draw(st.sampled_from([*made, [1, 2], [], [[1], [2]]]))}
        nodes[f"n{number}"] = record
        made.append(f"n{number}.{SOURCES[use]}")
    return {
        "nodegraph": 1,
        "nodes": nodes,
        "outputs": {"out": draw(st.sampled_from(made)), "all": draw(st.lists(st.sampled_from(made), max_size=3))},
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["n0.int", "inputs.x", "num", "./a.json"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters + ". ", max_size=4), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, item in inside for found in paths(item, (*path, key))]


@st.composite
def mutated(draw) -> Any:
    """A workflow with some of its parts replaced, removed or swapped for others."""
    workflow = copy.deepcopy(draw(workflows()))
    for _ in range(draw(st.integers(1, 3))):
        known = paths(workflow)
        if not known:
            break
        *way, last = draw(st.sampled_from(known))
        here = workflow
        for step in way:
            here = here[step]
        action = draw(st.sampled_from(["replace", "remove", "rename"]))
        if action == "replace":
            here[last] = draw(JSON)
        elif action == "remove":
            del here[last]
        elif isinstance(here, dict):
            here[draw(st.text(max_size=4))] = here.pop(last)
    return workflow


@QUICK
@given(workflows())
def test_workflows(engine, workflow):
    """Kept results change no outcome."""
    outcome = settle(engine, workflow)
    assert [settle(engine, workflow, keep=True) for _ in range(2)] == [outcome] * 2


@QUICK
@given(mutated())
def test_mutated_workflows(engine, workflow):
    settle(engine, workflow)


@QUICK
@given(JSON)
@example({"nodes": {"a": {"use": {"nodes": {}}}}})
@example({"inputs": {"x": {"type": "|"}}})
def test_any_json(engine, data):
    settle(engine, data if not isinstance(data, str) else {"nodes": {data: data}})


@QUICK
@given(JSON)
def test_any_literal(engine, value):
    settle(engine, {"nodes": {"a": {"use": "anything", "with": {"value": value}}}, "outputs": {"out": "a.value"}})


@QUICK
@given(JSON)
def test_any_input(engine, value):
    declared = {"inputs": {"x": {"type": "int", "default": 0}}, "nodes": {"a": {"use": "num", "from": {"value": "inputs.x"}}}}
    outcome = settle(engine, {**declared, "outputs": {"out": "a.int"}}, x=value)
    assert (outcome == "ok") == (type(value) is int)


@settings(QUICK, max_examples=60)
@given(st.text() | st.text('{}[]":, \n1eE+-.nulltrfas', max_size=40))
def test_any_text(tmp_path_factory, engine, written):
    file = tmp_path_factory.mktemp("text") / "main.json"
    file.write_bytes(written.encode("utf-8", "surrogatepass"))
    settle(engine, file)


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH + 1, 3000, 100_000])
def test_deep_values(engine, depth):
    value: Any = 1
    for _ in range(depth):
        value = [value]
    expected = "ok" if depth < MAX_DEPTH else "refused"
    assert settle(engine, {"nodes": {"a": {"use": "anything", "with": {"value": value}}}, "outputs": {"out": "a.value"}}) == expected


@pytest.mark.parametrize("depth", [3, 30, 300])
def test_deep_workflows(engine, depth):
    inner: dict[str, Any] = {"nodes": {"a": {"use": "num"}}, "outputs": {"out": "a.int"}}
    for _ in range(depth):
        inner = {"nodes": {"a": {"use": inner}}, "outputs": {"out": "a.out"}}
    assert settle(engine, inner) == ("ok" if depth < 32 else "refused")


@pytest.mark.parametrize("source", [None, 5, b"x", object(), {1: 2}, {"nodes": {"a": {"use": "anything", "with": {"value": {1, 2}}}}}])
def test_what_is_no_workflow(engine, source):
    assert settle(engine, source) == "refused"
