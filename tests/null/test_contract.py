"""What `Pack.check` finds, in packs that break their promises one by one, and the samples that it tries them with."""

# ruff: noqa: E501  (a table)
from __future__ import annotations

import re

import numpy
import pytest
from small_packs import HEAD, body, write

from nodegraph import Engine, types
from nodegraph.errors import NodegraphError, PackInvalid, RunFailed
from nodegraph.samples import NoSample, sample
from nodegraph.spec import REQUIRED, Port
from nodegraph.testing import Pack, call_twice, pack_folder, same

MORE = HEAD + "from typing import Annotated, Literal\nfrom nodegraph import Field, Handle, Image, Invalid, Lazy, Mask, Need, Seed, Skip\n"
IMPORTS = MORE + "import numpy\n"
GOOD = {
    "plain": "def plum(value: int = 1) -> int:\n    'A.'\n    return value",
    "bounded": "def plum(value: Annotated[int, Field(ge=8, le=64, multiple_of=8)], size: Annotated[float, Field(gt=0, lt=1)]) -> int:\n    'A.'\n    assert 8 <= value <= 64 and value % 8 == 0 and 0 < size < 1\n    return value",
    "choices": "def plum(how: Literal['a', 'b'], named: Annotated[str, Field(pattern='^#')]) -> str:\n    'A.'\n    assert how in ('a', 'b') and named[0] == '#'\n    return how",
    "image": "def plum(image: Image, mask: Mask | None = None, images: list[Image] = []) -> Image:\n    'A.'\n    return Image(image.numpy() * (1 if mask is None else mask.numpy()))",
    "refuses some": "def plum(value: int, less: int) -> int:\n    'A.'\n    if value <= less:\n        raise Invalid('no')\n    return value",
    "seeded": "def plum(seed: Seed) -> float:\n    'A.'\n    return float(numpy.random.default_rng(seed).random())",
    "lazy": "def plum(value: Lazy[int]) -> int:\n    'A.'\n    return value if value.ready else Need('value')",
    "graph": "def plum(value: int) -> int:\n    'A.'\n    graph = Graph()\n    return graph.give(int=graph.add('x', 'integer', value=graph.input('value'))['int'])",
    "skips": "def plum(value: int) -> int:\n    'A.'\n    return Skip('no')",
    "open": "def plum(**values: Lazy[int]) -> int:\n    'A.'\n    return sum(one.value for one in values.values())",
    "own class": "def plum(thing: Thing) -> int:\n    'A.'\n    return thing.n",
    "volatile": "import time\n@node(volatile=True)\ndef plum() -> float:\n    'A.'\n    return time.perf_counter()",
    "effect": "@node(effect=True)\ndef plum(text: str, *, run: Run) -> None:\n    'A.'\n    run.output.mkdir(parents=True, exist_ok=True)\n    (run.output / 'a.txt').write_text(text)",
}  # fmt: skip
THING = "class Thing:\n    def __init__(self, n): self.n = n\n    def parts(self): return {'n': self.n}, {}\n"
THING += "    @classmethod\n    def from_parts(cls, meta, arrays): return cls(meta['n'])\n@node\ndef make(n: int) -> Thing:\n    'A.'\n    return Thing(n)\n"
BAD = {
    "not-deterministic": "def plum(value: int) -> float:\n    'A.'\n    return float(numpy.random.default_rng().random())",
    "input-changed": "def plum(image: Image) -> float:\n    'A.'\n    image.numpy()[...] = 0\n    return 0.0",
    "wrong-output": "def plum(value: int) -> int:\n    'A.'\n    return 'text'",
    "node-failed": "def plum(value: int) -> int:\n    'A.'\n    return 1 // (value - value)",
    "no-doc": "def plum(value: int) -> int:\n    return value",
    "not-tried": "def plum(value: int) -> int:\n    'A.'\n    raise Invalid('never')",
}  # fmt: skip


def pack_of(folder, function: str) -> Pack:
    marked = function if "@node" in function else f"@node\n{function}"
    text = IMPORTS + (THING if "Thing" in function else "") + marked + "\n"
    return Pack(write(folder / "mine", nodes=text))


@pytest.mark.parametrize("name", GOOD)
def test_nodes_that_keep_their_promises(name, tmp_path):
    assert [problem.render() for problem in pack_of(tmp_path, GOOD[name]).check()] == []


@pytest.mark.parametrize("code", BAD)
def test_nodes_that_do_not(code, tmp_path):
    (problem,) = pack_of(tmp_path, BAD[code]).check()
    assert problem.code == code
    assert problem.where.startswith("mine/plum")
    assert problem.fix or code in ("node-failed",)
    if code in ("not-deterministic", "node-failed", "wrong-output"):
        assert "with value=" in problem.detail  # what it was tried with


def test_what_no_sample_can_be_made_for(tmp_path):
    own = "class Rare(Handle):\n    __slots__ = ()\n@node\ndef plum(handle: Rare) -> int:\n    'A.'\n    return 1"
    (problem,) = pack_of(tmp_path, own).check()
    assert (problem.code, problem.where) == ("not-tried", "mine/plum")
    assert "there are no samples of mine/Rare" in problem.text


BOX = "class Box:\n    def __init__(self, value): self.value = value\n@node\ndef make(value: int) -> Box:\n    'A.'\n    return Box([{what}])\n"


def test_classes_that_do_not_say_what_they_hold(tmp_path):
    """They may go from node to node; that their addresses differ says nothing."""
    take = "@node\ndef take(box: Box) -> int:\n    'A.'\n    return 1"
    (problem,) = pack_of(tmp_path, BOX.format(what="value, Box(1)") + take).check()
    assert problem.text == (
        "'mine/take' could not be tried: it takes a mine/Box, which can be given to no run, as its class does not say what it holds"
    )
    assert problem.fix == "give the class parts() -> (meta, arrays) and from_parts(meta, arrays)"


