"""Graphs as pictures: layout, what is drawn, states and small pictures of results."""

from __future__ import annotations

import base64
import io
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import PAINT, toys, write  # noqa: F401

from nodegraph import Engine, Workflow
from nodegraph.boxes import STATES
from nodegraph.cli import main
from nodegraph.drawing import draw
from nodegraph.errors import Problems
from nodegraph.glance import glance, looks
from nodegraph.layout import LAYER_GAP, layered

SVG = "{http://www.w3.org/2000/svg}"
BUILT_IN = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))


@pytest.fixture(autouse=True)
def _place(toys: Path) -> None:  # noqa: F811
    pass


def drawn(flow: Any, looks: Any = None, values: Any = None, **options: Any) -> ElementTree.Element:
    with Engine() as engine:
        workflow = Workflow.of(flow)
        return ElementTree.fromstring(draw(workflow, engine._template(workflow), looks, values, **options))


def nodes(svg: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {one.attrib["data-node"]: one for one in svg.iter(f"{SVG}g") if "data-node" in one.attrib}


def texts(svg: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in svg.iter(f"{SVG}text")]


# -- layout ------------------------------------------------------------------------------------------------------------

GRAPHS = st.integers(1, 40).flatmap(
    lambda count: st.tuples(
        st.lists(st.tuples(st.floats(40, 300), st.floats(40, 200)), min_size=count, max_size=count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=3 * count),
    )
)


@given(GRAPHS)
@settings(max_examples=60, deadline=None)
def test_boxes_never_overlap_and_edges_run_to_the_right(graph: Any) -> None:
    listed, pairs = graph
    sizes = {str(number): size for number, size in enumerate(listed)}
    edges = [(str(min(pair)), str(max(pair))) for pair in pairs]
    made = layered(sizes, edges)
    assert set(made.at) == set(sizes)
    places = [(*made.at[name], *sizes[name]) for name in sizes]
    for number, (x, y, width, height) in enumerate(places):
        assert x >= -0.01
        assert y >= -0.01
        assert x + width <= made.width + 0.01
        assert y + height <= made.height + 0.01
        for a, b, c, d in places[number + 1 :]:
            assert x + width <= a + 0.01 or a + c <= x + 0.01 or y + height <= b + 0.01 or b + d <= y + 0.01
    for source, target in edges:
        if source != target:
            assert made.at[source][0] + sizes[source][0] + LAYER_GAP <= made.at[target][0] + 0.01


def test_a_circle_is_drawn_too() -> None:
    made = layered({"a": (10, 10), "b": (10, 10)}, [("a", "b"), ("b", "a")])
    assert set(made.at) == {"a", "b"}


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_nodes_ports_values_and_tags_are_there() -> None:
    svg = drawn(PAINT, values={"level": 0.75})
    assert list(nodes(svg)) == ["paint", "dim"]
    assert {"grey", "paint", "darker", "level = 0.75", "seed = 0", "amount", "0.25", "image"} <= set(texts(svg))
    told = [one.text for one in svg.iter(f"{SVG}title")]
    assert "paint.image → dim.image: image" in told
    assert "A darker picture." in told


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
@pytest.mark.parametrize("opened", [False, True])
def test_every_workflow_that_comes_with_nodegraph_is_drawn(path: Path, opened: bool) -> None:
    workflow = Workflow.load(path)
    found = nodes(drawn(path, opened=opened))
    assert set(workflow.nodes) <= set(found)
    assert opened or set(workflow.nodes) == set(found)


def test_workflows_inside_are_boxes_that_open() -> None:
    write(
        {
            "inputs": {"size": {"type": "int", "default": 4}},
            "nodes": {"p": {"use": "paint", "from": {"size": "inputs.size"}}},
            "outputs": {"image": "p.image"},
        },
        "inner.json",
    )
    flow = write({"nodes": {"in": {"use": "./inner.json", "with": {"size": 9}}}, "outputs": {"image": "in.image"}})
    assert list(nodes(drawn(flow))) == ["in"]
    opened = drawn(flow, opened=True)
    assert list(nodes(opened)) == ["in", "in/p"]
    assert "size = 9" in texts(opened)  # what is in it sees the value from outside


def test_texts_are_escaped() -> None:
    svg = drawn(
        {
            "name": "<b>&\"'",
            "doc": "</svg><script>",
            "nodes": {"p": {"use": "paint", "doc": "<i>"}, "r": {"use": "join_texts", "with": {"separator": "<&>"}}},
        }
    )
    assert "<b>&\"'" in texts(svg)
    assert not list(svg.iter(f"{SVG}script"))
    assert "<&>" in texts(svg)


def test_a_graph_that_is_too_large_is_refused() -> None:
    flow = Workflow.of({"nodes": {f"n{number}": {"use": "paint"} for number in range(2000)}})
    with Engine() as engine, pytest.raises(Problems, match="too-large"):
        draw(flow, engine._template(flow))


# -- states ------------------------------------------------------------------------------------------------------------


def test_states_and_pictures_come_from_the_cache() -> None:
    flow = {**PAINT, "nodes": {**PAINT["nodes"], "more": {"use": "darker", "from": {"image": "dim.image"}}}}
    flow["outputs"] = {"image": "dim.image", "more": "more.image"}
    workflow = Workflow.of(flow)
    with Engine() as engine:
        assert [one.state for one in glance(engine, workflow, {})] == ["run", "run", "run"]
        engine.run(workflow, {}, only=["image"])
        seen = glance(engine, workflow, {})
        assert [(one.path, one.state) for one in seen] == [("paint", "cached"), ("dim", "cached"), ("more", "run")]
        url, width, height = seen[1].picture or ("", 0, 0)
        assert (width, height) == (8, 8)
        assert PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (8, 8)
        assert seen[2].picture is None
    svg = drawn(flow, looks(seen))
    assert [one.attrib["data-state"] for one in nodes(svg).values()] == ["cached", "cached", "run"]
    assert len(list(svg.iter(f"{SVG}image"))) == 2
    assert {STATES["cached"][1], STATES["run"][1]} <= set(texts(svg))


def test_what_nothing_needs_is_idle() -> None:
    workflow = Workflow.of({**PAINT, "outputs": {"image": "paint.image"}})
    with Engine() as engine:
        assert [one.state for one in glance(engine, workflow, {})] == ["run", "idle"]


@pytest.mark.parametrize(
    ("only", "states"),
    [
        ([], ["run", "run", "effect", "run"]),
        (["image"], ["run", "idle", "idle", "run"]),
        (["dim"], ["run", "run", "idle", "idle"]),
        (["save"], ["run", "run", "effect", "idle"]),
    ],
)
def test_what_is_not_asked_for_is_idle(only: list[str], states: list[str]) -> None:
    used = {**PAINT["nodes"], "save": {"use": "save_image", "from": {"image": "dim.image"}}}
    used["bright"] = {"use": "invert", "from": {"image": "paint.image"}}
    workflow = Workflow.of({**PAINT, "nodes": used, "outputs": {"image": "bright.image"}})
    with Engine() as engine:
        assert [one.state for one in glance(engine, workflow, {}, only=only)] == states
        drawing = ["show", write(workflow.to_json()), "--svg", "asked.svg", *(word for name in only for word in ("--only", name))]
    assert main(drawing) == 0
    shown = nodes(ElementTree.fromstring(Path("asked.svg").read_text()))
    assert [shown[name].attrib["data-state"] for name in used] == states


def test_items_of_a_list_are_one_node() -> None:
    flow = {"nodes": {"p": {"use": "paint", "each": {"level": [0.1, 0.2]}}}, "outputs": {"images": "p.image"}}
    workflow = Workflow.of(flow)
    with Engine() as engine:
        engine.run({"nodes": {"p": {"use": "paint", "with": {"level": 0.1}}}, "outputs": {"image": "p.image"}})
        assert [one.state for one in glance(engine, workflow, {})] == ["cached", "run"]
        assert looks(glance(engine, workflow, {}))["p"].state == "run"


def test_large_pictures_become_small(tmp_path: Path) -> None:
    workflow = Workflow.of({"nodes": {"p": {"use": "paint", "with": {"size": 900}}}, "outputs": {"image": "p.image"}})
    with Engine() as engine:
        engine.run(workflow)
        [seen] = glance(engine, workflow, {})
    assert seen.picture
    assert seen.picture[1:] == (240, 240)


# -- the command -------------------------------------------------------------------------------------------------------


def test_svg_and_png_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("resvg_py")
    assert main(["run", write(PAINT), "-q"]) == 0
    assert main(["show", "w.json", "--svg", "g.svg", "--png", "g.png", "-q"]) == 0
    capsys.readouterr()
    size = ElementTree.fromstring(Path("g.svg").read_text()).attrib
    with PIL.Image.open("g.png") as picture:
        assert picture.size == (2 * int(size["width"]), 2 * int(size["height"]))
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50
    assert main(["show", "w.json", "--svg", "-", "--plain"]) == 0
    plain = ElementTree.fromstring(capsys.readouterr().out)
    assert {one.attrib["data-state"] for one in nodes(plain).values()} == {""}


@pytest.mark.parametrize("package", ["grandalf.graphs", "resvg_py"])
def test_what_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    write(PAINT)
    assert main(["show", "w.json", "--png", "g.png"]) == 2
    said = capsys.readouterr().err
    assert f"needs {'grandalf' if 'grandalf' in package else 'resvg-py'}, which is not installed" in said
    assert 'pip install "nodegraph[draw]"' in said


def test_what_xml_cannot_hold_is_replaced() -> None:
    said = "a\x01b\ud800c"
    write({"doc": said, "nodes": {"t": {"use": "text", "with": {"value": said}}}, "outputs": {"t": "t.text"}})
    assert main(["show", "w.json", "--svg", "g.svg"]) == 2, "half a character in a literal is a mistake, and drawn"
    shown = [text for text in texts(ElementTree.fromstring(Path("g.svg").read_text(encoding="utf-8"))) if "\ufffd" in text]
    assert any("a\ufffdb\ufffdc" in text for text in shown)


def test_mistakes_are_red(capsys: pytest.CaptureFixture[str]) -> None:
    write({**PAINT, "nodes": {**PAINT["nodes"], "dim": {"use": "darker", "from": {"image": "inputs.level"}}}})
    assert main(["show", "w.json", "--svg", "g.svg"]) == 2
    found = nodes(ElementTree.fromstring(Path("g.svg").read_text()))
    assert [one.attrib["data-state"] for one in found.values()] == ["", "failed"]
    assert "error[type-mismatch]" in capsys.readouterr().err


def test_a_missing_input_is_drawn_without_states(capsys: pytest.CaptureFixture[str]) -> None:
    write({"inputs": {"level": {"type": "float"}}, "nodes": {"p": {"use": "paint", "from": {"level": "inputs.level"}}}})
    assert main(["show", "w.json", "--svg", "g.svg"]) == 0
    assert "drawn without what is cached: the workflow needs the input 'level'" in capsys.readouterr().err
