"""Imports go down the layers only; each third-party package has one home; low layers know no torch."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import nodegraph
from nodegraph import engine

PACKAGE = Path(__file__).resolve().parents[2] / "nodegraph"
LAYERS = [
    {"errors", "codes", "keys", "events", "states", "positions", "collector", "ending", "looks"},
    {
        "types",
        "arrays",
        "handles",
        "secret",
        "values",
        "kinds",
        "facts",
        "outcomes",
        "limits",
        "placeholders",
        "spec",
        "context",
        "registry",
    },
    {"reading", "workflow", "graph", "formatting", "schema", "show", "builder", "python_source", "stubs"},
    {"layout", "picture"},
    {
        *("literals", "witness", "template", "bounds", "sources", "typing_pass", "facts_pass", "compiling", "renaming", "check", "plan"),
        *("svg", "boxes", "drawing"),
    },
    {
        *("entries", "packing", "store", "checkpoints", "leases", "eviction", "cache"),
        *("models", "resident", "world", "heap", "lanes", "settings", "distributions", "devices"),
    },
    {
        "job",
        "shared",
        "failures",
        "inputs",
        "calling",
        "recording",
        "plain",
        "stretch",
        "debt",
        "memory",
        "guard",
        "profile",
        "noderun",
        "collecting",
        "execution",
        "declarations",
        "skeleton",
        "spec_index",
        "editions",
        "pack_reader",
        "packs",
        "pack_template",
        "samples",
        "contract",
        "pack_record",
        "locks",
        "watch",
        "output",
        "metadata",
        "plot",
        "provenance",
        "difference",
        "replay",
        "glance",
        "live",
        "own_code",
        "function_identity",
        "preview",
        "engine",
    },
    {"cli", "testing", "__init__", "__main__"},
]
HOMES = {
    "msgpack": {"packing"},
    "filelock": {"leases"},
    "sqlite3": {"store"},
    "networkx": {"graph", "show"},
    "pydantic": {"workflow", "__init__"},
    "rich": {"cli"},
    "argcomplete": {"cli"},
    "grandalf": {"layout"},
    "resvg_py": {"picture"},
    "watchdog": {"watch"},
    "diffusers": set(),
    "transformers": set(),
}
LEVEL = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def _modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        if inside.parts[0] not in ("_packs", "_workflows"):
            found.setdefault(inside.parts[0].removesuffix(".py"), []).append(path)
    return found


def _imports(path: Path) -> list[tuple[str, bool]]:
    """(module, at module level) of every import that happens at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checkers = {
        id(inner)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for inner in ast.walk(block)
    }
    top = {id(statement) for statement in tree.body}
    found = []
    for statement in ast.walk(tree):
        if id(statement) in for_checkers:
            continue
        if isinstance(statement, ast.Import):
            found += [(alias.name, id(statement) in top) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            if statement.module == "nodegraph":
                found += [(f"nodegraph.{alias.name}", id(statement) in top) for alias in statement.names]
            else:
                found.append((statement.module, id(statement) in top))
    return found


MODULES = _modules()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name):
    assert name in LEVEL, f"say in which layer {name!r} is"
    for path in MODULES[name]:
        for module, top in _imports(path):
            parts = module.split(".")
            if parts[0] == "nodegraph" and len(parts) > 1 and parts[1] in LEVEL and top:
                assert LEVEL[parts[1]] <= LEVEL[name], f"{path.name} imports {module}, which is above it"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_third_party_packages_have_one_home(name):
    for path in MODULES[name]:
        for module, top in _imports(path):
            package = module.partition(".")[0]
            if package in HOMES:
                assert name in HOMES[package], f"{path.name} imports {module}"
            if package in ("torch", "numpy", "PIL", "rich", "asyncio"):
                assert not top, f"{path.name} imports {module} at module level: every command would pay for it"


def test_packs_use_nothing_but_the_public_names():
    for path in (PACKAGE.parent / "nodes").rglob("*.py"):
        for module, _ in _imports(path):
            if module.startswith("nodegraph."):
                assert ("facts" in path.with_suffix("").parts and module.startswith("nodegraph.facts")) or module.count(".") == 1, (
                    f"{path} imports {module}"
                )


def test_the_public_names_are_what_they_are_after_everything_was_used():
    """A module of a package takes the place of what the package calls by its name."""
    for name in nodegraph.__all__:
        assert not isinstance(getattr(nodegraph, name), ModuleType), name
    flow = {"nodes": {"a": {"use": "boolean", "with": {"value": True}}}, "outputs": {"said": "a.bool"}}
    for _ in range(2):
        assert nodegraph.run(flow).outputs == {"said": True}
    assert nodegraph.run is engine.run
