"""What check has made of a workflow is kept as long as models and files are as they were, and no longer."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy
import pytest
from small_packs import HEAD, write

from nodegraph import Engine, Workflow, WorkflowInvalid, check, keys
from nodegraph.facts import Facts
from nodegraph.facts_pass import _Pass
from nodegraph.models import LINKS, ModelFolder

NODES = (
    HEAD
    + """
from typing import Annotated
from nodegraph import Kind, ModelRef

@node
def wide(model: Annotated[ModelRef, Kind("model")]) -> int:
    'A.'
    return 1

@node
def narrow(width: int, most: int = 8) -> int:
    'A.'
    return width
"""
)
FACTS = """
from nodegraph.facts import Facts, Mismatch

def wide(look, model):
    return Facts(width=(look.json(model["value"], "config.json") or {}).get("width"))

def narrow(width, most):
    if width.get("width", 0) > most.get("value", 8):
        return Mismatch("width", "too wide")
    return Facts(width=width.get("width"))
"""
FLOW = {
    "inputs": {"most": {"type": "int", "default": 8}},
    "nodes": {
        "w": {"use": "wide", "with": {"model": "plain"}},
        "n": {"use": "narrow", "from": {"width": "w.int", "most": "inputs.most"}},
    },
    "outputs": {"n": "n.int"},
}


@pytest.fixture
def engine(tmp_path: Path):
    write(tmp_path / "mine", nodes=NODES, facts=FACTS)
    configured(tmp_path, 4)
    with Engine(packs=[tmp_path / "mine"], models=[tmp_path / "models"], cache=False) as made:
        yield made


def configured(folder: Path, width: int) -> None:
    config = folder / "models" / "plain" / "config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"width": width}))


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_that_changes_is_seen_by_the_next_check(engine: Engine, tmp_path: Path, nested: bool) -> None:
    flow = Workflow.of({"nodes": {"inner": {"use": Workflow.of(FLOW)}}, "outputs": {"n": "inner.n"}} if nested else FLOW)
    assert engine.check(flow) == []
    made = engine._template(flow)
    assert engine._template(flow) is made
    configured(tmp_path, 400)
    assert [problem.code for problem in engine.check(flow)] == ["facts-mismatch"]
    configured(tmp_path, 5)
    assert engine.check(flow) == []
    (tmp_path / "models" / "plain" / "config.json").unlink()
    assert [problem.code for problem in engine.check(flow)] == ["model-incomplete"]


def test_what_changes_for_a_workflow_that_two_others_use_is_seen_in_both(engine: Engine, tmp_path: Path) -> None:
    """It was asked about for the first, and so the second did not know that it relies on it."""
    (tmp_path / "said.txt").write_text("said")
    uses = {"shared": {"read": {"use": "load_text", "with": {"file": "said.txt"}}}}
    uses.update({name: {"it": {"use": "./shared.json"}} for name in ("one", "other")})
    for name, nodes in uses.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"nodegraph": 1, "nodes": nodes}))
    both = {"nodegraph": 1, "nodes": {name: {"use": f"./{name}.json"} for name in ("one", "other")}}
    assert engine.check(Workflow.read(json.dumps(both), folder=tmp_path)) == []
    (tmp_path / "said.txt").unlink()
    outer = Workflow.read(json.dumps({"nodegraph": 1, "nodes": {"it": {"use": "./other.json"}}}), folder=tmp_path)
    assert [problem.code for problem in engine.check(outer)] == ["file-missing"]


@pytest.mark.parametrize("path", ["part/config.json", "card.md", ".hidden/config.json", "part/.config.json"])
def test_a_file_of_a_model_that_comes_to_be_is_seen(tmp_path: Path, path: str) -> None:
    """Those that count as no part of the model as well: facts may ask for them."""
    write(tmp_path / "mine", nodes=NODES, facts=FACTS.replace("config.json", path))
    configured(tmp_path, 4)
    with Engine(packs=[tmp_path / "mine"], models=[tmp_path / "models"], cache=False) as engine:
        flow = Workflow.of(FLOW)
        for _ in range(2):
            assert engine.check(flow) == []
        file = tmp_path / "models" / "plain" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text('{"width": 400}')
        assert [problem.code for problem in engine.check(flow)] == ["facts-mismatch"]
        file.unlink()
        assert engine.check(flow) == []


def test_a_file_behind_more_links_than_are_followed_is_none(tmp_path: Path) -> None:
    """It was read, but no change of it was seen, and it is no part of what the model is known by."""
    path = "/".join(f"l{number}" for number in range(LINKS + 1)) + "/config.json"
    write(tmp_path / "mine", nodes=NODES, facts=FACTS.replace("config.json", path))
    configured(tmp_path, 4)
    folder = tmp_path / "models" / "plain"
    for number in range(LINKS + 1):
        target = tmp_path / f"t{number}"
        target.mkdir()
        (folder / f"l{number}").symlink_to(target)
        folder = target
    (folder / "config.json").write_text('{"width": 400}')
    with Engine(packs=[tmp_path / "mine"], models=[tmp_path / "models"], cache=False) as engine:
        assert engine.models.files("plain") == ["config.json"]
        assert engine.check(FLOW) == []


def test_a_default_names_what_lies_there_now(engine: Engine, tmp_path: Path) -> None:
    declared = {"model": {"type": "model", "default": "plain"}}
    inner = {"inputs": declared, "nodes": {"w": {"use": "wide", "from": {"model": "inputs.model"}}}, "outputs": {"n": "w.int"}}
    flow = Workflow.of({"nodes": {"inner": {"use": Workflow.of(inner)}}, "outputs": {"n": "inner.n"}})
    keys_of = [engine.submit(flow).result().provenance()["keys"] for _ in range(2)]
    assert keys_of[0] == keys_of[1]
    configured(tmp_path, 5)
    assert engine.submit(flow).result().provenance()["keys"] != keys_of[0]
    configured(tmp_path, 4)
    assert engine.submit(flow).result().provenance()["keys"] == keys_of[0]


def test_a_model_that_changes_is_seen_with_values_that_are_given(engine: Engine, tmp_path: Path) -> None:
    flow = Workflow.of(
        {
            "inputs": {"most": {"type": "int", "default": 8}},
            "nodes": {"inner": {"use": Workflow.of(FLOW), "from": {"most": "inputs.most"}}},
            "outputs": {"n": "inner.n"},
        }
    )
    assert engine.run(flow, most=7).outputs == {"n": 1}
    configured(tmp_path, 8)
    assert engine.check(flow) == []
    with pytest.raises(Exception, match="too wide"):
        engine.run(flow, most=7)
    assert engine.run(flow, most=9).outputs == {"n": 1}


@pytest.mark.parametrize("most", [2, 3, 4, 8])
def test_values_that_are_given_are_looked_at_as_if_all_was_looked_at_again(engine: Engine, most: int) -> None:
    nodes = {
        "w": {"use": "wide", "with": {"model": "plain"}},
        "free": {"use": "narrow", "from": {"width": "w.int"}},
        "n": {"use": "narrow", "from": {"width": "w.int", "most": "inputs.most"}},
        "lists": {"use": "narrow", "each": {"width": [1, 2]}, "from": {"most": "inputs.most"}},
        "after": {"use": "narrow", "from": {"width": "n.int", "most": "inputs.most"}},
        "inner": {"use": Workflow.of(FLOW), "from": {"most": "inputs.most"}},
    }
    template = engine._template(Workflow.of({"inputs": FLOW["inputs"], "nodes": nodes, "outputs": {"n": "n.int"}}))
    flow = engine.checker.flow
    assert not template.problems
    found = flow.mismatches(template, {"most": most})
    assert [one.where for one in found] == (["nodes.n.from.width", "nodes.inner.use.nodes.n.from.width"] if most < 4 else [])
    assert found == _Pass(flow, template, {"most": Facts(value=most)}).run()[1]


def test_what_is_known_follows_values_that_are_given_one_after_another(engine: Engine) -> None:
    inputs = {"first": {"type": "int", "default": 9}, "second": {"type": "int", "default": 9}}
    nodes = {
        "w": {"use": "wide", "with": {"model": "plain"}},
        "a": {"use": "narrow", "from": {"width": "w.int", "most": "inputs.first"}},
        "b": {"use": "narrow", "from": {"width": "a.int", "most": "inputs.second"}},
        "inner": {"use": Workflow.of(FLOW), "from": {"most": "inputs.second"}},
        "lists": {"use": "narrow", "each": {"width": [1, 2]}, "from": {"most": "inputs.first"}},
    }
    record = {"inputs": inputs, "nodes": nodes, "outputs": {"n": "b.int"}}
    kept, flow = engine._template(Workflow.of(record)), engine.checker.flow
    drawn = random.Random(0)
    refused = 0
    for _ in range(200):
        given = {name: drawn.choice([2, 5, 6, 7]) for name in inputs if drawn.random() < 0.7}
        found = flow.mismatches(kept, given)
        assert found == _Pass(flow, kept, {name: Facts(value=value) for name, value in given.items()}).run()[1], given
        refused += bool(found)
    assert 50 < refused < 150


CUT = Workflow.of(
    {
        "inputs": {"whole": {"type": "int", "default": 64}, "x": {"type": "int", "default": 32}},
        "nodes": {
            "picture": {"use": "solid_image", "from": {"width": "inputs.whole"}, "with": {"height": 64}},
            "part": {"use": "crop", "from": {"image": "picture.image", "x": "inputs.x"}, "with": {"y": 0, "width": 32, "height": 32}},
        },
        "outputs": {"image": "part.image"},
    }
)


@pytest.mark.parametrize(
    ("how", "fits"),
    [
        ({"from": {"whole": "count.int"}}, True),
        ({"from": {"whole": "inputs.needed"}}, True),
        ({"each": {"whole": [128, 200]}}, True),
        ({"with": {"whole": 128}}, True),
        ({"from": {"whole": "inputs.null"}}, None),
        ({}, False),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_an_input_of_a_used_workflow_has_its_default_only_where_it_is_left_at_it(
    engine: Engine, how: dict, fits: bool | None, deep: bool
) -> None:
    inputs = {"needed": {"type": "int"}, "null": {"type": "int", "default": None}}
    used = CUT
    if deep:
        node = {"use": CUT, "from": {name: f"inputs.{name}" for name in CUT.inputs}}
        used = Workflow.of({"inputs": CUT.to_json()["inputs"], "nodes": {"cut": node}, "outputs": {"image": "cut.image"}})
    count = {"use": "list_length", "with": {"items": [0] * 128}}
    nodes = {"count": count, "cut": {**how, "use": used, "with": {**how.get("with", {}), "x": 40}}}
    flow = Workflow.of({"inputs": inputs, "nodes": nodes, "outputs": {"image": "cut.image"}})
    found = engine.check(flow)
    assert [one.code for one in found] == (["facts-mismatch"] if fits is False else [])
    if fits is None:  # a run may give it; one that does not is refused before it begins
        with pytest.raises(WorkflowInvalid, match="facts-mismatch"):
            engine.submit(flow, needed=1)
        assert engine.run(flow, needed=1, null=128).ok


@pytest.mark.parametrize("whole", [numpy.int64(128), object()])
def test_of_a_given_value_that_is_no_json_nothing_is_known(engine: Engine, whole: object) -> None:
    flow, template = engine.checker.flow, engine._template(CUT)
    for _ in range(2):
        assert flow.mismatches(template, {"whole": whole, "x": 40}) == []
        assert [one.code for one in flow.mismatches(template, {"x": 40})] == ["facts-mismatch"]
        assert [one.code for one in flow.mismatches(template, {"whole": None, "x": 40})] == ["facts-mismatch"]
        assert flow.mismatches(template, {"whole": 128, "x": 40}) == []


def test_a_number_of_numpy_is_not_taken_for_the_default(engine: Engine) -> None:
    with pytest.raises(WorkflowInvalid, match="facts-mismatch"):
        engine.submit(CUT, x=40)
    assert engine.run(CUT, whole=numpy.int64(128), x=40).outputs["image"].shape == (1, 3, 32, 32)


def test_a_configuration_that_is_nested_too_deeply_is_none(engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "models" / "plain" / "config.json"
    config.write_text('{"a":' * 100_000)
    assert [problem.code for problem in engine.check(Workflow.of(FLOW))] == ["model-incomplete"]


def test_a_file_is_what_its_text_says_whatever_its_time(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(json.dumps({"nodegraph": 1, **FLOW}))
    assert engine.run(file).outputs == {"n": 1}
    read = engine._read(file)
    os.utime(file, ns=(1, 1))
    assert engine._read(str(file)) is read
    file.write_text(file.read_text().replace('"n.int"', '"w.int"').replace('"n":', '"o":'))
    os.utime(file, ns=(1, 1))
    assert list(engine.run(file).outputs) == ["o"]
    file.write_text("[")
    assert [problem.code for problem in engine.check(file)] == ["bad-json"]


def test_an_engine_remembers_a_few_files(engine: Engine, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.json").write_text(json.dumps({"nodegraph": 1, **FLOW}))
        engine.check(tmp_path / f"{number}.json")
    assert 0 < len(engine._files) <= 16


def test_a_checker_remembers_a_bounded_number_of_used_files(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "FILES", 4)
    for number in range(6):
        (tmp_path / f"inner{number}.json").write_text(json.dumps({"nodegraph": 1, **FLOW}))
    nodes = {f"n{number}": {"use": f"./inner{number}.json"} for number in range(6)}
    (tmp_path / "outer.json").write_text(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"n": "n5.n"}}))
    for _ in range(2):
        assert engine.run(tmp_path / "outer.json").outputs == {"n": 1}
        assert 0 < len(engine.checker._read) <= 4
    for number in range(6):
        (tmp_path / f"inner{number}.json").write_text(json.dumps({"nodegraph": 1, **FLOW, "outputs": {"m": "n.int"}}))
    assert [one.code for one in engine.check(tmp_path / "outer.json")] == ["unknown-output"]


def test_files_of_a_model_are_read_again_when_they_have_changed(tmp_path: Path) -> None:
    configured(tmp_path, 4)
    config, read = tmp_path / "models" / "plain" / "config.json", []

    def digest(path: Path) -> bytes:
        read.append(path)
        return keys.file_digest(path)

    folder = ModelFolder([tmp_path / "models"], digest)
    fresh = folder.ref("plain")
    assert folder.ref("plain") == fresh
    assert len(read) == 2, "what has only just changed may change again without another time"
    os.utime(config, ns=(1, 1))
    assert folder.ref("plain") == fresh == folder.ref("plain")
    assert len(read) == 3
    config.write_text(config.read_text().replace("4", "5"))
    assert folder.ref("plain") != fresh
    (config.parent / "more.json").write_text("{}")
    assert [name for name, _ in folder.ref("plain").files] == ["config.json", "more.json"]


def test_a_base_gives_the_parts_of_which_a_model_has_no_file(tmp_path: Path) -> None:
    """As digests and weights have it; facts took an empty folder for the part itself."""
    write(tmp_path / "mine", nodes=NODES.replace('"model"', '"diffusion"'), facts=FACTS.replace("config.json", "part/config.json"))
    models = tmp_path / "models"
    for name in ("plain/part", "whole/part"):
        (models / name).mkdir(parents=True)
    (models / "plain" / "model_index.json").write_text('{"nodegraph_base": "whole"}')
    (models / "whole" / "part" / "config.json").write_text('{"width": 400}')
    flow = Workflow.of(FLOW)
    with Engine(packs=[tmp_path / "mine"], models=[models], cache=False) as engine:
        assert [path for path, _ in engine.models.ref("plain").files] == ["model_index.json", "part/config.json"]
        assert [problem.code for problem in engine.check(flow)] == ["facts-mismatch"]
        (models / "plain" / "part").rmdir()
        assert [problem.code for problem in engine.check(flow)] == ["facts-mismatch"]


VANISHING = """
import pathlib
from typing import Annotated
from nodegraph import File, Kind, ModelRef

