"""What keys know of functions that are in no pack."""

from __future__ import annotations

import array
import datetime
import functools
import importlib
import logging
import math
import operator
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import defaultdict, deque, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
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


def identities(files: dict[str, str], folder: Path) -> set[str]:
    """The identities of `kept.f`, or of what `kept.made()` gives, as several processes see it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    program = "import kept\nfrom nodegraph.function_identity import identity_of\nprint(identity_of(kept.f))"
    path = os.pathsep.join([str(folder), *sys.path])
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=True,
        ).stdout.decode()
        for seed in ("1", "4")
    }


@pytest.mark.parametrize(
    ("code", "other", "was", "becomes"),
    [
        ("from other import g\ndef f(x): return g(x)", "T = [1]\ndef g(x): return T[x]", "[1]", "[2]"),
        ("from other import T\ndef f(x): return T[x]", "T = [1]", "[1]", "[2]"),
        ("from other import T\ndef f(x): return T[x]()", "T = [lambda: 1]", "lambda: 1", "lambda: 2"),
        ("from other import one\ndef f(x): return one.g()", "class A:\n    def g(self): return 1\none = A()", "return 1", "return 2"),
        ("import pack.other\ndef f(x): return pack.other.g(x)", "def g(x): return 1", "return 1", "return 2"),
        ("def f(x):\n    from pack import other\n    return other.g(x)", "def g(x): return 1", "return 1", "return 2"),
        ("def f(x):\n    from pack.deep.other import g\n    return g(x)", "def g(x): return 1", "return 1", "return 2"),
        ("from pack.deep import up\ndef f(x): return up.T[0]", "T = [1]", "[1]", "[2]"),
    ],
)
def test_other_modules_of_a_program_count(code: str, other: str, was: str, becomes: str, tmp_path: Path) -> None:
    """Lists of other modules, modules in modules, and what is imported when the node runs were not looked at."""
    places = ("other.py", "pack/other.py", "pack/deep/other.py")
    rest = {"kept.py": code, "pack/__init__.py": "", "pack/deep/__init__.py": "", "pack/deep/up.py": "from ..other import T"}
    rest = rest if "deep import up" in code else {**rest, "pack/deep/up.py": ""}
    told = [
        identities({**rest, **dict.fromkeys(places, text)}, tmp_path / name)
        for name, text in (("a", other), ("b", other), ("c", other.replace(was, becomes)))
    ]
    assert told[0] == told[1] != told[2]
    assert [len(one) for one in told] == [1, 1, 1]


def test_an_installed_function_that_is_a_node_is_known_by_its_source(tmp_path: Path) -> None:
    told = []
    for name, text in (("a", "T = [1]\ndef f(x): return T"), ("b", "T = [2]\ndef f(x): return T")):
        [one] = identities(
            {
                "site-packages/inside.py": text,
                "kept.py": f"import sys; sys.path.insert(0, {str(tmp_path / name)!r} + '/site-packages')\nfrom inside import f",
            },
            tmp_path / name,
        )
        told.append(one)
    assert told[0] != told[1]


PROGRAM = """
import multiprocessing
from nodegraph.function_identity import identity_of
T = [1]
def f(x): return T
def tell(): print(identity_of(f), flush=True)
if __name__ == "__main__":
    tell()
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=tell)
        process.start()
        process.join()
"""


def test_a_program_is_the_same_in_its_processes(tmp_path: Path) -> None:
    """Those that multiprocessing starts anew read it under another name."""
    told = []
    for text in (PROGRAM, PROGRAM.replace("[1]", "[2]")):
        (tmp_path / "program.py").write_text(text)
        done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        told.append(done.stdout.split())
    assert [(len(one), len(set(one))) for one in told] == [(4, 1), (4, 1)]
    assert told[0] != told[1]


SETS = """
class A:
    def __init__(self, k): self.k, self.near = k, {self}
def g(): return 1
def h(): return 2
def made():
    near = {A(1), A(2), A(3)}
    for one in near: one.near |= near
    held = {frozenset("ab"), frozenset("bc"), frozenset("cde"), g, h, ("a", frozenset("xyz")), *near}
    def f(x): return held
    return f
