"""Nodes that misbehave while they run: the run ends, says which node and why, and what does not depend on it is finished."""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple, TypeVar

import goldens
import numpy
import pytest
from cases import bare_engine

from nodegraph import Audio, Engine, Graph, Image, Invalid, Lazy, Mask, Need, Ref, Skip, WorkflowInvalid, node
from nodegraph.cli import main
from nodegraph.errors import render

T = TypeVar("T")
SECONDS = 20


class Two(NamedTuple):
    first: int
    second: int


class Unsayable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class UnsayableRuntime(Unsayable, RuntimeError):
    """As what devices raise, of which the text says whether memory is short."""


def misbehaving(what: str, value: Any) -> Any:
    """Do what a case asks for."""
    if what == "end-program":
        sys.exit(3)
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "generator-exit":
        raise GeneratorExit
    if what == "recursion":
        return misbehaving(what, value)
    if what == "unsayable":
        raise Unsayable
    if what == "unsayable-runtime":
        raise UnsayableRuntime
    if what == "unsayable-cause":
        raise ValueError("cannot go on") from Unsayable()
    if what == "caused":
        try:
            raise OSError("disk full")
        except OSError as error:
            raise ValueError("cannot go on") from error
    if what == "invalid":
        raise Invalid("the value is too odd", fix="use an even one", port="value")
    if what == "workflow-invalid":
        raise WorkflowInvalid([])
    return OUTCOMES[what]() if what in OUTCOMES else value


def _graph(**nodes: Any) -> Graph:
    graph = Graph()
    for name, (use, inputs) in nodes.items():
        graph.add(name, use, **inputs)
    return graph


OUTCOMES = {
    "wrong-type": lambda: "text",
    "bool-for-int": lambda: True,
    "none": lambda: None,
    "tuple": lambda: (1, 2),
    "need-unknown": lambda: Need("nothing"),
    "need-not-lazy": lambda: Need("value"),
    "need-none": lambda: Need(),
    "foreign-lazy": lambda: Lazy("elsewhere"),
    "class": lambda: Skip,
    "graph-empty": Graph,
    "graph-unknown-node": lambda: _graph(a=("zzz", {})).give(int=Ref("a", "int")),
    "graph-wrong-literal": lambda: _graph(a=("sound", {"value": "x"})).give(int=Ref("a", "int")),
    "graph-unknown-link": lambda: _graph(a=("sound", {"value": Ref("b", "int")})).give(int=Ref("a", "int")),
    "graph-cycle": lambda: _graph(a=("sound", {"value": Ref("a", "int")})).give(int=Ref("a", "int")),
    "graph-wrong-output": lambda: _graph(a=("sound", {})).give(image=Ref("a", "int")),
    "graph-wrong-type": lambda: _graph(a=("spoken", {})).give(int=Ref("a", "text")),
    "graph-no-ref": lambda: _graph(a=("sound", {})).give(int=5),
    "graph-no-node": lambda: _graph(a=(5, {})).give(int=Ref("a", "int")),
    "graph-itself": lambda: _graph(a=("bad", {"what": "graph-itself", "value": object()})).give(int=Ref("a", "int")),
}


@node
def bad(what: str, value: int = 1) -> int:
    return misbehaving(what, value)


@node
async def bad_async(what: str, value: int = 1) -> int:
    return misbehaving(what, value)


@node
def bad_two(what: str) -> Two:
    return {"one": 1, "three": (1, 2, 3), "swapped": Two("a", 2)}[what]


@node
def bad_lazy(value: Lazy[int]) -> int:
    return Need("value")  # again and again


def bad_print(**inputs: Any) -> bytes:
    raise RuntimeError("no fingerprint")


@node(fingerprint=bad_print)
def printed(value: int = 1) -> int:
    return value


@node
def sound(value: int = 2) -> int:
    return value


@node
def spoken(value: str = "x") -> str:
    return value


NODES = [bad, bad_async, bad_two, bad_lazy, printed, sound, spoken]


@pytest.fixture(scope="module")
def engine():
    with bare_engine(nodes=NODES, threads=2) as made:
        yield made


def run(engine, use: str, **literals: Any) -> Any:
    nodes = {
        "sick": {"use": use, "with": literals},
        "after": {"use": "sound", "from": {"value": "sick.int" if use != "bad_two" else "sick.first"}},
        "well": {"use": "sound"},
    }
    return engine.submit({"nodes": nodes, "outputs": {"after": "after.int", "well": "well.int"}}).result(SECONDS)


