"""What check has made of a workflow is kept as long as models and files are as they were, and no longer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_packs import HEAD, write

from nodegraph import Engine, Workflow

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


def test_a_configuration_that_is_nested_too_deeply_is_none(engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "models" / "plain" / "config.json"
    config.write_text('{"a":' * 100_000)
    assert [problem.code for problem in engine.check(Workflow.of(FLOW))] == ["model-incomplete"]
