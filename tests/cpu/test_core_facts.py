"""What `check` says of pictures: what a run would refuse, and nothing that works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageColor

from nodegraph import Engine, Invalid
from nodegraph.errors import NodegraphError
from nodes.core import pixels
from nodes.core.facts.colors import color_problem

ONE = {"width": 12, "height": 12}
TWO, THREE = {**ONE, "batch": 2}, {**ONE, "batch": 3}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(cache=False) as made:
        yield made


def flow(used: str, pictures: dict[str, dict[str, int]], masks: dict[str, dict[str, int]], literals: dict[str, Any]) -> dict[str, Any]:
    """One node, with pictures and masks of some sizes by its ports."""
    made = {f"{port}_": {"use": "solid_image", "with": size} for port, size in pictures.items()}
    made |= {f"{port}_": {"use": "solid_mask", "with": size} for port, size in masks.items()}
    links = {**{port: f"{port}_.image" for port in pictures}, **{port: f"{port}_.mask" for port in masks}}
    return {"nodes": {**made, "node": {"use": used, "from": links, "with": literals}}}


@pytest.mark.parametrize(
    ("used", "pictures", "masks", "literals", "port"),
    [
        ("blend", {"background": TWO, "image": THREE}, {}, {}, "background"),
        ("blend", {"background": TWO, "image": ONE}, {"mask": TWO}, {}, ""),
        ("blend", {"background": ONE, "image": ONE}, {"mask": TWO}, {}, "mask"),
        ("composite", {"background": TWO, "image": ONE}, {"mask": TWO}, {}, ""),
        ("composite", {"background": TWO, "image": ONE}, {"mask": THREE}, {}, "mask"),
        ("crop_to_mask", {"image": TWO}, {"mask": THREE}, {}, "mask"),
        ("combine_masks", {}, {"a": TWO, "b": THREE}, {}, "a"),
        ("combine_masks", {}, {"a": ONE, "b": THREE}, {}, ""),
        ("mse", {"image": TWO, "reference": THREE}, {}, {}, "image"),
        ("difference_image", {"image": ONE, "reference": THREE}, {}, {}, ""),
        ("ssim", {"image": {"width": 10, "height": 12}, "reference": {"width": 10, "height": 12}}, {}, {}, "image"),
        ("ssim", {"image": ONE, "reference": ONE}, {}, {}, ""),
        ("match_color", {"image": TWO, "reference": THREE}, {}, {}, "reference"),
        ("match_color", {"image": TWO, "reference": ONE}, {}, {}, ""),
        ("levels", {"image": ONE}, {}, {"black": 0.5, "white": 0.5}, "white"),
        ("levels", {"image": ONE}, {}, {"black": 0.5, "white": 0.6}, ""),
        ("rectangle_mask", {}, {}, {**ONE, "left": 8, "right": 8}, "right"),
        ("ellipse_mask", {}, {}, {**ONE, "top": -3, "bottom": -4}, "bottom"),
        ("ellipse_mask", {}, {}, {**ONE, "left": -4, "right": -3}, ""),
        ("resize", {"image": ONE}, {}, {}, "width"),
        ("resize", {"image": {"width": 100, "height": 1}}, {}, {"height": 1000}, "width"),
        ("scale", {"image": {"width": 2000, "height": 1}}, {}, {"factor": 40.0}, "factor"),
        ("scale_to_pixels", {"image": {"width": 60000, "height": 1}}, {}, {"megapixels": 9.0}, "megapixels"),
        ("pad", {"image": {"width": 60000, "height": 1}}, {}, {"left": 6000}, "left"),
        ("pad", {"image": {"width": 60000, "height": 1}}, {}, {"left": 5536}, ""),
        ("solid_image", {}, {}, {"width": 20000, "height": 20000}, "width"),
        ("gradient", {}, {}, {"width": 20000, "height": 20000}, "width"),
        ("resize", {"image": ONE}, {}, {"height": 3}, ""),
        ("resize_mask", {}, {"mask": ONE}, {}, "width"),
        ("save_image", {"image": TWO}, {"mask": THREE}, {}, "mask"),
        ("save_image", {"image": ONE}, {"mask": ONE}, {"format": "jpeg"}, "mask"),
        ("save_image", {"image": {"width": 16_384, "height": 1}}, {}, {"format": "webp"}, "format"),
    ],
)
def test_check_tells_what_a_run_refuses(
    engine: Engine, used: str, pictures: dict[str, Any], masks: dict[str, Any], literals: dict[str, Any], port: str
) -> None:
    given = flow(used, pictures, masks, literals)
    given["outputs"] = {"out": f"node.{next(iter(engine.registry.get(used).outputs))}"}
    told = engine.check(given)
    assert [problem.where.rpartition(".")[2] for problem in told] == ([port] if port else [])
    if not port:
        assert engine.run(given).ok
        return
    with pytest.raises(NodegraphError) as caught:  # of what the node itself says when nothing was known before
        engine.run(late(given))
    assert told[0].text in str(caught.value)
    assert told[0].fix in str(caught.value)


@pytest.mark.parametrize("text", [*ImageColor.colormap, "Orange", "#FFF", "#12ab9F", "rgb(1, 2, 3)", "hsl(39, 100%, 50%)", "#fff\n"])
def test_what_is_a_colour_is_none_that_check_refuses(text: str) -> None:
    assert pixels.color(text).shape == (1, 3, 1, 1)
    assert color_problem(text) is None


@pytest.mark.parametrize(
    "text", ["", "bluee", "#12", "#1234", "#12345678", "fff", " red", "red ", "#ggg", "#fff\n\n", "transparent", "x" * 200]
)
def test_what_is_no_colour(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        pixels.color(text)
    assert color_problem(text) == (str(caught.value), caught.value.fix)


@pytest.mark.parametrize(
    ("used", "port", "literals"),
    [
        ("tint", "color", {}),
        ("mask_from_color", "color", {}),
        ("draw_text", "color", {"text": "a fox"}),
        ("rotate", "color", {}),
        ("pad", "color", {}),
        ("pad", "", {"mode": "edge", "color": "bluee"}),
        ("image_grid", "background", {}),
        ("solid_image", "color", {}),
        ("gradient", "end", {}),
        ("gradient", "start", {}),
    ],
)
def test_check_tells_of_colours(engine: Engine, used: str, port: str, literals: dict[str, Any]) -> None:
    linked = {"image", "images"} & engine.registry.get(used).inputs.keys()
    node = {"use": used, "from": dict.fromkeys(linked, "picture.image"), "with": {**literals, **({port: "bluee"} if port else {})}}
    given = {"nodes": {"picture": {"use": "solid_image", "with": {**ONE, "color": "orange"}}, "node": node}}
    if used == "image_grid":
        node["from"] = {"images": ["picture.image"]}
    told = engine.check(given)
    assert [problem.where for problem in told] == ([f"nodes.node.with.{port}"] if port else [])


@pytest.mark.parametrize(
    ("used", "links", "literals", "port"),
    [
        ("format_text", {}, {"template": "{x", "x": 1}, "template"),
        ("format_text", {}, {"template": "{x:.2f}", "x": "one"}, "template"),
        ("format_text", {"x": "size.width"}, {"template": "{x:5d} {{y}}"}, ""),
        ("save_image", {"image": "picture.image"}, {"name": "{prompt}"}, "name"),
        ("save_image", {"image": "picture.image"}, {"name": "{index:s}"}, "name"),
        ("save_image", {"image": "picture.image"}, {"name": "a: {n}"}, "name"),
        ("save_image", {"image": "picture.image"}, {"name": "/fox"}, "name"),
        ("save_image", {"image": "picture.image"}, {"name": "x" * 197}, "name"),
        ("save_image", {"image": "picture.image"}, {"name": "x" * 196, "format": "jpeg"}, ""),
        ("save_image", {"image": "picture.image", "mask": "mask.mask"}, {"format": "webp"}, ""),
        ("save_image", {"image": "picture.image"}, {"name": "{workflow}/{node}-{index:02}-{n}-{key8:.4}"}, ""),
    ],
)
def test_check_tells_of_templates(tmp_path: Path, used: str, links: dict[str, str], literals: dict[str, Any], port: str) -> None:
    nodes: dict[str, Any] = {
        "mask": {"use": "solid_mask", "with": ONE},
        "picture": {"use": "solid_image", "with": ONE},
        "size": {"use": "image_size", "from": {"image": "picture.image"}},
    }
    given = {"nodes": {**nodes, "node": {"use": used, "from": links, "with": literals}}}
    with Engine(cache=False, output=tmp_path) as engine:
        given["outputs"] = {"out": f"node.{next(iter(engine.registry.get(used).outputs))}"}
        told = engine.check(given)
        assert [problem.where for problem in told] == ([f"nodes.node.with.{port}"] if port else [])
        if not port:
            assert engine.run(given).ok
            return
        asked = literals[{"format_text": "template", "save_image": "name"}[used]]
        given["nodes"]["asked"] = {"use": "concatenate_text", "with": {"first": asked}}
        given["nodes"]["node"] = {
            "use": used,
            "from": {**links, port: "asked.text"},
            "with": {name: value for name, value in literals.items() if name != port},
        }
        with pytest.raises(NodegraphError) as caught:  # of what the node itself says when nothing was known before
            engine.run(given)
        assert told[0].fix in str(caught.value)


def late(given: dict[str, Any]) -> dict[str, Any]:
    """The same, with all that facts follow from known only when it runs."""
    nodes = dict(given["nodes"])
    for name, each in given["nodes"].items():
        known = {port: value for port, value in each["with"].items() if isinstance(value, str)}
        nodes[name] = {**each, "with": known}
        for port, value in each["with"].items() - known.items():
            nodes[f"{name}-{port}"] = {"use": "calculate", "with": {"expression": str(value)}}
            source = f"{name}-{port}.{'integer' if isinstance(value, int) else 'number'}"
            nodes[name] = {**nodes[name], "from": {**nodes[name].get("from", {}), port: source}}
    return {**given, "nodes": nodes}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"with": {"choice": "one"}}, []),
        ({"with": {"choice": "two"}}, [("facts-mismatch", "nodes.blended.from.background")]),
        ({"with": {"choice": "six"}}, [("facts-mismatch", "nodes.chosen.with.choice")]),
        ({"from": {"choice": "inputs.which"}}, []),
    ],
)
def test_what_is_known_of_a_choice(engine: Engine, choice: dict[str, Any], told: list[tuple[str, str]]) -> None:
    """Of an open one only what all that there is to choose from have in common: a default may be left for another."""
    nodes = {
        "one": {"use": "solid_image", "with": ONE},
        "two": {"use": "solid_image", "with": TWO},
        "three": {"use": "solid_image", "with": THREE},
        "chosen": {"use": "choose", **choice, "from": {**choice.get("from", {}), "one": "one.image", "two": "two.image"}},
        "blended": {"use": "blend", "from": {"background": "chosen.value", "image": "three.image"}},
    }
    declared = {"which": {"type": "text"}}
    found = engine.check({"inputs": declared, "nodes": nodes, "outputs": {"image": "blended.image"}})
    assert [(problem.code, problem.where) for problem in found] == told
    if "from" in choice:
        with pytest.raises(NodegraphError, match="is a batch of 2"):
            engine.submit({"inputs": declared, "nodes": nodes, "outputs": {"image": "blended.image"}}, which="two")
        wide = {**nodes, "blended": {"use": "blend", "from": {"background": "chosen.value", "image": "wide.image"}}}
        wide["wide"] = {"use": "solid_image", "with": {"width": 13, "height": 12}}
        (problem,) = engine.check({"inputs": declared, "nodes": wide, "outputs": {"image": "blended.image"}})
        assert "13" in problem.text
