"""Every problem of a workflow, with its exact text."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import goldens
import pytest
from cases import CASES, bare_engine

import nodegraph
from nodegraph import WorkflowInvalid, node
from nodegraph.errors import render

OWN = ["reading", "workflow", "check", "compiling", "typing_pass", "facts_pass", "bounds", "literals", "world", "registry", "packs", "spec"]
OWN += ["models", "plan"]
ELSEWHERE = {
    "file-too-large": "needs a file of more than 256 MiB",
    "model-gone": "of a run, in tests/cpu",
    "model-exists": "of `models add`",
    "no-model": "of `models add`",
    "not-written": "of `models add`",
    "damaged-weights": "of `models verify`",
}
"""Codes that have their cases in other tests."""


@pytest.fixture(scope="module")
def plain_engine():
    with bare_engine() as engine:
        yield engine


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_text(case, tmp_path, monkeypatch, plain_engine):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    main = case.write(folder)
    if main.name != "main.json":
        main = Path("main.json")
    engine = plain_engine
    if case.packs or (folder / "models").exists():
        engine = bare_engine(packs=[folder / "packs"], models=[folder / "models"])
    problems = engine.check(main)
    if case.given is not None:
        assert not problems
        with pytest.raises(WorkflowInvalid) as refused:
            engine.submit(main, case.given)
        problems = refused.value.problems
    assert problems
    goldens.compare("problems.txt", case.name, render(problems).replace(str(folder), "HERE"))


def test_every_code_has_a_case():
    known = "\n".join([*goldens.sections("problems.txt").values(), *goldens.sections("packs.txt").values()])
    shown = set(re.findall(r"^error\[([\w-]+)\]", known, re.MULTILINE))
    missing = {code: module for module in OWN for code in _codes(module) if code not in shown and code not in ELSEWHERE}
    assert not missing


def _codes(module: str) -> set[str]:
    """The first argument of every call that makes a problem."""
    source = (Path(nodegraph.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    makers = {"Problem", "Refused", "report", "_fail", "problem"}
    found = set()
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in makers:
            for argument in call.args[:2]:
                if (
                    isinstance(argument, ast.Constant)
                    and isinstance(argument.value, str)
                    and re.fullmatch(r"[a-z]+(-[a-z]+)+", argument.value)
                ):
                    found.add(argument.value)
                    break
    return found


@pytest.mark.skipif(os.sep == "\\", reason="both are taken there")
def test_a_path_with_backslashes_is_told_to_have_slashes(tmp_path, plain_engine):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.json").write_text('{"nodes": {}}')
    (tmp_path / "w.json").write_text('{"nodes": {"a": {"use": ".\\\\sub\\\\x.json"}}}')
    assert [one.fix for one in plain_engine.check(tmp_path / "w.json")] == ["write / between the names of folders: './sub/x.json'"]


@node
def say(text: str) -> str:
    """A text."""
    return text


@pytest.mark.parametrize("value", ["a\ud800", "ü\udfff"])
def test_half_of_a_character_is_told_where_nothing_else_is_looked_at(value):
    """A node with plain literals alone needs no closer look, but for this."""
    with bare_engine(nodes=[say]) as engine:
        (problem,) = engine.check({"nodes": {"say": {"use": "say", "with": {"text": value}}}})
        assert problem.code == "wrong-type"
        assert not engine.check({"nodes": {"say": {"use": "say", "with": {"text": "ü 👩"}}}})


def test_problems_of_workflows_that_are_written_in_others_stand_in_the_order_of_the_file(tmp_path, plain_engine):
    """Those of a workflow that another file holds come behind them."""
    wrong = '{"nodes": {"x": {"use": "list_length"}}}'
    (tmp_path / "other.json").write_text('{"nodegraph": 1, "nodes": {"y": {"use": "nothing"}}}')
    uses = ['"nothing"', wrong, '"./other.json"', '"nothing"', wrong]
    lines = ",\n".join(f'"n{number}": {{"use": {use}}}' for number, use in enumerate(uses))
    (tmp_path / "flow.json").write_text('{"nodegraph": 1, "nodes": {\n' + lines + "\n}}")
    found = [(Path(problem.file).name, problem.line) for problem in plain_engine.check(tmp_path / "flow.json")]
    assert found == [("flow.json", 2), ("flow.json", 3), ("flow.json", 5), ("flow.json", 6), ("other.json", 1)]


NO_LINK = "must be a reference, or a list of them, but is an object"


@pytest.mark.parametrize(
    ("workflow", "told"),
    [
        ({"nodes": {}, "outputs": {"use": {}}}, {"outputs.use": NO_LINK}),
        ({"nodes": {"a": {"use": "add", "from": {"use": {}}}}}, {"nodes.a.from.use": NO_LINK}),
        ({"nodes": {"a": {"use": {"nodes": {}, "outputs": {"use": {}}}}}}, {"nodes.a.use.outputs.use": NO_LINK}),
        ({"nodes": {}, "inputs": {"use": 5}}, {"inputs.use": "must be an object, but is 5"}),
        ({"nodes": {"from": {"use": "add", "doc": 5}}}, {"nodes.from.doc": "must be text, but is 5"}),
        ({"nodes": {"outputs": {"use": "add", "doc": 5}}}, {"nodes.outputs.doc": "must be text, but is 5"}),
        (
            {"nodes": {"each": {"use": {"nodes": {"each": {"use": "add", "doc": 5}}}}}},
            {"nodes.each.use.nodes.each.doc": "must be text, but is 5"},
        ),
        ({"nodes": {}, "outputs": []}, {"outputs": "must be an object, but is a list of 0"}),
    ],
)
def test_a_name_that_is_a_key_elsewhere_is_a_name(plain_engine, workflow, told):
    """An output called `use` that is an object was refused without any problem."""
    found = {problem.where: problem.text for problem in plain_engine.check({"nodegraph": 1, **workflow})}
    assert found == {where: f"{where!r} {text}" for where, text in told.items()}
