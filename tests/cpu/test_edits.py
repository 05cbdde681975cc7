"""The edits that instruction models learn: what is asked is exactly what differs."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from icon_data import write_icons

from training import shapes
from training.edits import draw_edit, draw_shape_edit, picture
from training.icons import LAYOUTS, Icons
from training.shapes import BACKGROUNDS, COLOURS, PLACES

ICON_GRAMMAR = {
    "style": r"in (noto|fluent) style",
    "background": rf"on a ({'|'.join(BACKGROUNDS)}) background",
    "size": r"make it (large|small)",
    "place": r"move it to the (top|bottom|left|right|center)",
}
SHAPE_GRAMMAR = {"background": ICON_GRAMMAR["background"], "colour": rf"make it ({'|'.join(COLOURS)})"}


@pytest.fixture(scope="module")
def icons(tmp_path_factory) -> Icons:
    return Icons.load(write_icons(tmp_path_factory.mktemp("icons") / "icons.npz"), 3)


def asked(instruction: str, grammar: dict[str, str]) -> dict[str, str]:
    """Attribute -> the value that the instruction asks for; every phrase is of the grammar, in its order, at most once."""
    found = {}
    for phrase in instruction.split(" and "):
        (attribute, match) = next((name, match) for name, form in grammar.items() if (match := re.fullmatch(form, phrase)))
        found[attribute] = match[1]
    assert list(found) == [name for name in grammar if name in found]
    assert len(found) == len(instruction.split(" and "))
    return found


def icon_attributes(icons: Icons, scene) -> dict:
    size, place = LAYOUTS[scene.layout]
    return {
        "style": icons.styles[scene.style],
        "background": list(BACKGROUNDS)[scene.background],
        "size": size,
        "place": (place or "in the center").split()[-1],
    }


def test_icon_edits_change_what_they_say_and_nothing_else(icons):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        edit = draw_edit(icons, rng)
        wanted = asked(edit.instruction, ICON_GRAMMAR)
        before, after = icon_attributes(icons, edit.source), icon_attributes(icons, edit.target)
        assert after == before | wanted
        assert all(before[name] != value for name, value in wanted.items())
        assert edit.source.concept == edit.target.concept
        seen.add(tuple(wanted))
    assert {("style",), ("background",), ("size",), ("place",), ("style", "background")} <= seen


def test_shape_edits_keep_the_outline():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        edit = draw_shape_edit(rng)
        wanted = asked(edit.instruction, SHAPE_GRAMMAR)
        (before,), (after,) = edit.source.figures, edit.target.figures
        assert (after.shape, after.x, after.y, after.radius) == (before.shape, before.x, before.y, before.radius)
        assert after.colour == wanted.get("colour", before.colour)
        assert edit.target.background == wanted.get("background", edit.source.background)
        assert edit.source != edit.target
        seen.add(tuple(wanted))
    assert seen == {("background",), ("colour",), ("background", "colour")}


def test_edits_repeat_themselves(icons):
    for draw in (lambda rng: draw_edit(icons, rng), draw_shape_edit):
        first, second = ([draw(np.random.default_rng(3)) for _ in range(3)] for _ in range(2))
        assert first == second


def test_pictures_of_edits_are_those_of_the_examples(icons):
    rng = np.random.default_rng(1)
    canvases = icons.canvases()
    for _ in range(20):
        scene = draw_edit(icons, rng).target
        drawn = canvases[scene.concept * len(icons.styles) + scene.style, scene.layout]
        colour = torch.tensor(list(BACKGROUNDS.values())[scene.background])[:, None, None]
        expected = drawn[:3] + colour * (1 - drawn[3:].float() / 255)
        assert (picture(icons, scene) - expected).abs().max() <= 0.5
    shape = draw_shape_edit(rng).target
    assert np.array_equal(picture(icons, shape).permute(1, 2, 0), shapes.render(shape))


def test_places_have_one_last_word_each():
    assert [place.split()[-1] for place in PLACES] == ["center", "top", "bottom", "left", "right"]
