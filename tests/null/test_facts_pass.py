"""Facts on their way through workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_packs import HEAD, write

from nodegraph import Engine

NODES = (
    HEAD
    + """
@node
def read(text: str) -> int:
    'A.'
    return int(text)

@node
def cut(width: int) -> list[int]:
    'A.'
    return [width]

@node
def join(a: list[int], b: list[int]) -> list[int]:
    'A.'
    return [*a, *b]

@node
def fill(text: str, **fields: int) -> str:
    'A.'
    return text
"""
)
FACTS = """
from nodegraph.facts import Facts, Mismatch, differ

def cut(width):
    return Facts(width=width.get("value"))

def join(a, b):
    return Mismatch("b", "other widths") if differ(a.get("width"), b.get("width")) else Facts(width=a.get("width"))

def fill(text, **fields):
    return {} if text.get("value") in fields else Mismatch("text", "there is no such field")
"""
CHILD = {
    "inputs": {"width": {"type": "int", "default": 64}},
    "nodes": {"cut": {"use": "cut", "from": {"width": "inputs.width"}}},
    "outputs": {"width": "cut.ints"},
}


@pytest.fixture
def engine(tmp_path: Path):
    write(tmp_path / "mine", nodes=NODES, facts=FACTS)
    with Engine(packs=[tmp_path / "mine"], cache=False) as made:
        yield made


def using(**child: Any) -> dict[str, Any]:
    """A workflow that joins what it cuts at 32 with what its child cuts."""
    nodes = {
        "read": {"use": "read", "with": {"text": "32"}},
        "child": {"use": CHILD, **child},
        "cut": {"use": "cut", "with": {"width": 32}},
        "join": {"use": "join", "from": {"a": "cut.ints", "b": "child.width"}},
    }
    return {"nodes": nodes, "outputs": {"all": "join.ints"}}


def test_a_linked_input_of_a_child_is_not_its_default(engine: Engine) -> None:
    flow = using(**{"from": {"width": "read.int"}})
    assert engine.check(flow) == []
    assert list(engine.run(flow).outputs["all"]) == [32, 32]


@pytest.mark.parametrize(
    ("child", "codes"), [({}, ["facts-mismatch"]), ({"with": {"width": 32}}, []), ({"with": {"width": 8}}, ["facts-mismatch"])]
)
def test_an_input_of_a_child_that_is_known(engine: Engine, child: dict[str, Any], codes: list[str]) -> None:
    assert [problem.code for problem in engine.check(using(**child))] == codes


@pytest.mark.parametrize("section", ["from", "each", "with"])
def test_open_ports_are_known_however_they_are_given(engine: Engine, section: str) -> None:
    given = {"with": {"b": 2}, "from": {"b": "read.int"}, "each": {"b": "cut.ints"}}[section]
    nodes: dict[str, Any] = {"read": {"use": "read", "with": {"text": "32"}}, "cut": {"use": "cut", "with": {"width": 3}}}
    for text, codes in (("b", []), ("c", ["facts-mismatch"])):
        fill = {"use": "fill", section: given}
        fill["with"] = {**fill.get("with", {}), "text": text}
        assert [one.code for one in engine.check({"nodes": {**nodes, "fill": fill}})] == codes
