"""What runs mean: a table of cases over small pure nodes. Each test is one promise of the design."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy
import pytest
from engine_nodes import CALLS, NODES, VOLATILE, flow, make_engine, traced

from nodegraph import Engine, Field, File, Graph, Image, Lazy, Need, Run, Workflow, WorkflowInvalid, node, noderun
from nodegraph.job import EventLog

T = TypeVar("T")


@pytest.fixture
def engine():
    CALLS.clear()
    with make_engine() as made:
        yield made


def plus(a=None, b=None):
    """The node `plus`: text is a link, a number a literal."""
    given = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
    return {
        "use": "plus",
        "from": {name: value for name, value in given.items() if isinstance(value, str)},
        "with": {name: value for name, value in given.items() if not isinstance(value, str)},
    }


def ran(seen):
    return sorted(seen.get("finished", []))


def test_a_plan_tells_what_a_kept_skip_holds_up(engine):
    """What is behind it was told as to be run, after a run that had left nothing to do."""
    chosen = {"use": "switch", "with": {"condition": True, "on_false": 1}, "from": {"on_true": "n.int"}}
    nodes = {
        "s": {"use": "skip_if", "with": {"value": 1, "condition": True}},
        "n": {"use": "total", "from": {"items": ["s.value"]}},
        "c": chosen,
        "b": plus("c.value"),
        "d": {"use": "coalesce", "from": {"one": "b.int"}, "with": {"two": 2}},
        "e": plus("d.value"),
    }
    workflow = flow(nodes, {"b": "b.int", "e": "e.int"})
    assert engine.run(workflow).outputs == {"e": 2}
    assert engine.plan(workflow).count("run") == 0
    result, seen = traced(engine, workflow)
    assert result.outputs == {"e": 2}
    assert "started" not in seen


# -- demand and keys ---------------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing(engine):
    workflow = flow({"a": plus(1, 2), "b": plus(b=5, a="a.int")}, {"out": "b.int"})
    first, _ = traced(engine, workflow)
    second, seen = traced(engine, workflow)
    assert first.outputs == second.outputs == {"out": 8}
    assert seen["cached"] == ["b"]
    assert "started" not in seen


def test_names_and_wrapping_change_no_key(engine):
    traced(engine, flow({"a": plus(1, 2), "b": plus(b=5, a="a.int")}, {"out": "b.int"}))
    _, seen = traced(engine, flow({"y": plus(1, 2), "x": plus(b=5, a="y.int")}, {"other": "x.int"}))
    assert "started" not in seen
    inner = flow({"p": plus(b=2, a="inputs.n"), "q": plus(b=5, a="p.int")}, {"out": "q.int"}, inputs={"n": {"type": "int"}})
    _, seen = traced(engine, flow({"w": {"use": inner, "with": {"n": 1}}}, {"out": "w.out"}))
    assert "started" not in seen


def test_a_changed_literal_runs_only_what_is_behind_it(engine):
    nodes = {"a": plus(1, 1), "b": plus(2, 2), "c": plus(a="a.int", b="b.int"), "d": plus(b=9, a="b.int")}
    outputs = {"c": "c.int", "d": "d.int"}
    traced(engine, flow(nodes, outputs))
    _, seen = traced(engine, flow({**nodes, "a": plus(1, 7)}, outputs))
    assert ran(seen) == ["a", "c"]


def test_nothing_runs_behind_a_value_that_came_out_equal(engine):
    def workflow(n):
        return flow({"p": {"use": "parity", "with": {"a": n}}, "q": plus(b=10, a="p.int"), "r": plus(b=1, a="q.int")}, {"out": "r.int"})

    traced(engine, workflow(1))
    result, seen = traced(engine, workflow(3))
    assert result.outputs == {"out": 12}
    assert ran(seen) == ["p"]


def test_a_port_at_its_default_is_in_no_key(engine):
    traced(engine, flow({"a": {"use": "plus", "with": {"a": 4}}}, {"out": "a.int"}))
    _, seen = traced(engine, flow({"a": plus(4, 0)}, {"out": "a.int"}))
    assert "started" not in seen


def test_what_nobody_asks_for_does_not_run(engine):
    _, seen = traced(engine, flow({"a": plus(1), "unused": plus(2)}, {"out": "a.int"}))
    assert ran(seen) == ["a"]


def test_int_widens_to_float_and_nothing_else(engine):
    result, _ = traced(
        engine, flow({"a": plus(3), "f": {"use": "scaled", "from": {"a": "a.int"}, "with": {"factor": 2}}}, {"out": "f.float"})
    )
    assert result.outputs == {"out": 6.0}
    assert type(result.outputs["out"]) is float


# -- lazy inputs -------------------------------------------------------------------------------------------------------


def chosen(n, untaken=5):
    nodes = {
        "even": {"use": "is_even", "with": {"a": n}},
        "yes": plus(1, 1),
        "no": plus(untaken, 1),
        "s": {"use": "pick", "from": {"condition": "even.bool", "on_true": "yes.int", "on_false": "no.int"}},
    }
    return flow(nodes, {"out": "s.value"})


@node
def huge() -> int:
    return 10**400


@node
def deep() -> Any:
    value: list[Any] = []
    for _ in range(2000):
        value = [value]
    return value


@node
def classes(values: list[float], more: Lazy[float | str] = 0.5, **others: float) -> str:
    return ", ".join(type(value).__name__ for value in [*values, more.value, *others.values()]) if more.ready else Need("more")


@node
def described(value: Any) -> Any:
    return {"class": type(value).__name__, "value": value}


@node
def returned(values: list[T]) -> list[T]:
    return values


@node
def gathered(values: list[File], count: int = 0) -> list[File]:
    return values + values[:count]


@node
def passed(value: Lazy[int]) -> int:
    return value


EXTREMES = [huge, deep, classes, described, returned, gathered, passed]


@pytest.fixture
def extremes():
    with Engine(nodes=[*NODES, *EXTREMES], cache=False) as made:
        yield made


def test_ints_become_floats_wherever_floats_are_declared(extremes):
    one = {"one": plus(1, 0), "ones": {"use": "count_up", "with": {"n": 1}}}
    for links in (["one.int"], "ones.ints"):
        uses = {"use": "classes", "from": {"values": links, "more": "one.int", "other": "one.int"}}
        result, _ = traced(extremes, flow({**one, "c": uses}, {"out": "c.text"}))
        assert result.outputs == {"out": "float, float, float"}


def holding(use: Any, port: str, output: str) -> dict[str, Any]:
    return {
        "inputs": {"value": {"type": "int"}},
        "nodes": {"n": {"use": use, "from": {port: "inputs.value"}}},
        "outputs": {"out": f"n.{output}"},
    }


@pytest.mark.parametrize(
    ("given", "node", "where"),
    [
        ("x", {"use": "plus", "from": {"a": "v.value"}}, "n.a"),
        (["x"], {"use": "plus", "each": {"a": "v.value"}}, "n[0].a"),
        ("x", {"use": "classes", "with": {"values": []}, "from": {"other": "v.value"}}, "n.other"),
        (None, {"use": "classes", "with": {"values": []}, "from": {"more": "v.value"}}, "n.more"),
        ("x", {"use": "total", "from": {"items": ["v.value"]}}, "n.items"),
        ("x", {"use": holding("plus", "a", "int"), "from": {"value": "v.value"}}, "n/n.a"),
        (["x"], {"use": holding("plus", "a", "int"), "each": {"value": "v.value"}}, "n[0]/n.a"),
        ("x", {"use": holding(holding("plus", "a", "int"), "value", "out"), "from": {"value": "v.value"}}, "n/n/n.a"),
    ],
)
def test_what_comes_over_a_link_of_any_type_is_checked_when_it_is_there(extremes, given, node, where):
    output = "out" if isinstance(node["use"], dict) else {"classes": "text"}.get(node["use"], "int")
    workflow = flow({"v": {"use": "anything", "with": {"value": given}}, "n": node}, {"out": f"n.{output}"})
    [problem] = extremes.submit(workflow).result().problems
    assert (problem.code, problem.where) == ("type-mismatch", where)


def test_items_of_any_type_are_checked(extremes):
    nodes = {"v": {"use": "anything", "each": {"value": ["x"]}}, "n": {"use": "total", "from": {"items": "v.value"}}}
    [problem] = extremes.submit(flow(nodes, {"out": "n.int"})).result().problems
    assert (problem.code, problem.where) == ("type-mismatch", "n.items")


def handing_on(**nodes: Any) -> dict[str, Any]:
    """A workflow that gives its whole number as it is, or by a node that does."""
    given = {"inputs": {"value": {"type": "int"}}, "nodes": nodes}
    return {**given, "outputs": {"out": f"{list(nodes)[-1]}.{'out' if 'use' in nodes else 'value'}" if nodes else "inputs.value"}}


SWITCH = {"use": "switch", "with": {"condition": True, "on_false": 1}, "from": {"on_true": "inputs.value"}}


@pytest.mark.parametrize(
    "use", [handing_on(), handing_on(s=SWITCH), handing_on(use={"use": handing_on(s=SWITCH), "from": {"value": "inputs.value"}})]
)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_workflow_that_hands_on_what_is_of_any_type_does_not_vouch_for_it(extremes, use, mapped):
    """Its input says int: text went through it, and was told as an int, or failed in the node behind it."""
    inside = {"s": {**SWITCH, "from": {"on_true": "inputs.value"}}, "n": {"use": "plus", "from": {"a": "s.value"}}}
    behind = {"use": {"inputs": {"value": {"type": "int"}}, "nodes": inside, "outputs": {"out": "n.int"}}}
    for given, where in (("x", {"b": "b.a", "c": "c/n.a"}), (2, {})):
        value = [given] if mapped else given
        link = {"each" if mapped else "from": {"value": "v.value"}}
        nodes = {"v": {"use": "anything", "with": {"value": value}}, "a": {"use": use, **link}, "c": {**behind, **link}}
        nodes["b"] = {"use": "plus", "each" if mapped else "from": {"a": "a.out"}}
        result = extremes.submit(flow(nodes, {"b": "b.int", "c": "c.out"})).result()
        found = {problem.where.replace("[0]", "") for problem in result.problems if problem.code == "type-mismatch"}
        assert found == set(where.values())
        assert len(result.problems) == len(where)


@pytest.mark.parametrize(
    "use", ["passed", {**handing_on(p={"use": "passed", "from": {"value": "inputs.value"}}), "outputs": {"int": "p.int"}}]
)
def test_a_node_that_gives_a_lazy_input_does_not_vouch_for_it(extremes, use):
    nodes = {"v": {"use": "anything", "with": {"value": "x"}}, "p": {"use": use, "from": {"value": "v.value"}}, "n": plus("p.int")}
    [problem] = extremes.submit(flow(nodes, {"out": "n.int"})).result().problems
    assert (problem.code, problem.where) == ("type-mismatch", "n.a")


def test_what_is_no_list_is_told_where_a_list_of_anything_is_taken(extremes):
    nodes = {"v": {"use": "anything", "with": {"value": "text"}}, "n": {"use": "repeat_list", "from": {"items": "v.value"}}}
    [problem] = extremes.submit(flow(nodes, {"out": "n.value"})).result().problems
    assert (problem.code, problem.text) == ("type-mismatch", "'n.items' takes list[any], but 'text' arrived")


@pytest.mark.parametrize(
    ("use", "port", "output"),
    [("described", "value", "value"), ("make_json", "value", "json"), ("returned", "values", "value"), ("format_json", "json", "text")],
)
def test_a_list_from_the_disk_is_a_list(tmp_path, use, port, output):
    """Also where its items are read one by one, as they may be large."""
    lists = {"long": {"use": "text", "each": {"value": ["a" * 300, "b" * 300]}}}
    taken = {"use": use, "from": {port: "long.text"}}
    found = []
    for cache in (False, tmp_path, tmp_path):
        with Engine(nodes=[*NODES, *EXTREMES], cache=cache) as engine:
            if cache:
                engine.run(flow(lists, {"out": "long.text"}))
        with Engine(nodes=[*NODES, *EXTREMES], cache=cache) as engine:
            found.append(engine.run(flow({**lists, "n": taken}, {"out": f"n.{output}", "nested": ["long.text"]})).outputs)
    assert found[0] == found[1] == found[2]


def test_items_that_are_fetched_can_be_joined_and_given_back(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    file = File.at(tmp_path / "a.txt")
    files = {"use": "gathered", "with": {"values": ["a.txt"]}}
    nodes = {
        "files": files,
        "each": {"use": "anything", "each": {"value": "files.files"}},
        "n": {"use": "gathered", "from": {"values": "each.value"}},
    }
    found = []
    for count in (0, 1, 1):
        with Engine(nodes=[*NODES, *EXTREMES], cache=tmp_path / "cache") as engine:
            workflow = flow(
                {**nodes, "n": {**nodes["n"], "with": {"count": count}}}, {"out": "n.files", **({} if count else {"each": "each.value"})}
            )
            written = tmp_path / "w.json"
            written.write_text(json.dumps(workflow))
            found.append(engine.run(written).outputs["out"])
    assert found == [[file], [file, file], [file, file]]


def test_an_int_too_large_for_a_float_is_a_problem(extremes):
    workflow = flow({"h": {"use": "huge"}, "s": {"use": "scaled", "from": {"a": "h.int"}}}, {"out": "s.float"})
    result = extremes.submit(workflow).result()
    [problem] = result.problems
    assert (problem.code, problem.where, problem.text) == (
        "out-of-range", "s", "'a' takes a finite number, but a number of 1329 bits arrived"
    )  # fmt: skip
    given = {"inputs": {"n": {"type": "int"}}, "nodes": {"s": {"use": "scaled", "from": {"a": "inputs.n"}}}, "outputs": {"out": "s.float"}}
    with pytest.raises(WorkflowInvalid, match="takes a finite number"):
        extremes.submit(given, n=10**400)


class Own:
    """A class of a pack, whose content cannot be told."""


@node
def owned(value: Own) -> int:
    return 1


def test_an_input_whose_content_cannot_be_told_is_a_problem():
    workflow = {
        "inputs": {"x": {"type": "Own"}},
        "nodes": {"n": {"use": "owned", "from": {"value": "inputs.x"}}},
        "outputs": {"out": "n.int"},
    }
    with Engine(nodes=[owned], cache=False) as engine:
        workflow["inputs"]["x"]["type"] = str(engine.registry.get("owned").inputs["value"].type)
        with pytest.raises(WorkflowInvalid, match="cannot take"):
            engine.run(workflow, x=Own())


def test_a_value_nested_too_deeply_is_a_problem(extremes):
    [problem] = extremes.submit(flow({"d": {"use": "deep"}}, {"out": "d.value"})).result().problems
    assert (problem.code, problem.where, problem.text) == ("too-deep", "d", "'deep' gave a value that is nested too deeply")


def test_switch_computes_only_the_branch_it_takes(engine):
    result, seen = traced(engine, chosen(2))
    assert result.outputs == {"out": 2}
    assert ran(seen) == ["even", "s", "yes"]


def test_only_the_switch_runs_again_when_the_untaken_branch_is_edited(engine):
    traced(engine, chosen(2))
    result, seen = traced(engine, chosen(2, untaken=6))
    assert result.outputs == {"out": 2}
    assert ran(seen) == ["s"]
    result, seen = traced(engine, chosen(3, untaken=6))
    assert result.outputs == {"out": 7}


def test_need_computes_an_input_when_it_is_asked_for(engine):
    def workflow(wanted):
        nodes = {"x": plus(10), "e": {"use": "either", "from": {"extra": "x.int"}, "with": {"base": 1, "wanted": wanted}}}
        return flow(nodes, {"out": "e.int"})

    result, seen = traced(engine, workflow(False))
    assert (result.outputs, ran(seen)) == ({"out": 1}, ["e"])
    result, seen = traced(engine, workflow(True))
    assert (result.outputs, ran(seen)) == ({"out": 11}, ["e", "x"])
    _, seen = traced(engine, workflow(True))
    assert "started" not in seen


def test_coalesce_takes_the_first_that_is_there_in_file_order(engine):
    def workflow(*numbers):
        nodes: dict = {f"n{i}": {"use": "only_even", "with": {"a": n}} for i, n in enumerate(numbers)}
        nodes["c"] = {"use": "first_there", "from": {f"o{i}": f"n{i}.int" for i in range(len(numbers))}}
        return flow(nodes, {"out": "c.value"})

    result, seen = traced(engine, workflow(1, 4, 6))
    assert result.outputs == {"out": 4}
    assert "n2" not in seen["started"]
    result, _ = traced(engine, workflow(1, 3))
    assert (result.ok, result.outputs, result.skipped) == (True, {}, {"out": "nothing is there"})


def test_the_order_of_open_ports_is_in_keys_and_links_come_before_values(engine):
    numbers = {"x": plus(1, 0), "y": plus(2, 0)}

    def first(**sections):
        nodes = {**numbers, "c": {"use": "first_there", **sections}}
        found = [engine.submit(flow(nodes, {"out": "c.value"}), cache=cache).result().outputs["out"] for cache in (True, False)]
        assert found[0] == found[1]
        return found[0]

    assert first(**{"from": {"a": "x.int", "b": "y.int"}}) == 1
    assert first(**{"from": {"b": "y.int", "a": "x.int"}}) == 2
    assert first(**{"with": {"a": 5}, "from": {"b": "y.int"}}) == 2
    assert first(**{"with": {"b": 5, "a": 6}}) == 5
    assert first(**{"with": {"a": 6, "b": 5}}) == 6
    assert first(**{"with": {"c": 7}, "from": {"b": "y.int"}, "each": {"a": [8, 9]}}) == [8, 9]


@node
def linked(value: Lazy[int | None] = None) -> bool:
    return value is not None


def test_that_a_lazy_input_is_linked_is_in_the_work_key(engine):
    """A node that was called without it gave another result than one that could ask for it."""
    nothing = flow({"c": {"use": "first_there"}}, {"out": "c.value"})
    assert engine.run(nothing).skipped == {"out": "nothing is there"}
    assert engine.run(flow({"x": plus(1, 0), "c": {"use": "first_there", "from": {"a": "x.int"}}}, {"out": "c.value"})).outputs == {
        "out": 1
    }
    with Engine(nodes=[*NODES, linked], cache=False) as other:
        assert other.run(flow({"n": {"use": "linked"}}, {"out": "n.bool"})).outputs == {"out": False}
        workflow = flow({"x": plus(1, 0), "n": {"use": "linked", "from": {"value": "x.int"}}}, {"out": "n.bool"})
        assert other.run(workflow).outputs == {"out": True}


@node
def shown(
    number: float = 1,
    numbers: list[float] = (1, 2),  # type: ignore[assignment]
    lazy: Lazy[float | str] = 1,  # type: ignore[assignment]
    texts: Lazy[list[str]] = ("a",),  # type: ignore[assignment]
    absent: Lazy[int | None] = None,  # type: ignore[assignment]
) -> str:
    return repr([number, numbers, lazy.value, texts.value, absent and absent.value])


@node
def passed(value: Lazy[float] = 3) -> float:  # type: ignore[assignment]
    return value  # type: ignore[return-value]


@pytest.mark.parametrize("cache", [True, False])
def test_a_default_arrives_the_same_written_or_not(cache):
    """The two have one key, so that a result of one is taken for the other."""
    defaults = {"number": 1, "numbers": [1, 2], "lazy": 1, "texts": ["a"], "absent": None}
    with Engine(nodes=[shown, passed], cache=False) as engine:
        for written in ({}, defaults, *({name: value} for name, value in defaults.items())):
            job = engine.submit(flow({"n": {"use": "shown", "with": written}}, {"out": "n.text"}), cache=cache)
            assert job.result().outputs == {"out": "[1.0, [1.0, 2.0], 1.0, ['a'], None]"}
        job = engine.submit(flow({"n": {"use": "shown", "with": {"absent": 5, "lazy": "x"}}}, {"out": "n.text"}), cache=cache)
        assert job.result().outputs == {"out": "[1.0, [1.0, 2.0], 'x', ['a'], 5]"}
        for written in ({}, {"value": 3}):
            result = engine.submit(flow({"n": {"use": "passed", "with": written}}, {"out": "n.float"}), cache=cache).result()
            assert repr(result.outputs["out"]) == "3.0"


def test_what_was_chosen_of_links_is_found_where_it_is_written(engine):
    """An open port that is bound to an input has the key of one that holds the value itself."""
    given = {"inputs": {"x": {"type": "int", "default": 3}}, "nodes": {"c": {"use": "first_there", "from": {"a": "inputs.x"}}}}
    assert engine.run({**given, "outputs": {"out": "c.value"}}).outputs == {"out": 3}
    written = {"c": {"use": "first_there", "with": {"a": 3}}, "p": plus("c.value", 1)}
    assert engine.run(flow(written, {"out": "p.int"})).outputs == {"out": 4}


@pytest.mark.parametrize("disk", [False, True])
def test_a_choice_of_a_value_that_is_written_is_made_once(tmp_path, disk):
    workflow = flow({"p": {"use": "pick", "with": {"condition": True, "on_true": "a", "on_false": "b"}}}, {"out": "p.value"})
    CALLS.clear()
    with make_engine(cache=tmp_path if disk else False) as engine:
        assert [engine.run(workflow).outputs["out"] for _ in range(2)] == ["a", "a"]
        assert [step.state for step in engine.plan(workflow).steps] == ["cached"]
    if disk:
        with make_engine(cache=tmp_path) as engine:
            assert engine.run(workflow).outputs == {"out": "a"}
    assert CALLS == ["pick"]


@node
def untyped(value: Lazy[Any]) -> int:
    return value  # type: ignore[return-value]


@node
def nothing_or(value: int | None) -> int | None:
    return value


@node
def surely(value: Lazy[int | None]) -> int:
    return value  # type: ignore[return-value]


@pytest.mark.parametrize(("use", "given", "told"), [("untyped", "x", "'x'"), ("untyped", None, "null"), ("surely", None, "null")])
@pytest.mark.parametrize("linked", [False, True])
def test_a_lazy_input_that_is_returned_must_be_what_the_output_is_declared_to_be(use, given, told, linked):
    with Engine(nodes=[*NODES, untyped, surely, nothing_or], cache=False) as engine:
        for value in (given, 3):
            source = "nothing_or" if use == "surely" else "anything"
            nodes = {
                "v": {"use": source, "with": {"value": value}},
                "u": {"use": use, **({"from": {"value": f"v.{'int' if source == 'nothing_or' else 'value'}"}} if linked else {})},
                "p": plus("u.int", 1),
            }
            if not linked:
                nodes["u"]["with"] = {"value": value}
            for _ in range(2):
                result = engine.submit(flow(nodes, {"out": "p.int"})).result(5)
                if value == 3:
                    assert result.outputs == {"out": 4}
                    continue
                [problem] = result.problems
                assert (problem.code, problem.where) == ("wrong-output", "u")
                assert problem.text == f"{use!r} says that 'int' is int, but gave {told}"


@node
def in_a_graph(value: Any) -> int:
    graph = Graph()
    return graph.give(int=graph.add("inner", "anything", value=graph.input("value"))["value"])  # type: ignore[return-value]


@node
def ints_in_a_graph(value: Any) -> list[int]:
    graph = Graph()
    return graph.give(ints=[graph.add(name, "anything", value=graph.input("value"))["value"] for name in "ab"])  # type: ignore[return-value]


def test_what_a_returned_graph_gives_as_any_must_be_what_the_output_is_declared_to_be():
    with Engine(nodes=[*NODES, in_a_graph, ints_in_a_graph], cache=False) as engine:
        for use, output in (("in_a_graph", "int"), ("ints_in_a_graph", "ints")):
            for value in (3, "x", 3, "x"):
                nodes = {"g": {"use": use, "with": {"value": value}}, "all": {"use": "listed", "from": {"items": [f"g.{output}"]}}}
                result = engine.submit(flow(nodes, {"out": f"g.{output}"})).result(5)
                if value == 3:
                    assert result.outputs == {"out": 3 if output == "int" else [3, 3]}
                    continue
                [problem] = result.problems
                assert (problem.code, problem.where) == ("wrong-output", f"g/{output}")
                told = "'x'" if output == "int" else "a list of 2"
                declared = "int" if output == "int" else "list[int]"
                assert problem.text == f"{use!r} says that {output!r} is {declared}, but gave {told}"


def test_a_plan_tells_what_is_behind_a_choice_that_is_known(engine):
    """That the choice is cached does not say that what was chosen is."""
    nodes = {"even": {"use": "is_even", "with": {"a": 2}}, "yes": {"use": "fails", "with": {"a": 1}}, "no": plus(1, 1)}
    nodes["s"] = {"use": "pick", "from": {"condition": "even.bool", "on_true": "yes.int", "on_false": "no.int"}}
    workflow = flow(nodes, {"out": "s.value"})
    for _ in range(2):
        assert not engine.submit(workflow).result(5).ok
    assert {step.path: step.state for step in engine.plan(workflow).steps} == {"even": "skip", "yes": "run", "no": "skip", "s": "cached"}


def test_skip_skips_what_depends_on_it(engine):
    nodes = {"odd": {"use": "only_even", "with": {"a": 3}}, "after": plus(a="odd.int"), "other": plus(1)}
    result, seen = traced(engine, flow(nodes, {"out": "after.int", "other": "other.int"}))
    assert result.status == "ok"
    assert result.outputs == {"other": 1}
    assert result.skipped == {"out": "3 is odd"}
    assert sorted(seen["skipped"]) == ["after", "odd"]


# -- loops and graphs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 10, 2_000])
def test_loops(engine, turns):
    workflow = flow({"s": plus(7), "l": {"use": "repeat_plus", "from": {"value": "s.int"}, "with": {"count": turns}}}, {"out": "l.int"})
    result, seen = traced(engine, workflow)
    assert result.outputs == {"out": 7 + turns}
    assert max(map(len, seen["started"])) < 20, "paths of turns stay short"
    result, seen = traced(engine, workflow)
    assert result.outputs == {"out": 7 + turns}
    assert "started" not in seen


def test_a_loop_of_100_000_turns(engine):
    workflow = flow({"l": {"use": "repeat_plus", "with": {"value": 0, "count": 100_000}}}, {"out": "l.int"})
    assert engine.run(workflow).outputs == {"out": 100_000}


def test_a_returned_graph_that_holds_a_workflow(engine, tmp_path):
    body = flow({"p": plus(b=3, a="inputs.value")}, {"value": "p.int"}, inputs={"value": {"type": "int"}})
    nodes = {"a": plus(1), "u": {"use": "use_workflow", "from": {"value": "a.int"}, "with": {"body": body}}}
    workflow = flow(nodes, {"out": "u.int"})
    result, seen = traced(engine, workflow)
    assert result.outputs == {"out": 4}
    assert "u/body/p" in seen["finished"]
    _, seen = traced(engine, workflow)
    assert "started" not in seen
    (tmp_path / "body.json").write_text(Workflow.of(body).model_dump_json(by_alias=True, exclude_defaults=True))
    file = tmp_path / "main.json"
    nodes["u"]["with"]["body"] = "body.json"
    file.write_text(json.dumps(flow(nodes, {"out": "u.int"})))
    assert engine.run(file).outputs == {"out": 4}


def test_null_leaves_the_default_of_a_workflow_used_as_a_node(engine, tmp_path):
    """As it leaves that of the port of a node, so that an output of that type gives no null."""
    inner = flow({"o": {"use": "plus", "from": {"a": "inputs.a"}, "with": {"b": 1}}}, {"sum": "o.int", "as_given": "inputs.a"})
    (tmp_path / "inner.json").write_text(json.dumps({**inner, "inputs": {"a": {"type": "int", "default": 7}}}))
    nodes = {"i": {"use": "./inner.json", "from": {"a": "inputs.x"}}, "many": {"use": "./inner.json", "each": {"a": "inputs.several"}}}
    outer = flow(nodes, {"sum": "i.sum", "as_given": "i.as_given", "many": "many.sum"})
    declared = {"x": {"type": "int", "default": None}, "several": {"type": "list[int]", "default": [1, 2]}}
    (tmp_path / "outer.json").write_text(json.dumps({**outer, "inputs": declared}))
    assert engine.run(tmp_path / "outer.json").outputs == {"sum": 8, "as_given": 7, "many": [2, 3]}
    assert engine.run(tmp_path / "outer.json", x=1).outputs == {"sum": 2, "as_given": 1, "many": [2, 3]}


@node
def beside(a: int = 5, **more: int) -> int:
    return a + sum(more.values())


def test_null_leaves_the_default_of_a_port_beside_open_ones():
    declared = {"x": {"type": "int", "default": None}}
    workflow = flow({"n": {"use": "beside", "from": {"a": "inputs.x"}, "with": {"b": 1}}}, {"out": "n.int"}, inputs=declared)
    many = flow({"n": {"use": "beside", "each": {"b": [1, 2]}, "from": {"a": "inputs.x"}}}, {"out": "n.int"}, inputs=declared)
    with Engine(nodes=[beside], cache=False) as engine:
        assert [engine.run(workflow).outputs, engine.run(workflow, x=2).outputs] == [{"out": 6}, {"out": 3}]
        assert [engine.run(many).outputs, engine.run(many, x=2).outputs] == [{"out": [6, 7]}, {"out": [3, 4]}]


# -- each --------------------------------------------------------------------------------------------------------------


def test_each_over_a_literal_list_and_a_mapped_node_behind_it(engine):
    nodes = {
        "m": {"use": "plus", "each": {"a": [1, 2, 3]}, "with": {"b": 10}},
        "n": {"use": "plus", "each": {"a": "m.int"}, "with": {"b": 1}},
    }
    engine.run(flow({"m": {"use": "plus", "with": {"a": 0}}}, {"out": "m.int"}))  # known to be quick, it is left to one worker
    result, seen = traced(engine, flow(nodes, {"out": "n.int"}))
    assert result.outputs == {"out": [12, 13, 14]}
    order = seen["finished"]
    assert order.index("n[0]") < order.index("m[2]"), "depth first: no barrier between mapped nodes"


def test_equal_elements_have_equal_keys_whatever_the_length(engine):
    def workflow(items):
        return flow({"m": {"use": "plus", "each": {"a": items}, "with": {"b": 10}}}, {"out": "m.int"})

    traced(engine, workflow([1, 2, 3]))
    result, seen = traced(engine, workflow([3, 9, 1, 3]))
    assert result.outputs == {"out": [13, 19, 11, 13]}
    assert ran(seen) == ["m[1]"]


def test_each_over_a_list_whose_length_is_known_only_at_run_time(engine):
    def workflow(n):
        nodes = {
            "l": {"use": "count_up", "with": {"n": n}},
            "m": {"use": "plus", "each": {"a": "l.ints"}, "with": {"b": 10}},
            "t": {"use": "total", "from": {"items": "m.int"}},
        }
        return flow(nodes, {"all": "m.int", "sum": "t.int"})

    result, _ = traced(engine, workflow(3))
    assert result.outputs == {"all": [10, 11, 12], "sum": 33}
    result, seen = traced(engine, workflow(4))
    assert result.outputs == {"all": [10, 11, 12, 13], "sum": 46}
    assert [path for path in ran(seen) if "[" in path] == ["m[3]"]
    result, seen = traced(engine, workflow(0))
    assert result.outputs == {"all": [], "sum": 0}


@pytest.mark.parametrize("items", [[1, 2, 3], "up.ints"])
def test_mapped_nodes_do_not_wait_for_whole_lists_of_each_other(items):
    """Whether the list is known beforehand or not: one item goes all the way before the next begins, and none runs that nobody needs."""
    nodes = {
        "up": {"use": "count_up", "with": {"n": 3}},
        "one": {"use": "plus", "each": {"a": items}, "with": {"b": 1}},
        "two": {"use": "plus", "each": {"a": "one.int"}, "with": {"b": 20}},
        "three": {"use": "plus", "each": {"a": "two.int"}, "with": {"b": 300}},
        "same": {"use": flow({"n": plus(5)}, {"out": "n.int"}, inputs={"unused": {"type": "int"}}), "each": {"unused": "two.int"}},
    }
    with make_engine(threads=1) as engine:
        result, seen = traced(engine, flow(nodes, {"out": "three.int"}))
        assert [path for path in seen["started"] if path != "up"] == [f"{name}[{i}]" for i in range(3) for name in ("one", "two", "three")]
        result, seen = traced(engine, flow({**nodes, "one": {**nodes["one"], "with": {"b": 2}}}, {"out": "same.out"}))
        assert result.outputs == {"out": [5, 5, 5]}
        assert {path for path in seen["started"] if path != "up"} == {"same[0]/n"}


def test_each_nested_is_a_workflow_in_a_workflow(engine):
    inner = flow(
        {"m": {"use": "plus", "each": {"a": "inputs.row"}, "with": {"b": 1}}}, {"out": "m.int"}, inputs={"row": {"type": "list[int]"}}
    )
    result, _ = traced(engine, flow({"rows": {"use": inner, "each": {"row": [[1, 2], [], [3]]}}}, {"out": "rows.out"}))
    assert result.outputs == {"out": [[2, 3], [], [4]]}


def test_each_of_unequal_lengths_is_a_problem_before_and_at_run_time(engine):
    with pytest.raises(WorkflowInvalid, match="each-lengths"):
        engine.run(flow({"m": {"use": "plus", "each": {"a": [1, 2], "b": [1]}}}, {"out": "m.int"}))
    nodes = {"l": {"use": "count_up", "with": {"n": 2}}, "m": {"use": "plus", "each": {"a": "l.ints", "b": [1, 2, 3]}}, "x": plus(1)}
    result, _ = traced(engine, flow(nodes, {"out": "m.int", "x": "x.int"}))
    assert [problem.code for problem in result.problems] == ["each-lengths"]
    assert result.outputs == {"x": 1}


def test_a_failed_element_fails_whole_list_consumers_only(engine):
    nodes = {
        "f": {"use": "fails", "each": {"a": [1, 2, 3]}, "with": {"when": 2}},
        "next": {"use": "plus", "each": {"a": "f.int"}, "with": {"b": 10}},
        "sum": {"use": "total", "from": {"items": "f.int"}},
    }
    result, seen = traced(engine, flow(nodes, {"out": "next.int", "sum": "sum.int"}))
    assert result.status == "failed"
    assert result.outputs == {}
    assert result.partial == {"out": {0: 11, 2: 13}}
    assert sorted(seen["failed"]) == ["f[1]", "next[1]", "sum"]
    assert len(result.problems) == 1


def test_several_links_make_a_list_in_file_order(engine):
    nodes = {"a": plus(1), "b": plus(2), "l": {"use": "listed", "from": {"items": ["b.int", "a.int", "b.int"]}}}
    assert engine.run(flow(nodes, {"out": "l.value"})).outputs == {"out": [2, 1, 2]}


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_diamond_with_a_failing_side(engine):
    nodes = {
        "top": plus(1),
        "bad": {"use": "fails", "from": {"a": "top.int"}},
        "good": plus(b=1, a="top.int"),
        "join": plus(a="bad.int", b="good.int"),
        "more": plus(b=5, a="good.int"),
    }
    result, seen = traced(engine, flow(nodes, {"join": "join.int", "more": "more.int"}))
    assert result.status == "failed"
    assert result.outputs == {"more": 7}
    assert [problem.code for problem in result.problems] == ["node-failed"]
    assert result.problems[0].text == "'fails' failed: ValueError: no 1"
    assert seen["failed"] == ["bad", "join"]


def test_a_failure_is_not_kept(engine):
    workflow = flow({"bad": {"use": "fails", "with": {"a": 1}}}, {"out": "bad.int"})
    assert not traced(engine, workflow)[0].ok
    _, seen = traced(engine, workflow)
    assert seen["started"] == ["bad"]


# -- outside -----------------------------------------------------------------------------------------------------------


def test_an_effect_runs_every_time_over_cached_inputs(engine, tmp_path):
    engine.output = tmp_path
    workflow = flow({"a": plus(1, 2), "w": {"use": "write_text", "from": {"text": "a.int"}, "with": {"name": "x.txt"}}}, {"out": "a.int"})
    result, _ = traced(engine, workflow)
    assert result.files == [tmp_path / "x.txt"]
    (tmp_path / "x.txt").unlink()
    result, seen = traced(engine, workflow)
    assert (tmp_path / "x.txt").read_text() == "3"
    assert (seen["cached"], ran(seen)) == (["a"], ["w"])


def test_a_loop_whose_turns_link_to_each_other_starts_from_a_volatile_value(engine):
    VOLATILE["now"] = 5
    turn = {
        "a": {"use": "plus", "from": {"a": "inputs.value"}, "with": {"b": 1}},
        "b": {"use": "plus", "from": {"a": "a.int"}, "with": {"b": 1}},
    }
    body = flow(turn, {"value": "b.int"}, inputs={"value": {"type": "int"}})
    nodes = {"t": {"use": "ticks"}, "l": {"use": "repeat", "from": {"value": "t.int"}, "with": {"count": 2, "body": body}}}
    assert engine.run(flow(nodes, {"out": "l.value"})).outputs == {"out": 9}


def test_volatile_nodes_run_and_what_came_out_equal_behind_them_does_not(engine):
    workflow = flow(
        {"t": {"use": "ticks"}, "p": plus(b=1, a="t.int"), "before": plus(4), "q": plus(a="p.int", b="before.int")}, {"out": "q.int"}
    )
    VOLATILE["now"] = 10
    assert traced(engine, workflow)[0].outputs == {"out": 15}
    result, seen = traced(engine, workflow)
    assert (result.outputs, ran(seen)) == ({"out": 15}, ["t"])
    VOLATILE["now"] = 20
    result, seen = traced(engine, workflow)
    assert (result.outputs, ran(seen)) == ({"out": 25}, ["p", "q", "t"])


def test_a_computed_file_is_looked_at_again_when_it_changed(engine, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"12345")
    workflow = flow(
        {
            "f": {"use": "file_of", "with": {"name": str(path)}},
            "s": {"use": "size_of", "from": {"file": "f.file"}},
            "p": plus(b=1, a="s.int"),
        },
        {"out": "p.int"},
    )
    assert traced(engine, workflow)[0].outputs == {"out": 6}
    assert "started" not in traced(engine, workflow)[1]
    path.write_bytes(b"1234567")
    result, seen = traced(engine, workflow)
    assert (result.outputs, ran(seen)) == ({"out": 8}, ["f", "p", "s"])


@pytest.mark.parametrize("item", ["file", "size"])
@pytest.mark.parametrize("disk", [False, True])
def test_what_is_mapped_over_a_list_of_what_is_outside_is_looked_at_again(tmp_path, item, disk):
    """Also where the list comes while the run goes on, and its items are keyed by their content."""
    path = tmp_path / "data.bin"
    nodes = {
        "f": {"use": "file_of", "with": {"name": str(path)}},
        "g": {"use": "gathered", "from": {"values": ["f.file"]}},
        "s": {"use": "size_of", "each": {"file": "g.files"}},
        "listed": {"use": "listed", "from": {"items": "s.int"}},
        "p": {"use": "plus", "each": {"a": "listed.value"}, "with": {"b": 1}},
        "t": {"use": "total", "from": {"items": "p.int" if item == "size" else "s.int"}},
    }
    workflow = flow(nodes, {"out": "t.int"})
    for count in (1, 4, 4, 2):
        path.write_bytes(b"x" * count)
        with Engine(nodes=[*NODES, *EXTREMES], cache=tmp_path / "cache" if disk else False) as engine:
            for _ in range(2):
                assert engine.run(workflow).outputs == {"out": count + (item == "size")}
            path.write_bytes(b"x" * (count + 1))
            assert engine.run(workflow).outputs == {"out": count + 1 + (item == "size")}


def test_stateful_nodes_are_keyed_by_their_place(engine):
    nodes = {"x": {"use": "place", "with": {"a": 1}}, "y": {"use": "place", "with": {"a": 1}}}
    assert engine.run(flow(nodes, {"x": "x.text", "y": "y.text"})).outputs == {"x": "x", "y": "y"}


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["slow", "slow_async"])
def test_independent_branches_overlap(engine, use):
    nodes = {name: {"use": use, "with": {"a": number, "seconds": 0.5}} for number, name in enumerate("abc")}
    begun = time.perf_counter()
    engine.run(flow(nodes, {name: f"{name}.int" for name in nodes}))
    assert time.perf_counter() - begun < 1.4, "three waits of half a second, one after another, take 1.5 s"


def test_two_branches_meet(engine):
    nodes = {"a": {"use": "meets", "with": {"a": 1}}, "b": {"use": "meets", "with": {"a": 2}}}
    assert engine.run(flow(nodes, {"a": "a.int", "b": "b.int"})).outputs == {"a": 1, "b": 2}


def test_identical_work_in_flight_is_done_once(engine):
    CALLS.clear()
    workflow = flow({"s": {"use": "slow", "with": {"a": 3, "seconds": 0.2}}, "p": plus(a="s.int", b=77)}, {"out": "p.int"})
    jobs = [engine.submit(workflow) for _ in range(50)]
    assert {job.result(timeout=30).outputs["out"] for job in jobs} == {80}
    assert CALLS.count("plus") == 1


def test_cancel_stops_within_a_step_and_the_next_run_is_right(engine):
    workflow = flow({"s": {"use": "steps", "with": {"a": 1, "count": 1000}}}, {"out": "s.int"})
    job = engine.submit(workflow)
    for event in job.events():
        if event.kind == "progress":
            job.cancel()
            break
    result = job.result(timeout=5)
    assert (result.status, result.outputs) == ("cancelled", {})
    assert engine.run(flow({"s": {"use": "steps", "with": {"a": 1, "count": 3}}}, {"out": "s.int"})).outputs == {"out": 1}


def test_a_cancelled_owner_of_a_claim_blocks_nobody(engine):
    workflow = flow({"s": {"use": "steps", "with": {"a": 1, "count": 60}}}, {"out": "s.int"})
    first = engine.submit(workflow)
    next(event for event in first.events() if event.kind == "progress")
    second = engine.submit(workflow)
    time.sleep(0.05)
    first.cancel()
    assert first.result(timeout=5).status == "cancelled"
    assert second.result(timeout=30).outputs == {"out": 1}


def test_closing_an_engine_cancels_what_is_not_done(tmp_path):
    with make_engine() as engine:
        done = engine.submit(flow({"a": plus(1)}, {"out": "a.int"}))
        done.result(timeout=5)
        nodes = {
            "s": {"use": "steps", "each": {"a": list(range(20))}, "with": {"count": 1000}},
            "z": {"use": "slow_async", "with": {"a": 1, "seconds": 60}},
        }
        jobs = [engine.submit(flow(nodes, {"out": "s.int", "z": "z.int"})) for _ in range(3)]
    assert done.result(timeout=5).outputs == {"out": 1}
    assert {job.result(timeout=5).status for job in jobs} == {"cancelled"}
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(flow({"a": plus(1)}, {"out": "a.int"}))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("does", ["run", "close"])
def test_a_node_that_calls_its_engine_fails(does, asynchronous):
    """In place of waiting for itself."""

    def called(a: int) -> int:
        if does == "close":
            engines[0].close()
        return engines[0].run(flow({"p": plus(a)}, {"out": "p.int"})).outputs["out"]

    async def called_async(a: int) -> int:
        return called(a)

    with Engine(nodes=[*NODES, node(name="calls")(called_async if asynchronous else called)], cache=False, threads=1) as engine:
        engines = [engine]
        workflow = flow({"c": {"use": "calls", "with": {"a": 1}}}, {"out": "c.int"})
        [problem] = engine.submit(workflow).result(5).problems
        assert (problem.code, problem.where) == ("node-failed", "c")
        assert "a node cannot" in problem.text
        assert engine.run(flow({"p": plus(1)}, {"out": "p.int"})).outputs == {"out": 1}


def test_events_begin_with_planned_and_end_with_done(engine):
    job = engine.submit(flow({"a": plus(1)}, {"out": "a.int"}))
    events = list(job.events())
    assert [event.kind for event in events] == ["planned", "started", "finished", "done"]
    assert events[0].data["total"] == 1
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert {event.run for event in events} == {job.id}
    assert set(events[1].to_json()) == {"event", "v", "run", "seq", "time", "node"}


@node
def previewed(run: Run, count: int, total: int) -> int:
    made = []

    def preview(step: int) -> Image:
        made.append(step)
        return Image(numpy.full((1, 3, 1, 1), step / 100, numpy.float32))

    for step in range(1, count + 1):
        run.progress(step, total, preview=partial(preview, step))
    return int("".join(map(str, made)))


def test_a_reader_of_events_is_told_at_once_whatever_others_read():
    log = EventLog("run", lambda steps: [""] * len(list(steps)))
    log.add("planned", -1, {"total": 2})
    told = threading.Semaphore(0)

    def read():
        for _ in log:
            told.release()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert told.acquire(timeout=5)
    for _ in range(3):
        while not log._waiting:
            time.sleep(0.001)
        next(iter(log))  # another one, that begins now, has something to read
        assert log._waiting, "the first one is told of what comes, in place of looking for it now and then"
        log.add("started", 0)
        assert told.acquire(timeout=5)
    log.close({})
    reader.join(5)


def test_previews_are_made_at_the_first_and_the_last_step_and_now_and_then(monkeypatch):
    monkeypatch.setattr(noderun, "PREVIEW", 1e9)
    with Engine(nodes=[previewed], cache=False) as engine:
        for count, made in ((9, 19), (8, 1)):
            job = engine.submit(flow({"p": {"use": "previewed", "with": {"count": count, "total": 9}}}, {"out": "p.int"}))
            assert job.result().outputs == {"out": made}
            (told,) = [event.data for event in job.events() if event.kind == "progress"]  # nobody looked before the end
            assert (told["step"], round(float(told["preview"].numpy().max() * 100))) == (count, made % 10), "a preview is not lost"
        monkeypatch.setattr(noderun, "PREVIEW", 0)
        assert engine.run(flow({"p": {"use": "previewed", "with": {"count": 4, "total": 9}}}, {"out": "p.int"})).outputs == {"out": 1234}


def test_only_takes_one_name_as_it_is(engine):
    workflow = flow({"a": plus(1, 2), "b": plus(3, 4)}, {"one": "a.int", "two": "b.int"})
    assert engine.run(workflow, only="two").outputs == engine.run(workflow, only=["two"]).outputs == {"two": 7}
    assert engine.run(workflow, only="a.int").outputs == {"a.int": 3}
    assert [step.state for step in engine.plan(workflow, only="two").steps] == ["skip", "cached"]


def test_only_asks_for_less(engine, tmp_path):
    engine.output = tmp_path
    nodes = {"a": plus(1), "b": plus(2), "w": {"use": "write_text", "from": {"text": "b.int"}, "with": {"name": "b.txt"}}}
    workflow = flow(nodes, {"a": "a.int", "b": "b.int"})
    job = engine.submit(workflow, only=["a"])
    assert job.result(timeout=5).outputs == {"a": 1}
    assert not (tmp_path / "b.txt").exists()
    assert engine.submit(workflow, only=["b.int"]).result(timeout=5).outputs == {"b.int": 2}


def test_nodes_that_stand_for_several_can_be_asked_for(engine, tmp_path):
    """Those that are mapped, before or while running, and workflows."""
    engine.output = tmp_path
    write = {"use": "write_text", "from": {"text": "x.int"}, "with": {"name": "x.txt"}}
    inner = {"nodes": {"x": plus(3), "write": write}, "outputs": {"x": "x.int"}}
    nodes = {
        "literal": {"use": "plus", "each": {"a": [1, 2]}},
        "counted": {"use": "count_up", "with": {"n": 3}},
        "late": {"use": "plus", "each": {"a": "counted.ints"}, "with": {"b": 10}},
        "inner": {"use": inner},
    }
    workflow = flow(nodes, {"c": "counted.ints"})
    for asked, given in (("literal.int", [1, 2]), ("late.int", [10, 11, 12]), ("inner.x", 3), ("literal[1].int", 2), ("inner/x.int", 3)):
        assert engine.submit(workflow, only=[asked]).result(timeout=5).outputs == {asked: given}
    assert not (tmp_path / "x.txt").exists()
    seen = {event.node for event in engine.submit(workflow, only=["literal"], cache=False).events() if event.kind == "finished"}
    assert seen == {"literal[0]", "literal[1]"}
    assert engine.submit(workflow, only=["inner"]).result(timeout=5).ok
    assert (tmp_path / "x.txt").exists()
    states = {step.path: step.state for step in engine.plan(workflow, only=["late"]).steps}
    assert (states["late"], states["late[2]"], states["inner/write"]) == ("cached", "cached", "skip")
    with pytest.raises(WorkflowInvalid, match=r"did you mean 'late\.int'"):
        engine.submit(workflow, only=["lat.int"])


def test_plan_knows_the_items_of_lists_that_are_cached(engine):
    """They were told as to be run, until the list was there again."""
    nodes = {
        "list": {"use": "count_up", "from": {"n": "inputs.n"}},
        "twice": {"use": "plus", "each": {"a": "list.ints"}, "from": {"b": "inputs.b"}},
        "again": {"use": "plus", "each": {"a": "twice.int"}, "with": {"b": 1}},
    }
    inputs = {"n": {"type": "int", "default": 2}, "b": {"type": "int", "default": 5}}
    workflow = flow(nodes, {"out": "again.int"}, inputs=inputs)

    def states(**given: int) -> dict[str, str]:
        return {step.path: step.state for step in engine.plan(workflow, given).steps}

    assert states() == {"list": "run", "twice": "run", "again": "run"}
    for count in (2, 0):
        assert engine.run(workflow, n=count).outputs["out"] == [6, 7][:count]
        items = [f"{name}[{index}]" for name in ("twice", "again") for index in range(count)]
        assert states(n=count) == dict.fromkeys([*nodes, *items], "cached")
    assert states(b=6) == {"list": "cached", **dict.fromkeys([path for path in states() if path != "list"], "run")}
    save = {"use": "write_text", "each": {"text": "list.ints"}, "with": {"name": "{n}.txt"}}
    with_effect = flow({**nodes, "save": save}, {}, inputs=inputs)
    found = {step.path: step.state for step in engine.plan(with_effect).steps}
    assert (found["save"], found["save[0]"], found["twice"]) == ("run", "effect", "skip")


def test_a_node_asked_for_by_name_is_computed_whatever_it_turns_out_to_stand_for(engine):
    """A list, a graph, an input that it chose: those of a list inside of a list too."""
    inner = flow({"r": {"use": "repeat_plus", "from": {"count": "inputs.n"}, "with": {"value": 1}}}, {"out": "r.int"})
    nodes = {
        "n": {"use": "count_up", "with": {"n": 3}},
        "late": {"use": "plus", "each": {"a": "n.ints"}, "with": {"b": 10}},
        "loop": {"use": "repeat_plus", "with": {"value": 1, "count": 2}},
        "loops": {"use": {**inner, "inputs": {"n": {"type": "int"}}}, "each": {"n": "n.ints"}},
        "chosen": {"use": "first_there", "from": {"one": "late.int"}},
        "bad": {"use": "fails", "each": {"a": "n.ints"}, "with": {"when": 1}},
    }
    workflow = flow(nodes, {})
    items = {f"late[{index}]" for index in range(3)}
    expected = {"late": items, "loop": {"loop", "loop@2", "loop@3", "loop@1/turn", "loop@2/turn"}, "chosen": items | {"chosen"}}
    expected["loops"] = {"loops[0]/r", *(f"loops[{index}]/r@1/turn" for index in (1, 2)), "loops[2]/r@2/turn"}
    for name, steps in expected.items():
        job = engine.submit(workflow, only=name, cache=False)
        assert steps <= {event.node for event in job.events() if event.kind == "finished"}
        assert job.result(5).ok
        assert [engine.submit(workflow, only=name).result(5).status for _ in range(2)] == ["ok", "ok"]
    result = engine.submit(workflow, only="bad").result(5)
    assert [problem.where for problem in result.problems] == ["bad[1]"]


def test_no_cache_neither_looks_up_nor_keeps(engine):
    workflow = flow({"a": plus(5, 5)}, {"out": "a.int"})
    engine.run(workflow)
    CALLS.clear()
    assert engine.run(workflow, cache=False).outputs == {"out": 10}
    assert CALLS == ["plus"]


def test_results_do_not_depend_on_cache_or_threads():
    nodes = {f"n{i}": plus(i, f"n{i - 3}.int" if i > 2 else 0) for i in range(40)}
    workflow = flow(nodes, {f"o{i}": f"n{i}.int" for i in range(40)})
    results = []
    for threads, cache in ((1, True), (8, True), (8, False)):
        with make_engine(threads=threads) as engine:
            results.append(engine.run(workflow, cache=cache).outputs)
    assert results[0] == results[1] == results[2]


def test_a_node_may_give_several_outputs(engine):
    nodes = {"h": {"use": "halves", "with": {"a": 7}}, "p": plus(a="h.left", b="h.right")}
    assert engine.run(flow(nodes, {"out": "p.int", "left": "h.left"})).outputs == {"out": 7, "left": 3}


# -- the disk tier -----------------------------------------------------------------------------------------------------


def test_outputs_survive_a_restart(tmp_path: Path):
    workflow = flow({"a": plus(1, 2), "b": plus(b=5, a="a.int")}, {"out": "b.int"})
    with make_engine(cache=tmp_path) as engine:
        traced(engine, workflow)
    with make_engine(cache=tmp_path) as engine:
        result, seen = traced(engine, workflow)
        assert (result.outputs, seen["cached"]) == ({"out": 8}, ["b"])
        assert "started" not in seen


def test_a_damaged_cache_is_a_miss(tmp_path: Path):
    workflow = flow({"a": plus(1, 2)}, {"out": "a.int"})
    with make_engine(cache=tmp_path) as engine:
        traced(engine, workflow)
    import sqlite3

    with sqlite3.connect(tmp_path / "index.sqlite") as database:
        database.execute("UPDATE results SET body = zeroblob(length(body))")
    with make_engine(cache=tmp_path) as engine:
        result, seen = traced(engine, workflow)
        assert (result.outputs, ran(seen)) == ({"out": 3}, ["a"])


def test_a_cache_folder_that_cannot_be_used_is_done_without(tmp_path: Path, caplog):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with make_engine(cache=tmp_path / "cache") as engine:
        assert engine.run(flow({"a": plus(1)}, {"out": "a.int"})).outputs == {"out": 1}
    assert "going on without the disk tier" in caplog.text
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "index.sqlite").write_bytes(b"no database at all" * 100)
    with make_engine(cache=tmp_path / "garbage") as engine:
        assert engine.run(flow({"a": plus(1)}, {"out": "a.int"})).outputs == {"out": 1}


def test_files_in_lists_are_looked_up(engine, tmp_path):
    for name, text in (("a.txt", "1"), ("b.txt", "22")):
        (tmp_path / name).write_text(text)
    inner = flow({"s": {"use": "size_of", "from": {"file": "inputs.file"}}}, {"n": "s.int"}, inputs={"file": {"type": "file"}})
    nodes = {
        "each": {"use": "size_of", "each": {"file": ["a.txt", "b.txt"]}},
        "given": {"use": "size_of", "each": {"file": "inputs.files"}},
        "inner": {"use": inner, "with": {"file": "b.txt"}},
    }
    outputs = {"each": "each.int", "given": "given.int", "inner": "inner.n"}
    file = tmp_path / "w.json"
    record = flow(nodes, outputs, inputs={"files": {"type": "list[file]", "default": ["b.txt", "a.txt"]}})
    file.write_text(json.dumps(record))
    assert engine.run(file).outputs == {"each": [1, 2], "given": [2, 1], "inner": 2}
    (tmp_path / "a.txt").write_text("4444")
    assert engine.run(file).outputs == {"each": [4, 2], "given": [2, 4], "inner": 2}


@node
def one_more(value: int) -> int:
    return value + 1


@pytest.mark.parametrize("again", [False, True])
def test_inner_nodes_can_be_asked_for_beside_outputs(again):
    """Also once their type is known to be short, and they take the short path."""
    nodes = {"a": {"use": "one_more", "with": {"value": 1}}, "b": {"use": "one_more", "from": {"value": "a.int"}}}
    with Engine(nodes=[one_more], cache=False) as engine:
        if again:
            assert engine.run(flow({"x": {"use": "one_more", "with": {"value": 50}}}, {"x": "x.int"})).ok
        result = engine.submit(flow(nodes, {"x": "b.int"}), only=["a", "x"]).result(timeout=20)
        assert result.outputs["x"] == 3


@node
def bounded_add(
    a: Annotated[int, Field(ge=0)], b: Annotated[float, Field(le=9)] = 0.0, way: Literal["up", "down"] = "up", *, run: Run
) -> float:
    """Not plain, as it takes a run."""
    return a + b if way == "up" else a - b


@node
def small_sum(parts: Annotated[list[int], Field(le=9)]) -> float:
    """The sum of some small numbers."""
    return float(sum(parts))


@node
def open_sum(**parts: Annotated[float, Field(gt=0)]) -> float:
    """The sum of all inputs."""
    return sum(parts.values())


@node
def half(value: Annotated[int, Field(ge=0)]) -> float:
    """A plain node."""
    return value / 2


@node
def spelled(text: str) -> float:
    """Any number, also none."""
    return float(text)


BEYOND = [
    ({"use": "bounded_add", "from": {"a": "minus.int"}}, "x.a", "'a' must be at least 0, but is -1", "use 0"),
    ({"use": "bounded_add", "with": {"a": 1}, "from": {"b": "nan.float"}}, "x.b", "'b' must be at most 9, but is nan", "use 9"),
    ({"use": "small_sum", "from": {"parts": ["one.int", "ten.int"]}}, "x.parts", "'parts' must be at most 9, but is 10", "use 9"),
    ({"use": "open_sum", "from": {"p": "minus.int"}}, "x.p", "'p' must be greater than 0, but is -1", "use a number greater than 0"),
    ({"use": "half", "from": {"value": "minus.int"}}, "x.value", "'value' must be at least 0, but is -1", "use 0"),
    ({"use": "half", "each": {"value": "list.ints"}}, "x[1].value", "'value' must be at least 0, but is -1", "use 0"),
    (
        {"use": "bounded_add", "with": {"a": 1}, "from": {"way": "text.text"}},
        "x.way", "'way' must be one of 'up', 'down', but is 'upp'", "did you mean 'up'?",
    ),
]  # fmt: skip


@node
def minus_list(value: int) -> list[int]:
    """A number and the next lower one."""
    return [value, value - 1]


@node
def suffixed(text: str) -> str:
    """The text and its last letter once more."""
    return text + text[-1]


@pytest.mark.parametrize(("use", "where", "text", "fix"), BEYOND, ids=[f"{use['use']}-{where}" for use, where, _, _ in BEYOND])
def test_what_another_node_gave_must_be_within_the_bounds_of_the_port(use, where, text, fix):
    nodes = {
        "one": plus(1, 0),
        "ten": plus(10, 0),
        "minus": plus(-1, 0),
        "nan": {"use": "spelled", "with": {"text": "nan"}},
        "text": {"use": "suffixed", "with": {"text": "up"}},
        "list": {"use": "minus_list", "with": {"value": 0}},
        "x": use,
    }
    more = [bounded_add, small_sum, open_sum, half, spelled, minus_list, suffixed]
    with Engine(nodes=[*NODES, *more], cache=False) as engine:
        for _ in range(2):  # the second time all nodes are known to be quick
            (problem,) = engine.submit(flow(nodes, {"x": "x.float"})).result().problems
            assert (problem.where, problem.text, problem.fix) == (where, text, fix)
            assert problem.code == ("not-a-choice" if "one of" in text else "out-of-range")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_effects_over_a_list_happen_though_nothing_needs_them(engine, tmp_path, inside, known):
    """Also where the list comes when the run goes on."""
    write = {"use": "write_text", "from": {"text": "inputs.n"}, "with": {"name": "x"}}
    inner = flow({"save": write, "p": plus(a="inputs.n")}, {"out": "p.int"}, inputs={"n": {"type": "int"}})
    items = [0, 1, 2] if known else "up.ints"
    saving = {"use": inner, "each": {"n": items}} if inside else {"use": "write_text", "each": {"text": items}, "with": {"name": "x"}}
    workflow = flow({"up": {"use": "count_up", "with": {"n": 3}}, "s": saving}, {"out": "up.ints"})
    for _ in range(2):
        assert engine.submit(workflow, output=tmp_path).result(5).ok
        assert CALLS.count("write_text") == 3
        CALLS.clear()


@pytest.mark.parametrize("items", [[0, 1, 2], "up.ints"])
def test_an_item_that_fails_leaves_the_others_to_what_is_mapped_behind_it(engine, items):
    """Whether the list is known beforehand or not."""
    nodes = {
        "up": {"use": "count_up", "with": {"n": 3}},
        "fails": {"use": "fails", "each": {"a": items}, "with": {"when": 1}},
        "even": {"use": "only_even", "each": {"a": items}},
        "after": {"use": "plus", "each": {"a": "fails.int"}, "with": {"b": 10}},
        "behind": {"use": "plus", "each": {"a": "even.int"}, "with": {"b": 10}},
        "last": {"use": "plus", "each": {"a": "after.int"}, "with": {"b": 10}},
    }
    result = engine.submit(flow(nodes, {name: f"{name}.int" for name in ("after", "behind", "last")})).result(5)
    assert result.partial == {"after": {0: 10, 2: 12}, "behind": {0: 10, 2: 12}, "last": {0: 20, 2: 22}}
    assert list(result.skipped) == ["behind"]
    assert [problem.where for problem in result.problems] == ["fails[1]"]


# -- whose values are they ---------------------------------------------------------------------------------------------


def held(*, image: bool = False) -> tuple[Any, Any]:
    """A node that keeps its input for as long as nobody opens the gate, and the gate."""
    gate = threading.Event()

    @node(name="held")
    def held(value: Any) -> Any:
        gate.wait(5)
        return value

    @node(name="held")
    def held_image(value: Image) -> Image:
        gate.wait(5)
        return Image(value.numpy()[:1])

    return held_image if image else held, gate


@pytest.mark.parametrize("kind", ["any", "json"])
@pytest.mark.parametrize("written", [False, True])
def test_what_is_given_may_be_changed_while_the_run_goes_on(kind, written):
    used, gate = held()
    inner = [1]
    whole = {"a": inner}
    link = {"with": {"value": whole}} if written else {"from": {"value": "inputs.v"}}
    workflow = {"inputs": {} if written else {"v": {"type": kind}}, "nodes": {"h": {"use": "held", **link}}, "outputs": {"o": "h.value"}}
    with Engine(nodes=[used], cache=False) as engine:
        job = engine.submit(workflow, {} if written else {"v": whole})
        inner.append(2)
        gate.set()
        assert job.result(5).outputs == {"o": {"a": [1]}}
        inner.pop()
        assert engine.run(workflow, {} if written else {"v": whole}).outputs == {"o": {"a": [1]}}, "what was kept is what was given"


def test_a_buffer_of_pixels_may_be_filled_again_while_the_run_goes_on():
    used, gate = held(image=True)
    workflow = flow({"h": {"use": "held", "from": {"value": "inputs.v"}}}, {"o": "h.image"}, inputs={"v": {"type": "image"}})
    buffer = numpy.zeros((1, 3, 2, 2), numpy.float32)
    with Engine(nodes=[used], cache=False) as engine:
        job = engine.submit(workflow, v=buffer)
        buffer[:] = 1
        gate.set()
        assert job.result(5).outputs["o"].numpy().max() == 0
        buffer[:] = 0
        kept = engine.run(workflow, v=buffer)
        buffer[:] = 1
        assert kept.outputs["o"].numpy().max() == 0


def test_what_a_run_gave_may_be_changed(engine):
    """The cache keeps its own."""
    nodes = {
        "list": {"use": "count_up", "with": {"n": 3}},
        "all": {"use": "anything", "with": {"value": {"a": [1, 2]}}},
        "each": {"use": "count_up", "each": {"n": [1, 2]}},
        "odd": {"use": "fails", "each": {"a": [1, 2]}, "with": {"when": 2}},
    }
    outputs = {"list": "list.ints", "all": "all.value", "each": "each.ints", "default": "inputs.d", "odd": "odd.int"}
    workflow = Workflow.of(flow(nodes, outputs, inputs={"d": {"type": "json", "default": {"a": [1]}}}))
    expected = {"list": [0, 1, 2], "all": {"a": [1, 2]}, "each": [[0], [0, 1]], "default": {"a": [1]}}
    for _ in range(3):
        result = engine.submit(workflow).result(5)
        assert (result.outputs, result.partial) == (expected, {"odd": {0: 1}})
        for one in (result.outputs["list"], result.outputs["all"]["a"], result.outputs["each"][0], result.outputs["default"]["a"]):
            one.append(9)
        result.outputs["each"].clear()
        result.outputs["all"].clear()


def test_what_a_node_says_after_the_end_is_not_heard():
    kept = []

    @node
    def leaves_a_thread(n: int, *, run: Run) -> int:
        kept.append(run)
        return n

    with Engine(nodes=[leaves_a_thread], cache=False) as made:
        job = made.submit(flow({"a": {"use": "leaves_a_thread", "with": {"n": 1}}}, {"out": "a.int"}))
        job.result()
        kept[0].progress(1, 2)
        assert [event.kind for event in job.events()] == ["planned", "started", "finished", "done"]


def test_a_reader_ends_with_the_run_though_a_node_speaks_while_it_ends():
    log = EventLog("r", lambda steps: ["" for _ in steps])
    log.close({})
    log.add("progress", 0, {})  # its thread has looked before the run was over
    assert [event.kind for event in log] == ["done"]


@pytest.mark.parametrize("given", [5, "a", ["a"], {"a"}, [("a", 1)], {1: 2}, {None: 2}, {"a": 1, 2: 3}])
def test_what_is_given_by_name_is_a_mapping(engine, given):
    workflow = flow({"n": plus("inputs.a", 2)}, {"out": "n.int"}, inputs={"a": {"type": "int", "default": 1}})
    asks = {"inputs": (engine.run, engine.submit, engine.plan)}
    asks |= {name: (lambda source, wrong, name=name: engine.submit(source, **{name: wrong}),) for name in ("overrides", "origins")}
    for what, several in asks.items():
        for ask in several:
            with pytest.raises(WorkflowInvalid, match=f"{what} are given by name, but this is ") as refused:
                ask(workflow, given)
            named = "{'NODE.INPUT': value}" if what == "overrides" else "{'a': …}"
            assert refused.value.problems[0].fix == f"write them as a mapping such as {named}"


@pytest.mark.parametrize("only", [None, 5, [None], ["out", 5], b"out"])
def test_only_takes_names(engine, only):
    workflow = flow({"a": plus(1, 2)}, {"out": "a.int"})
    for ask in (engine.run, engine.plan):
        with pytest.raises(WorkflowInvalid, match="only takes names of outputs") as refused:
            ask(workflow, only=only)
        assert refused.value.problems[0].fix == "the outputs are 'out'; leave it away for all of them"


@pytest.mark.parametrize(
    ("kind", "given", "fix"),
    [
        ("image", "x.png", "give float32 [B,3,H,W] in 0..1, or a PIL picture"),
        ("mask", numpy.ones((1, 5, 4, 4), "float32"), "give float32 [B,1,H,W] in 0..1, or a PIL picture"),
        ("list[latent]", ["a"], "give an object of the class Latent"),
        ("video | none", 3, "give an object of the class Video"),
        ("secret", 3, "give its text, which is not empty"),
    ],
)
def test_the_fix_for_an_input_says_what_to_give(engine, kind, given, fix):
    with pytest.raises(WorkflowInvalid) as refused:
        engine.run({"inputs": {"i": {"type": kind}}, "nodes": {}, "outputs": {"o": "inputs.i"}}, {"i": given})
    assert refused.value.problems[0].fix == fix


def test_what_looks_at_the_output_of_a_graph_is_no_namesake_of_its_nodes():
    @node
    def anything(n: int) -> Any:
        return n

    @node
    def namesake(n: int) -> int:
        graph = Graph()
        return graph.give(int=graph.add("int", "anything", n=n)["value"])

    with Engine(nodes=[anything, namesake], cache=False) as made:
        result, seen = traced(made, flow({"a": {"use": "namesake", "with": {"n": 1}}}, {"out": "a.int"}))
    assert result.outputs == {"out": 1}
    assert ran(seen) == ["a", "a/int", "a/int_"]
