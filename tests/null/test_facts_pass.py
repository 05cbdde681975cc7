"""Facts on their way through workflows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_packs import HEAD, write

from nodegraph import Engine, Workflow, WorkflowInvalid

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


def asking(width: int) -> dict[str, Any]:
    """A workflow that joins what it cuts at a width that it is given with what it cuts at 32, and reads a file that it is given."""
    nodes = {
        "cut": {"use": "cut", "from": {"width": "inputs.width"}},
        "other": {"use": "cut", "with": {"width": 32}},
        "join": {"use": "join", "from": {"a": "cut.ints", "b": "other.ints"}},
        "text": {"use": "load_text", "from": {"file": "inputs.file"}},
    }
    inputs = {"width": {"type": "int", "default": width}, "file": {"type": "file", "default": "nowhere.txt"}}
    return {"inputs": inputs, "nodes": nodes, "outputs": {"all": "join.ints", "text": "text.text"}}


@pytest.mark.parametrize("width", [32, 64])
def test_what_is_wrong_with_a_default_alone_does_not_matter_where_a_value_is_given(engine: Engine, tmp_path: Path, width: int) -> None:
    """A workflow of somebody else's, whose models or files are not here, could not be run with one's own."""
    (tmp_path / "here.txt").write_text("read")
    flow, given = asking(width), {"width": 32, "file": str(tmp_path / "here.txt")}
    assert engine.check(flow)
    for _ in range(2):
        assert engine.run(flow, given).outputs == {"all": [32, 32], "text": "read"}
        assert len(engine.plan(flow, given).steps) == 4
        assert engine.check(flow, given) == []
    wrong = {"file-missing": [{"width": 32}, {**given, "file": None}], "facts-mismatch": [{**given, "width": 64}]}
    for code, bad in [(code, bad) for code, several in wrong.items() for bad in several]:
        with pytest.raises(WorkflowInvalid) as caught:
            engine.run(flow, bad)
        assert [problem.code for problem in caught.value.problems] == [code]


@pytest.mark.parametrize("inline", [False, True])
def test_what_is_wrong_with_a_default_of_a_child_does_not_matter_where_it_is_given_a_value(
    engine: Engine, tmp_path: Path, inline: bool
) -> None:
    (tmp_path / "here.txt").write_text("read")
    (tmp_path / "child.json").write_text(json.dumps({"nodegraph": 1, **asking(64)}))
    child = {"use": asking(64) if inline else "./child.json", "with": {"width": 32, "file": "here.txt"}}
    outer = tmp_path / "outer.json"

    def codes(**section: Any) -> list[str]:
        nodes = {"read": {"use": "read", "with": {"text": "32"}}, "child": {**child, **section}, "again": child}
        outer.write_text(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"all": "child.all", "text": "child.text"}}))
        return [problem.code for problem in engine.check(outer)]

    assert codes() == []
    assert engine.run(outer).outputs == {"all": [32, 32], "text": "read"}
    assert codes(**{"from": {"width": "read.int"}, "with": {"file": "here.txt"}}) == []
    assert engine.run(outer).outputs["all"] == [32, 32]
    assert codes(**{"with": {"width": 32}}) == ["file-missing"]
    assert codes(**{"with": {"width": 8, "file": "here.txt"}}) == ["facts-mismatch"]
    assert codes(**{"with": {"width": 32, "file": "there.txt"}}) == ["file-missing"]


def nested(depth: int, width: int = 32, files: Path | None = None, **port: Any) -> dict[str, Any]:
    """A workflow in a workflow in a workflow …, those of files each used twice, in which the innermost is given its file."""
    flow = {"nodegraph": 1, **asking(width)}
    for number in range(depth):
        use: Any = flow
        if files is not None:
            (files / f"w{number}.json").write_text(json.dumps(flow))
            use = f"./w{number}.json"
        nodes = {name: {"use": use, "from": {"file": "inputs.file"}} for name in ("a" if files is None else "ab")}
        flow = {"nodegraph": 1, "inputs": {"file": {"type": "file", **port}}, "nodes": nodes, "outputs": {"text": "a.text"}}
    return flow


@pytest.mark.parametrize("inline", [False, True])
def test_what_is_wrong_deep_inside_is_looked_at_once_for_each_way_that_it_is_used(
    engine: Engine, tmp_path: Path, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A level deeper took twice the time: with and without what is given there."""
    compiled = []
    real = engine.checker._compile
    monkeypatch.setattr(engine.checker, "_compile", lambda *given, **more: compiled.append(1) or real(*given, **more))
    flow = Workflow.read(json.dumps(nested(12, 64, None if inline else tmp_path)), folder=tmp_path)
    assert [problem.code for problem in engine.check(flow)] == ["facts-mismatch"]
    assert len(compiled) <= 2 * 12 + 1


def test_an_input_that_may_be_null_gives_what_it_is_linked_to_no_value(engine: Engine, tmp_path: Path) -> None:
    """The default there does matter then, and it is the default that is said to be wrong, not the type of the link."""
    (tmp_path / "here.txt").write_text("read")
    flow, here = nested(1, default=None), str(tmp_path / "here.txt")
    assert [problem.where for problem in engine.check(flow)] == ["nodes.a.use.inputs.file.default"]
    assert engine.run(flow, file=here).outputs == {"text": "read"}
    middle = nested(1, default="neither.txt")
    outer = {"inputs": {"file": {"type": "file", "default": None}}, "nodes": {"c": {"use": middle, "from": {"file": "inputs.file"}}}}
    assert [problem.where for problem in engine.check(outer)] == ["nodes.c.use.inputs.file.default"]
    assert engine.check(outer, {"file": here}) == []
    items = {"inputs": {"files": {"type": "list[file | none]"}}, "outputs": {"text": "c.text"}}
    items["nodes"] = {"c": {"use": asking(32), "each": {"file": "inputs.files"}}}
    assert engine.run(items, files=[here, here]).outputs == {"text": ["read", "read"]}
    with pytest.raises(WorkflowInvalid, match=r"at  nodes.c.use.inputs.file.default"):
        engine.run(items, files=[here, None])


def test_a_secret_that_is_written_down_is_refused_though_another_is_given(engine: Engine) -> None:
    """The workflow is kept in what is saved, with all that stands in it."""
    flow = {"inputs": {"token": {"type": "secret", "default": "abc"}}, "nodes": {"cut": {"use": "cut", "with": {"width": 8}}}}
    assert [problem.code for problem in engine.check(flow, {"token": "xyz"})] == ["secret-literal"]
    outer = {"inputs": {"token": {"type": "secret"}}, "nodes": {"c": {"use": flow, "from": {"token": "inputs.token"}}}}
    assert [problem.code for problem in engine.check(outer, {"token": "xyz"})] == ["secret-literal"]