@node(volatile=True)
def remove(path: str) -> list[int]:
    'A.'
    pathlib.Path(path).unlink()
    return [1, 2]

@node
def look(file: File, model: Annotated[ModelRef, Kind("model")], number: int) -> str:
    'A.'
    return "seen"
"""


@pytest.mark.parametrize("where", ["default", "literal"])
@pytest.mark.parametrize(("gone", "code"), [("note.txt", "file-missing"), ("models/plain/config.json", "model-incomplete")])
def test_what_vanishes_in_a_run_is_a_problem_of_the_node_that_names_it(tmp_path: Path, where: str, gone: str, code: str) -> None:
    """The workflow that names it is mapped over a list that comes later."""
    write(tmp_path / "mine", nodes=HEAD + VANISHING)
    configured(tmp_path, 4)
    (tmp_path / "note.txt").write_text("text")
    named = {"file": "note.txt", "model": "plain"}
    inner: dict[str, Any] = {"inputs": {"n": {"type": "int"}}, "outputs": {"text": "look.text"}}
    inner["nodes"] = {"look": {"use": "look", "from": {"number": "inputs.n"}}}
    if where == "literal":
        inner["nodes"]["look"]["with"] = named
    else:
        inner["inputs"] |= {name: {"type": name, "default": value} for name, value in named.items()}
        inner["nodes"]["look"]["from"] |= {name: f"inputs.{name}" for name in named}
    (tmp_path / "inner.json").write_text(json.dumps({"nodegraph": 1, **inner}))
    nodes = {
        "remove": {"use": "remove", "with": {"path": str(tmp_path / gone)}},
        "all": {"use": "./inner.json", "each": {"n": "remove.ints"}},
    }
    (tmp_path / "outer.json").write_text(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"texts": "all.text"}}))
    with Engine(packs=[tmp_path / "mine"], models=[tmp_path / "models"], cache=False) as engine:
        problems = engine.submit(tmp_path / "outer.json").result().problems
    assert [(problem.code, problem.where) for problem in problems] == [(code, "all")]


def test_a_file_that_cannot_be_read_is_told_at_the_place_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine", nodes=HEAD + VANISHING)
    configured(tmp_path, 4)
    (tmp_path / "note.txt").write_text("text")
    nodes = {"look": {"use": "look", "with": {"file": "note.txt", "model": "plain", "number": 1}}}
    (tmp_path / "flow.json").write_text(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"text": "look.text"}}))

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(keys, "file_digest", refuse)
    one = Engine(packs=[tmp_path / "mine"], models=[tmp_path / "models"], cache=False)
    with one as engine, pytest.raises(WorkflowInvalid) as caught:
        engine.submit(tmp_path / "flow.json")
    told = [(problem.code, problem.where, problem.text) for problem in caught.value.problems]
    assert told == [("file-missing", "nodes.look.with.file", "cannot read the file 'note.txt': Permission denied")]
