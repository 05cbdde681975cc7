"""The icons world: its captions, its pictures, the split of wordings, and the judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from icon_data import write_icons
from icon_judge import Expected, Judge, interval, see_background, shares

from training.icons import (
    LAYOUT_SHARES,
    LAYOUTS,
    Concept,
    IconCaption,
    Icons,
    Scene,
    canvas_place,
    compose,
    describe,
    draw_examples,
    draw_scene,
    parse_words,
    shrink,
    to_words,
    vary_scene,
)
from training.shapes import BACKGROUNDS
from training.wordings import Words, contains_any, is_held_out, normalise, split_wordings

BACKGROUND_NAMES = list(BACKGROUNDS)


@pytest.fixture(scope="module")
def icons(tmp_path_factory) -> Icons:
    return Icons.load(write_icons(tmp_path_factory.mktemp("icons") / "icons.npz"), 3)


captions = st.builds(
    lambda wording, style, layout, background: IconCaption(wording, style, *layout, background),
    st.sampled_from(("octopus", "round plate", "owl", "t rex")),
    st.sampled_from(("noto", "fluent")),
    st.sampled_from(LAYOUTS),
    st.sampled_from((None, *BACKGROUND_NAMES)),
)


@given(captions)
def test_captions_are_read_as_they_are_written(caption):
    assert parse_words(to_words(caption)) == caption


def test_a_caption_in_words():
    caption = IconCaption("octopus", "noto", "large", "at the top", "pink")
    assert to_words(caption) == "a large octopus, noto style, at the top on a pink background"
    assert to_words(IconCaption("octopus", "fluent")) == "an octopus, fluent style"


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="expected words such as 'a large octopus"):
        parse_words("three octopuses")


def test_layout_shares_are_a_distribution():
    assert len(LAYOUT_SHARES) == len(LAYOUTS)
    assert sum(LAYOUT_SHARES) == pytest.approx(1)


# --- wordings -----------------------------------------------------------------------


def test_the_split_is_by_the_wording_alone():
    assert [word for word in ("kitten", "boat", "flame", "dinosaur", "vessel", "blaze") if is_held_out(word)] == [
        "flame",
        "dinosaur",
        "blaze",
    ]


def test_held_out_wordings_are_used_for_no_concept():
    words = [normalise(f"word{number}") for number in range(60)]
    entries = {
        "first": Words("first", tuple(words[:40])),
        "second": Words("second", (*words[20:], "first")),
        "third": Words("third", tuple(f"{word} of old" for word in words)),
    }
    concepts = split_wordings(list(entries), entries)
    held = {word for concept in concepts for word in concept["held"]}
    train = {word for concept in concepts for word in concept["train"]}
    assert held
    assert train
    assert not held & train
    assert not [word for word in train if contains_any(word, held)]
    assert "first" not in train | held


def test_keywords_of_many_concepts_are_left_out():
    entries = {name: Words(name, ("animal", f"{name} like")) for name in ("cat", "dog", "cow", "pig")}
    concepts = split_wordings(list(entries), entries)
    assert "animal" not in {word for concept in concepts for word in (*concept["train"], *concept["held"])}


# --- pictures -----------------------------------------------------------------------


def test_examples_repeat_themselves(icons):
    first, second = (draw_examples(icons, 32, [5]) for _ in range(2))
    assert first.texts == second.texts
    assert torch.equal(first.pictures, second.pictures)
    assert torch.equal(first.scenes, second.scenes)
    assert draw_examples(icons, 32, [6]).texts != first.texts


def test_examples_have_the_form_that_training_takes(icons):
    examples = draw_examples(icons, 64, [1], shape_share=0.5)
    assert examples.pictures.shape == (64, 3, 32, 32)
    assert examples.pictures.dtype == torch.uint8
    assert (examples.scenes < 0).any()
    assert (examples.scenes >= 0).any()


def test_equal_scene_numbers_mean_equal_pictures(icons):
    examples = draw_examples(icons, 400, [2], shape_share=0)
    pictures: dict[int, bytes] = {}
    for scene, picture in zip(examples.scenes.tolist(), examples.pictures, strict=True):
        assert pictures.setdefault(scene, picture.numpy().tobytes()) == picture.numpy().tobytes()
    assert len(pictures) < 400


def test_no_caption_holds_a_held_out_wording(icons):
    held = set(icons.held_out)
    for text in draw_examples(icons, 400, [3], shape_share=0).texts:
        assert not contains_any(parse_words(text).wording, held), text


def test_a_varied_scene_differs_in_one_attribute(icons):
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = draw_scene(icons, rng)
        other = vary_scene(icons, scene, rng)
        assert sum(getattr(scene, name) != value for name, value in vars(other).items()) == 1
        assert scene.number != other.number


def test_a_description_says_what_is_there(icons):
    rng = np.random.default_rng(1)
    scene = Scene(1, 1, 6, 2)
    caption = describe(icons, scene, rng)
    assert caption.wording in ("box", "crate")
    assert (caption.style, caption.size, caption.place, caption.background) == ("fluent", "small", "in the center", "pink")


@pytest.mark.parametrize("side", [32, 128])
def test_icons_lie_inside_the_picture(icons, side):
    for layout in range(len(LAYOUTS)):
        x, y, extent = canvas_place(layout, side)
        assert min(x, y) >= 0
        assert max(x, y) + extent <= side
    assert icons.canvases(side).shape == (6, len(LAYOUTS), 4, side, side)


def test_large_and_small_pictures_show_the_same(icons):
    small, large = icons.canvases(32)[:, 0], icons.canvases(128)[:, 0]
    white = torch.zeros(len(small), dtype=torch.long)
    reduced = torch.nn.functional.avg_pool2d(compose(large, white).float(), 4)
    assert (compose(small, white).float() - reduced).abs().mean() < 4


def test_clear_pixels_show_the_background_and_opaque_ones_do_not():
    canvases = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    canvases[0, :, 0, 0] = torch.tensor([10, 20, 30, 255])
    composed = compose(canvases, torch.tensor([2]))[0]
    assert composed[:, 0, 0].tolist() == [10, 20, 30]
    assert composed[:, 1, 1].tolist() == list(BACKGROUNDS["pink"])


def test_shrinking_keeps_flat_colour():
    flat = torch.full((2, 4, 64, 64), 200, dtype=torch.uint8)
    assert torch.equal(shrink(flat, 20), torch.full((2, 4, 20, 20), 200, dtype=torch.uint8))


# --- the judge ----------------------------------------------------------------------


def true_picture(icons: Icons, scene: Scene) -> np.ndarray:
    drawn = icons.canvases()[scene.concept * len(icons.styles) + scene.style, scene.layout]
    return compose(drawn[None], torch.tensor([scene.background]))[0].permute(1, 2, 0).numpy()


def expected(scene: Scene) -> Expected:
    return Expected(frozenset([scene.concept]), scene.style, scene.layout, scene.background)


def test_true_pictures_are_right(icons):
    rng = np.random.default_rng(2)
    scenes = [draw_scene(icons, rng) for _ in range(12)]
    verdicts = Judge(icons).judge(np.stack([true_picture(icons, scene) for scene in scenes]), [expected(scene) for scene in scenes])
    assert all(verdict.top1 and verdict.style and verdict.background for verdict in verdicts)


def test_a_shifted_picture_is_still_right(icons):
    scene = Scene(0, 0, 0, 1)
    moved = np.roll(true_picture(icons, scene), 1, axis=0)
    assert Judge(icons).judge(moved[None], [expected(scene)])[0].top1


@pytest.mark.parametrize(
    ("painted", "wrong"),
    [(Scene(1, 0, 0, 0), "top1"), (Scene(0, 1, 0, 0), "style"), (Scene(0, 0, 0, 3), "background")],
)
def test_what_is_wrong_is_named(icons, painted, wrong):
    verdict = Judge(icons).judge(true_picture(icons, painted)[None], [expected(Scene(0, 0, 0, 0))])[0]
    assert [name for name in ("top1", "style", "background") if not getattr(verdict, name)] == [wrong]


def test_the_style_of_another_thing_is_seen():
    red, blue = ((200, 0, 0, 255), (0, 0, 200, 255))
    drawings = torch.tensor([[red, blue], [blue, red]], dtype=torch.uint8)[..., None, None].repeat(1, 1, 1, 28, 28)
    drawings[1, :, :, :14] = 0
    icons = Icons((Concept("whole", "whole", (), ()), Concept("half", "half", (), ())), ("noto", "fluent"), drawings)
    verdict = Judge(icons).judge(true_picture(icons, Scene(1, 0, 0, 0))[None], [expected(Scene(0, 0, 0, 0))])[0]
    assert not verdict.top1
    assert verdict.style
    assert not verdict.own_style  # a blue half is nearer to the blue whole


def test_any_of_several_concepts_is_right(icons):
    picture = true_picture(icons, Scene(1, 0, 0, 0))[None]
    assert Judge(icons).judge(picture, [Expected(frozenset([0, 1]), 0, 0, 0)])[0].top1


def test_the_rim_tells_the_background():
    for number, colour in enumerate(BACKGROUNDS.values()):
        image = torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, 32, 32).clone()
        image[:, 4:-4, 4:-4] = 0
        assert see_background(image) == number


def test_intervals_are_wilsons():
    low, high = interval(8, 10)
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert interval(0, 10)[0] == 0
    assert interval(10, 10)[1] == pytest.approx(1)


def test_shares_count_verdicts(icons):
    pictures = np.stack([true_picture(icons, Scene(concept, 0, 0, 0)) for concept in (0, 1)])
    found = shares(Judge(icons).judge(pictures, [expected(Scene(0, 0, 0, 0))] * 2))
    assert found["top1"][0] == 0.5
    assert found["background"][0] == 1