RAISE = ["end-program", "recursion", "caused", "invalid"]
OTHERS = ["generator-exit", "interrupt", "workflow-invalid", "foreign-lazy", "graph-no-ref"]
OTHERS += ["unsayable", "unsayable-runtime", "unsayable-cause"]
"""Outcomes whose exact text matters less than that there is one problem, of the right node."""


@pytest.mark.parametrize("what", [*RAISE, *(one for one in OUTCOMES if one not in OTHERS)])
def test_bad_node(what, engine):
    result = run(engine, "bad", what=what)
    assert result.status == "failed"
    assert result.outputs == {"well": 2}
    shown = render([problem.at(problem.where, detail="") for problem in result.problems])
    goldens.compare("nodes.txt", what, shown)


@pytest.mark.parametrize("what", OTHERS)
def test_stranger_bad_node(what, engine):
    result = run(engine, "bad", what=what)
    assert result.outputs == {"well": 2}
    assert [(problem.code, problem.where) for problem in result.problems] in ([("node-failed", "sick")], [("wrong-output", "sick")])


@pytest.mark.parametrize("what", ["caused", "wrong-type", "end-program"])
def test_bad_async_node(what, engine):
    result = run(engine, "bad_async", what=what)
    assert result.status == "failed"
    assert result.outputs == {"well": 2}


@pytest.mark.parametrize("what", ["one", "three", "swapped"])
def test_bad_record(what, engine):
    result = run(engine, "bad_two", what=what)
    goldens.compare("nodes.txt", f"record-{what}", render(result.problems))
    assert result.outputs == {"well": 2}


def test_need_of_what_is_there(engine):
    nodes = {"one": {"use": "sound"}, "a": {"use": "bad_lazy", "from": {"value": "one.int"}}}
    result = engine.submit({"nodes": nodes, "outputs": {"out": "a.int"}}).result(SECONDS)
    goldens.compare("nodes.txt", "need-again", render(result.problems))


def test_frames_are_the_authors(engine):
    result = run(engine, "bad", what="caused")
    (problem,) = result.problems
    lines = problem.detail.splitlines()
    assert [line.partition(" in ")[2].partition(":")[0] for line in lines] == ["bad", "misbehaving", ""]
    assert all("nodegraph/" not in line for line in lines)
    assert lines[-1] == "caused by OSError: disk full"


# -- the command line ----------------------------------------------------------------------------------------------