f = made()
"""


def test_the_order_of_sets_is_not_that_of_hashes_or_addresses(tmp_path: Path) -> None:
    assert len(identities({"kept.py": SETS}, tmp_path)) == 1


def bound(scale: int) -> Any:
    def f(x: int) -> int:
        def inner() -> Any:
            scale = 30
            return lambda: scale

        return x * scale

    return f


def wrapping_installed(k: int) -> Any:
    return functools.wraps(np.clip)(lambda x: x * k)


Point = namedtuple("Point", "x")


class Far(Point):
    far = 1


class Farther(Point):
    far = 2


def palette(*colours: int) -> Any:
    picture = PIL.Image.new("P", (1, 1))
    picture.putpalette(colours)
    return picture


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (math.sin, math.cos),
        (np.sin, np.cos),
        (str.upper, str.lower),
        ({1: 2}.get, {1: 3}.get),
        ("a".join, "b".join),
        (operator.itemgetter(1), operator.itemgetter(2)),
        (SimpleNamespace(k=1), SimpleNamespace(k=2)),
        (slice(0, 1), slice(0, 2)),
        (re.compile("a" * 300), re.compile("a" * 299 + "b")),
        (re.compile("a"), re.compile("a", re.DOTALL)),
        (defaultdict(lambda: 1), defaultdict(lambda: 2)),
        (deque([1], 1), deque([1], 2)),
        (array.array("i", [1065353216]), array.array("f", [1.0])),
        (datetime.timezone(datetime.timedelta(hours=1)), datetime.timezone(datetime.timedelta(hours=2))),
        (int | str, int | float),
        (list[int], list[str]),
        (np.vectorize(lambda x: x + 1), np.vectorize(lambda x: x + 2)),
        (np.poly1d([1, 2]), np.poly1d([1, 3])),
        (palette(1, 2, 3), palette(3, 2, 1)),
        (Far(1), Farther(1)),
        (10**5000, 10**5000 + 1),
        (wrapping_installed(1), wrapping_installed(2)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_is_installed_is_told_apart_where_it_is_data_or_called(one: Any, other: Any) -> None:
    """All that a class of Python or of numpy makes had one identity: math.sin and math.cos, itemgetter(1) and itemgetter(2)."""
    told = []
    for given in (one, other):

        def f(x: int, given: Any = given) -> Any:
            return given

        told.append(identity_of(f))
    assert told[0] != told[1]


def test_a_name_that_another_function_has_too_is_not_bound_by_it() -> None:
    """A variable of a function inside, of the same name, hid what the closure held."""
    assert identity_of(bound(2)) != identity_of(bound(3))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x):\n try:\n  u()\n  v()\n except E:\n  pass", "def f(x):\n try:\n  u()\n except E:\n  pass\n else:\n  v()"),
        ("class C:\n _k = 1\ndef f(x): return C._k", "class C:\n _k = 2\ndef f(x): return C._k"),
        ("class T(dict):\n def g(s): return 1\nt = T()\ndef f(x): return t.g()", None),
        ("class T(float):\n def g(s): return 1\nt = T(3)\ndef f(x): return t.g()", None),
        ("import enum\nclass T(enum.IntEnum):\n A = 3\n def g(s): return 1\nt = T.A\ndef f(x): return t.g()", None),
        ("class M(type):\n def g(s): return 1\nclass C(metaclass=M): pass\ndef f(x): return C.g()", None),
        ("def h(): return h.k\nh.k = 1\ndef f(x): return h()", "def h(): return h.k\nh.k = 2\ndef f(x): return h()"),
    ],
)
@pytest.mark.parametrize("names", [{}, {"__name__": "__main__"}])
def test_all_of_what_is_typed_in_counts(one: str, other: str | None, names: dict[str, str]) -> None:
    told = []
    for code in (one, other or one.replace("return 1", "return 2")):
        held: dict[str, Any] = dict(names)
        exec(code, held)
        told.append(identity_of(held["f"]))
    assert told[0] != told[1]


def test_a_large_array_is_told_without_a_text_of_it() -> None:
    """An array was told by the text of its bytes, which took several times its memory."""
    held = np.zeros(20 << 20, np.uint8)
    tracemalloc.start()
    assert identity_of(closure(held)) != identity_of(closure(held + np.uint8(1)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.5 * held.nbytes  # of which one is the other array


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
