"""What keys know of functions that are in no pack."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nodegraph
from nodegraph import Engine, NodeType, PackInvalid, Secret
from nodegraph.function_identity import identity_of

FLOW = {"nodes": {"a": {"use": "f", "with": {"x": 1}}}, "outputs": {"out": "a.int"}}
CODE = """
import dataclasses, enum, functools, logging, math, re
from collections import namedtuple
import numpy as np
from nodegraph import node

K = 2
TABLE = {"a": [1, {2, 3}]}
ARRAY = np.arange(3.0)
NUMBER = np.float32(2)
PATTERN = re.compile("a")
log = logging.getLogger("x")
Pair = namedtuple("Pair", "a b")

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Box:
    side: int = 1
    def area(self): return self.side * 2

class Slotted:
    __slots__ = ("k",)
    def __init__(self): self.k = 3

BOX, SLOTTED = Box(5), Slotted()

@functools.cache
def helper(x, more=4):
    return [y * 6 for y in (x,)][0] if x in {"p", "q"} else log

@node
def f(x: int) -> int:
    def inner(y): return math.sin(K) + len(TABLE)
    return int(sum([*ARRAY, NUMBER, PATTERN, Pair(1, 2), Colour.RED, BOX, SLOTTED, Box, helper(x), inner(x)]))
"""


def typed_in(code: str) -> Any:
    """The node of code that has no source, as in a notebook."""
    module = ModuleType("__main__")
    exec(compile(code, "<cell>", "exec"), module.__dict__)
    return module.f  # type: ignore[attr-defined]


def run(function: Callable[..., Any], cache: Path) -> Any:
    with Engine(nodes=[function], cache=cache) as engine:
        return engine.run(FLOW).outputs["out"]


def closure(k: Any) -> Any:
    @nodegraph.node
    def f(x: int) -> int:
        return x * int(k)

    return f


def test_closures_of_one_line_are_not_each_other(tmp_path: Path) -> None:
    """They had the identity of their module, and so the results of each other."""
    assert [run(closure(k), tmp_path) for k in (2, 3, 2)] == [2, 3, 2]


def test_a_cell_that_names_another_function_is_another_node(tmp_path: Path) -> None:
    """The names in its code did not count: sin and cos had one identity."""
    code = "import math\ndef f(x: int) -> int:\n    return int(math.{0}(3) * 100)"
    assert [run(typed_in(code.format(name)), tmp_path) for name in ("sin", "cos")] == [14, -98]


def test_a_file_that_has_changed_since_it_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old code ran, and its results were those of the new text, for good."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_nodes.py"
    code = "from nodegraph import node\n@node\ndef f(x: int) -> int:\n    return x * {}\n"
    file.write_text(code.format(2))
    module = importlib.import_module("edited_nodes")
    file.write_text(code.format(30))
    assert run(module.f, tmp_path / "cache") == 2
    os.utime(file, (time.time() + 5,) * 2)
    assert run(importlib.reload(module).f, tmp_path / "cache") == 30


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("K = 2", "K = 3"),
        ("{2, 3}", "{2, 4}"),
        ("arange(3.0)", "arange(4.0)"),
        ("float32(2)", "float32(3)"),
        ('compile("a")', 'compile("b")'),
        ("RED = 1", "RED = 2"),
        ("side * 2", "side * 3"),
        ("Box(5)", "Box(6)"),
        ("self.k = 3", "self.k = 4"),
        ("more=4", "more=5"),
        ("y * 6", "y * 7"),
        ("math.sin", "math.cos"),
        ('{"p", "q"}', '{"p", "r"}'),
        ("Pair(1, 2)", "Pair(1, 3)"),
    ],
)
def test_what_code_refers_to_counts(was: str, becomes: str) -> None:
    assert was in CODE
    assert identity_of(typed_in(CODE)) == identity_of(typed_in("\n\n" + CODE + "\nUNUSED = 1"))
    assert identity_of(typed_in(CODE)) != identity_of(typed_in(CODE.replace(was, becomes)))


def test_the_identity_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the order of sets, and whether the module was compiled or read as it was compiled before."""
    (tmp_path / "kept.py").write_text(CODE)
    program = "import kept\nfrom nodegraph.function_identity import identity_of\nprint(identity_of(kept.f))"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


COUNTED: dict[str, int] = {"calls": 0}
calls = 0


def test_a_node_that_counts_its_calls_stays_the_same_node(tmp_path: Path) -> None:
    turns = 0

    @nodegraph.node
    def f(x: int) -> int:
        global calls
        nonlocal turns
        COUNTED["calls"] += 1
        calls += 1
        turns += 1
        return x + 1

    assert [run(f, tmp_path) for _ in range(3)] == [2, 2, 2]
    assert (COUNTED["calls"], calls, turns) == (1, 1, 1)


class _StandIn:
    """What frameworks have for the request at hand: outside of one, it says nothing about itself."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of a request")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of a request")


def test_what_is_no_data_counts_by_its_name() -> None:
    assert identity_of(closure(logging.getLogger("a"))) == identity_of(closure(logging.getLogger("b")))
    assert identity_of(closure(threading.Lock())) != identity_of(closure(logging.getLogger("a")))
    assert identity_of(closure(_StandIn())) == identity_of(closure(_StandIn()))
    assert identity_of(closure(Secret("a"))) != identity_of(closure(Secret("b")))
    circle: list[Any] = [1]
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert identity_of(closure(circle)) != identity_of(closure(deep))


def test_methods_and_wrapped_functions_are_nodes(tmp_path: Path) -> None:
    class Scale:
        def __init__(self, k: int):
            self.k = k

        def f(self, x: int) -> int:
            return x * self.k

    def wrapped(k: int) -> Any:
        function = closure(k)
        return functools.wraps(function)(lambda **given: function(**given))

    assert [run(Scale(k).f, tmp_path) for k in (2, 3)] == [2, 3]
    assert [run(wrapped(k), tmp_path) for k in (4, 5)] == [4, 5]


@pytest.mark.parametrize("given", [5, None, [5], "f", [functools.partial(closure(1), x=2)]])
def test_what_is_no_function_is_told(given: Any) -> None:
    """It was an AttributeError, or a TypeError."""
    with pytest.raises(PackInvalid) as caught:
        Engine(nodes=given, cache=False)
    assert {problem.code for problem in caught.value.problems} == {"node-signature"}


def test_a_node_type_keeps_its_own_identity() -> None:
    used = NodeType("f", {}, {}, closure(1), identity="mine")
    with Engine(nodes=[used], cache=False) as engine:
        assert engine.registry.get("f") is used