PACK = """
import sys
from nodegraph import node

@node
def sick(how: str = "raise") -> int:
    if how == "exit":
        sys.exit(0)
    if how == "text":
        return "text"
    raise ValueError("sick")

@node
def fine(value: int = 2) -> int:
    return value
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pack = tmp_path / "packs" / "clinic"
    pack.mkdir(parents=True)
    (pack / "pack.toml").write_text("")
    (pack / "nodes.py").write_text(PACK)
    monkeypatch.setenv("NODEGRAPH_PACKS", str(tmp_path / "packs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, workflow: Any) -> str:
    (folder / "main.json").write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
    return "main.json"


@pytest.mark.parametrize("how", ["raise", "exit", "text"])
def test_a_node_that_fails_exits_with_1(how, folder, capsys):
    file = write(folder, {"nodes": {"a": {"use": "sick", "with": {"how": how}}}, "outputs": {"out": "a.int"}})
    assert main(["run", file]) == 1
    said = capsys.readouterr().err
    assert "error[" in said
    assert "at  a" in said


@pytest.mark.parametrize(
    "workflow",
    [
        "{",
        "[]",
        '{"nodes": {"a": {"use": "zzz"}}}',
        {"nodes": {"a": {"use": "fine", "with": {"value": "1"}}}},
        {"nodes": {"a": {"use": "./main.json"}}},
    ],
)
def test_a_wrong_file_exits_with_2(workflow, folder, capsys):
    file = write(folder, workflow)
    for command in (["run", file], ["check", file], ["plan", file]):
        assert main(command) == 2
        told = capsys.readouterr()
        assert "error[" in told.err + told.out
        assert "Traceback" not in told.err
    assert main(["check", file, "--json"]) == 2
    (first, *_) = json.loads(capsys.readouterr().out)
    assert {"code", "message", "file", "line", "path", "fix"} <= set(first)


@pytest.mark.parametrize("given", [["--set", "x=1"], ["--set", "n=one"], ["--set", "n"], ["--set", "a.zzz=1"], ["--only", "zzz"], []])
def test_wrong_inputs_exit_with_2(given, folder, capsys):
    file = write(
        folder,
        {"inputs": {"n": {"type": "int"}}, "nodes": {"a": {"use": "fine", "from": {"value": "inputs.n"}}}, "outputs": {"out": "a.int"}},
    )
    more = ["--set", "n=1"] if given and given[0] == "--only" else []
    assert main(["run", file, *given, *more]) == 2
    assert "Traceback" not in capsys.readouterr().err


NUMBERS = {
    "nan": (numpy.nan, "values that are no numbers, or infinite"),
    "inf": (numpy.inf, "values that are no numbers, or infinite"),
    "bytes": (255, "values from 0 to 255, but black is 0 and white is 1"),
    "-nan": (-numpy.nan, "values that are no numbers, or infinite"),
    "-inf": (-numpy.inf, "values that are no numbers, or infinite"),
    "-0": (-0.0, ""),
    "dark": (-1.5, "values from -1.5 to 0, but black is 0 and white is 1"),
    "rounded": (1.01, ""),
}


def holding(cls: Any, name: str, *more: Any) -> Any:
    """A picture or sound with one odd number."""
    data = numpy.zeros((1, 1, 4, 4) if cls is Mask else (1, 3, 4, 4) if cls is Image else (1, 2, 9), numpy.float32)
    data.flat[-1] = NUMBERS[name][0]
    return cls(data, *more)


@node
def odd_image(name: str) -> Image:
    return holding(Image, name)


@node
def odd_masks(name: str) -> list[Mask]:
    return [holding(Mask, "rounded"), holding(Mask, name)]


@node
def odd_audio(name: str) -> Audio:
    return holding(Audio, name, 48_000)


@node
def seen(image: Image | None = None, masks: list[Mask] = []) -> int:  # noqa: B006
    return 1


@pytest.mark.parametrize("name", NUMBERS)
def test_pictures_of_numbers_that_are_none(name):
    """From a node, or given: what is no number, or of another scale, is refused; a little beyond 0..1 is not."""
    with bare_engine(nodes=[odd_image, odd_masks, odd_audio, seen]) as engine:
        for use, output in (("odd_image", "image"), ("odd_masks", "masks"), ("odd_audio", "audio")):
            workflow = {"nodes": {"a": {"use": use, "with": {"name": name}}}, "outputs": {"out": f"a.{output}"}}
            problems = engine.submit(workflow).result(SECONDS).problems
            said = [f"{use!r} gave {output!r} with {NUMBERS[name][1]}"] if NUMBERS[name][1] else []
            loud = use == "odd_audio" and name in ("bytes", "dark")  # sound beyond its range is cut where it is written
            assert [(one.code, one.where, one.text) for one in problems] == [("wrong-output", "a", one) for one in said if not loud]
        declared = {"image": {"type": "image"}, "masks": {"type": "list[mask]"}}
        nodes = {"a": {"use": "seen", "from": {"image": "inputs.image", "masks": "inputs.masks"}}}
        workflow = {"inputs": declared, "nodes": nodes, "outputs": {"out": "a.int"}}
        given = {"image": holding(Image, name), "masks": [holding(Mask, name)]}
        if not NUMBERS[name][1]:
            assert engine.run(workflow, given).outputs == {"out": 1}
            return
        with pytest.raises(WorkflowInvalid) as caught:
            engine.run(workflow, given)
        assert [(one.code, one.text) for one in caught.value.problems] == [
            ("out-of-range", f"{port!r} has {NUMBERS[name][1]}") for port in given
        ]


class Unpartable:
    def parts(self) -> Any:
        raise ValueError("no parts today")


@node
def unpartable() -> Unpartable:
    return Unpartable()


@pytest.mark.parametrize("debug", [False, True])
def test_a_value_that_cannot_be_taken_apart_is_its_nodes_mistake(debug):
    with bare_engine(nodes=[unpartable], debug=debug) as engine:
        workflow = {"nodes": {"a": {"use": "unpartable"}}, "outputs": {"out": "a.unpartable"}}
        problems = engine.submit(workflow).result(SECONDS).problems
    assert [(one.code, one.where) for one in problems] == [("node-failed", "a")]
    assert "ValueError: no parts today" in problems[0].text


def test_a_number_of_numpy_is_told_from_one_of_python():
    """It was said to be a bool, but to have given a bool."""

    @node
    def sick(value: float = 0.0) -> bool:
        return numpy.bool_(value > 0)

    with Engine(nodes=[sick], cache=False) as engine:
        [problem] = engine.submit({"nodes": {"a": {"use": "sick"}}, "outputs": {"out": "a.bool"}}).result().problems
    assert problem.text == "'sick' says that 'bool' is bool, but gave a numpy.bool"
