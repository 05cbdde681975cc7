"""The core pack as a pack: what its signatures say, and what reading them costs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from nodegraph.spec import node_type

PACK = Path(__file__).parents[2] / "nodes" / "core"
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(PACK.glob("*.py"))}
NODE_MODULES = [name for name, text in SOURCES.items() if "\n@node" in text]
HEAVY = {"numpy", "PIL", "scipy", "torch"}


def functions():
    for name in NODE_MODULES:
        module = importlib.import_module(f"nodes.core.{name}")
        yield from (
            function for function in vars(module).values() if hasattr(function, "__node__") and function.__module__ == module.__name__
        )


TYPES = {one.name: one for one in (node_type(function, "core") for function in functions())}


def test_every_node_has_a_name_of_its_own_and_a_doc():
    assert len(TYPES) == len(list(functions())) > 100
    assert [name for name, one in TYPES.items() if not one.doc.rstrip(".") or not one.doc.endswith(".")] == []


def test_modules_with_nodes_import_nothing_heavy():
    for name in NODE_MODULES:
        for statement in ast.parse(SOURCES[name]).body:
            names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
            names += [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
            assert not HEAVY & {one.partition(".")[0] for one in names}, name


def test_modules_import_only_each_other_and_what_nodegraph_gives():
    for name, text in SOURCES.items():
        for statement in ast.walk(ast.parse(text)):
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("nodegraph"):
                assert statement.module == ("nodegraph.facts" if name == "facts" else "nodegraph"), name


def test_reading_signatures_imports_nothing_heavy():
    code = f"import sys, importlib\nfor name in {NODE_MODULES}: importlib.import_module('nodes.core.' + name)\nprint(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACK.parents[1]).stdout.split()
    assert not HEAVY & set(modules)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("switch", {"condition": "bool", "on_true": "T", "on_false": "T"}, {"value": "T"}),
        ("coalesce", {}, {"value": "T"}),
        ("repeat", {"value": "T", "body": "workflow", "count": "int", "index": "int"}, {"value": "T"}),
        ("concatenate_lists", {"lists": "list[list[T]]"}, {"value": "list[T]"}),
        ("batch", {"images": "list[image]"}, {"image": "image"}),
        ("load_image", {"file": "file"}, {"image": "image", "mask": "mask"}),
        ("seed", {"value": "seed"}, {"seed": "seed"}),
        ("get_json", {"json": "json", "pointer": "text", "missing": "text"}, {"value": "any"}),
    ],
)
def test_types_of_ports(name, inputs, outputs):
    one = TYPES[name]
    assert {port: str(declared.type) for port, declared in one.inputs.items()} == inputs
    assert {port: str(declared.type) for port, declared in one.outputs.items()} == outputs


def test_what_is_lazy():
    lazy = {(name, port) for name, one in TYPES.items() for port, declared in one.inputs.items() if declared.lazy}
    assert lazy == {
        ("switch", "on_true"), ("switch", "on_false"),
        ("skip_if", "value"), ("require", "value"),
        ("repeat", "value"), ("repeat_while", "value"),
    }  # fmt: skip
    assert {name for name, one in TYPES.items() if one.open and one.open.lazy} == {"choose", "coalesce", "repeat", "repeat_while"}


def test_only_saving_is_an_effect():
    assert [name for name, one in TYPES.items() if one.effect or one.volatile or one.stateful] == ["save_image"]


def test_facts_are_named_like_nodes():
    facts = importlib.import_module("nodes.core.facts")
    own = {name for name, value in vars(facts).items() if callable(value) and getattr(value, "__module__", "") == facts.__name__}
    assert {name for name in own if not name.startswith("_")} <= set(TYPES)
