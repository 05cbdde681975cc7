"""The workflows that need no model, and control flow and loops of the core pack, in an engine."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import nodegraph
from nodegraph import File
from nodes.core import color, filters, images, layers, transform

WORKFLOWS = Path(__file__).parents[2] / "workflows"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with nodegraph.Engine(cache=False, output=tmp_path_factory.mktemp("output")) as engine:
        yield engine


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    down, across = np.mgrid[0:40, 0:60]
    PIL.Image.fromarray(np.stack([across * 4, down * 6, 255 - across * 2], axis=2).astype(np.uint8)).save(path)
    return str(path)


def inline(nodes, outputs, **inputs):
    return {"nodegraph": 1, "inputs": inputs, "nodes": nodes, "outputs": outputs}


# --- workflows -----------------------------------------------------------------------


def test_photo_edit_is_the_calls_it_stands_for(engine, photo):
    edited = engine.run(WORKFLOWS / "photo_edit.json", photo=photo, size=48, saturation=0.5).outputs["image"]
    fit = transform.resize(images.load_image(File.at(photo)).image, 48, 48, fit="contain")
    sharp = filters.sharpen(color.adjust_color(fit, 1.05, 1.1, 0.5), 0.6, 1.2)
    wanted = layers.blend(sharp, layers.gradient(48, 32, "white", "black", "radial"), "multiply", 0.35)
    assert np.array_equal(edited.numpy(), wanted.numpy())


def test_a_contact_sheet_shows_every_pair(engine, photo):
    result = engine.run(WORKFLOWS / "contact_sheet.json", photo=photo, brightness=[0.5, 1.0], saturation=[0.0, 1.0, 2.0], size=48)
    sheet = result.outputs["image"]
    assert (sheet.width, sheet.height) == (3 * (48 + 12) + 12, 2 * (32 + 21 + 12) + 12)
    last = engine.run(WORKFLOWS / "photo_edit.json", photo=photo, size=48, brightness=1.0, saturation=2.0).outputs["image"]
    assert np.array_equal(sheet.numpy()[:, :, 12 + 65 : 12 + 65 + 32, 12 + 120 : 12 + 120 + 48], last.numpy())


def test_droste_is_its_turn_again_and_again(engine, photo):
    picture = transform.scale_to_pixels(images.load_image(File.at(photo)).image, 0.5)
    for turns in range(3):
        found = engine.run(WORKFLOWS / "droste.json", photo=photo, turns=turns, factor=0.5).outputs["image"]
        assert np.array_equal(found.numpy(), picture.numpy())
        picture = layers.composite(picture, transform.scale(picture, 0.5), x=None, y=None)


# --- loops ---------------------------------------------------------------------------

TURN = inline(
    {
        "sum": {"use": "integer_math", "from": {"a": "inputs.value", "b": "inputs.index"}},
        "again": {"use": "compare", "from": {"a": "sum.int"}, "with": {"b": 100, "operation": "less"}},
    },
    {"value": "sum.int", "again": "again.bool"},
    value={"type": "int"},
    index={"type": "int"},
)


def loop(use, **literals):
    nodes = {"loop": {"use": use, "from": {"value": "inputs.start"}, "with": {"body": TURN, **literals}}}
    return inline(nodes, {"value": "loop.value"}, start={"type": "int", "default": 0})


@pytest.mark.parametrize(("count", "value"), [(0, 7), (1, 7), (5, 17), (500, 124757)])
def test_a_counted_loop(engine, count, value):
    assert engine.run(loop("repeat", count=count), start=7).outputs["value"] == value


def test_a_conditional_loop(engine):
    assert engine.run(loop("repeat_while")).outputs["value"] == 105
    assert engine.run(loop("repeat_while", again=False), start=7).outputs["value"] == 7


def test_a_loop_without_an_end_fails(engine):
    with pytest.raises(nodegraph.RunFailed, match="the loop was not done after 3 turns"):
        engine.run(loop("repeat_while", limit=3))


# --- control -------------------------------------------------------------------------


def test_coalesce_goes_past_what_was_skipped(engine):
    nodes = {
        "skipped": {"use": "skip_if", "from": {"condition": "inputs.skip"}, "with": {"value": 1}},
        "first": {"use": "coalesce", "from": {"a": "skipped.value", "b": "inputs.other"}},
    }
    workflow = inline(nodes, {"value": "first.value"}, skip={"type": "bool"}, other={"type": "int", "default": 2})
    assert engine.run(workflow, skip=False).outputs["value"] == 1
    assert engine.run(workflow, skip=True).outputs["value"] == 2


def test_what_is_not_chosen_is_not_computed(engine):
    nodes = {
        "fails": {"use": "require", "with": {"condition": False, "value": 1}},
        "works": {"use": "integer", "with": {"value": 2}},
        "either": {"use": "switch", "from": {"condition": "inputs.which", "on_true": "fails.value", "on_false": "works.int"}},
        "named": {"use": "choose", "from": {"bad": "fails.value", "good": "works.int"}, "with": {"choice": "good"}},
    }
    workflow = inline(nodes, {"either": "either.value", "named": "named.value"}, which={"type": "bool", "default": False})
    assert engine.run(workflow).outputs == {"either": 2, "named": 2}
    with pytest.raises(nodegraph.RunFailed, match="the condition is false"):
        engine.run(workflow, which=True)


def test_lists_keep_their_types_and_order(engine):
    nodes = {
        "range": {"use": "integer_range", "with": {"start": 1, "stop": 4}},
        "double": {"use": "integer_math", "each": {"a": "range.ints"}, "with": {"b": 2, "operation": "multiply"}},
        "both": {"use": "concatenate_lists", "from": {"lists": ["range.ints", "double.int"]}},
        "texts": {"use": "number_to_text", "each": {"number": "both.value"}},
        "joined": {"use": "join_text", "from": {"texts": "texts.text"}, "with": {"separator": " "}},
    }
    assert engine.run(inline(nodes, {"text": "joined.text"})).outputs["text"] == "1 2 3 2 4 6"


# --- saving --------------------------------------------------------------------------


def test_saving_in_a_run(tmp_path):
    nodes = {
        "solid": {"use": "solid_image", "from": {"color": "inputs.color"}, "with": {"width": 4, "height": 4}},
        "save": {"use": "save_image", "from": {"image": "solid.image"}, "with": {"name": "{workflow}_{node}"}},
    }
    workflow = {**inline(nodes, {}, color={"type": "text", "default": "red"}), "name": "solid"}
    with nodegraph.Engine(cache=False, output=tmp_path) as engine:
        for color_name in ("red", "red", "blue"):
            engine.run(workflow, color=color_name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["solid_save-2.png", "solid_save.png"]
    assert "nodegraph" in PIL.Image.open(tmp_path / "solid_save.png").text