def test_classes_that_do_not_say_what_they_hold_are_compared_by_it(tmp_path):
    (problem,) = pack_of(tmp_path, BOX.format(what="value, numpy.random.default_rng().random()")).check()
    assert problem.code == "not-deterministic"


class _Slots:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def test_objects_are_the_same_by_what_they_hold():
    assert same(_Slots(numpy.zeros(3)), _Slots(numpy.zeros(3)))
    assert not same(_Slots(numpy.zeros(3)), _Slots(numpy.ones(3)))
    assert same({"a": [_Slots(1)]}, {"a": [_Slots(1)]})
    assert not same({"a": [_Slots(1)]}, {"a": [_Slots(2)]})
    round_one, round_two = _Slots(1), _Slots(1)
    round_one.value, round_two.value = round_one, round_two
    assert same(round_one, round_one)
    assert not same(object, _Slots)


def test_samples_that_are_given(tmp_path):
    function = "def plum(word: str) -> str:\n    'A.'\n    if word != 'open sesame':\n        raise Invalid('no')\n    return word"
    pack = pack_of(tmp_path, function)
    assert [problem.code for problem in pack.check()] == ["not-tried"]
    assert pack.check(samples={"plum.word": ["open sesame"]}) == []
    assert pack.check(samples={"text": ["open sesame"]}) == []


def test_one_node_of_a_pack(tmp_path):
    more = (
        "class Two(NamedTuple):\n    low: int\n    high: int\n@node\ndef both(value: int) -> Two:\n    return Two(value - 1, value + 1)\n"
    )
    pack = Pack(write(tmp_path / "mine", nodes=body("plum", "value + 1") + more) / "nodes.py")
    assert pack.run("plum", value=4) == 5
    assert pack.run("both", value=4) == (3, 5)
    assert pack.run("both", value=4).high == 5
    assert sorted(pack.nodes) == ["both", "plum"]
    with pytest.raises(RunFailed, match="takes an int"):
        pack.run("plum", value="four")
    with pytest.raises(RunFailed, match="valeu"):
        pack.run("plum", valeu=4)
    with pytest.raises(NodegraphError, match="did you mean 'plum'"):
        pack.run("plumm")


def test_pack_that_cannot_be_loaded(tmp_path):
    write(tmp_path / "mine", nodes="def (")
    with pytest.raises(PackInvalid, match="not valid Python"):
        Pack(tmp_path / "mine").check()
    with pytest.raises(PackInvalid, match="is in no pack"):
        pack_folder(tmp_path)


def test_call_twice():
    kept = [1]

    def grows(values: list[int]) -> int:
        values.append(1)
        return 1

    def counts() -> int:
        kept.append(1)
        return len(kept)

    assert call_twice(lambda a, b: a + b, a=1, b=2) == 3
    with pytest.raises(AssertionError, match="changed its input 'values'"):
        call_twice(grows, values=[1])
    with pytest.raises(AssertionError, match="gave something else"):
        call_twice(counts)
    assert same([numpy.zeros(3)], [numpy.zeros(3)])
    assert not same(numpy.zeros(3), numpy.zeros(3, numpy.float32))


# -- samples -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds",
    [{}, {"minimum": 1, "maximum": 3}, {"minimum": 1000}, {"maximum": -5}, {"above": 0, "below": 1}, {"minimum": 64, "multiple": 64}],
)
def test_numbers_stay_in_their_bounds(bounds, tmp_path):
    for kind in (types.FLOAT, types.INT):
        if kind is types.INT and "below" in bounds:
            continue  # there is none
        for number in range(20):
            port = Port("x", kind, REQUIRED, **bounds)
            found = sample(port, number, tmp_path)
            assert type(found) is (int if kind is types.INT else float)
            assert found >= bounds.get("minimum", -99) or "maximum" in bounds
            assert found <= bounds.get("maximum", 1e9)
            assert bounds.get("above", -99) < found < bounds.get("below", 1e9) or "maximum" in bounds
            assert not found % bounds.get("multiple", found or 1)


def test_samples_are_the_same_every_time(tmp_path):
    for kind in ("int", "image", "latent", "list[mask]", "image | none", "audio", "video", "embedding", "file"):
        port = Port("p", types.parse(kind), REQUIRED, maximum=None)
        assert same(sample(port, 4, tmp_path), sample(port, 4, tmp_path))
    assert sample(Port("p", types.INT, 7), 0, tmp_path) == 7
    with pytest.raises(NoSample):
        sample(Port("p", types.named("vae"), REQUIRED), 0, tmp_path)
    assert re.search("^#", sample(Port("p", types.TEXT, REQUIRED, pattern="^#"), 5, tmp_path))


# -- what the contract found in the built-in packs -------------------------------------------------------------------------


def test_literal_on_an_open_lazy_port():
    with Engine(cache=False) as engine:
        flow = {"nodes": {"a": {"use": "coalesce", "with": {"a": None, "b": 5}}}, "outputs": {"out": "a.value"}}
        assert engine.run(flow).outputs == {"out": 5}


def test_node_that_is_called_like_an_import_of_facts(tmp_path):
    facts = "import math\ndef plum(**facts):\n    return None\n"
    pack = Pack(write(tmp_path / "mine", nodes=body("math", "value"), facts=facts))
    assert pack.engine.registry.facts(pack.node("math")) is None
    assert pack.run("math", value=3) == 3
