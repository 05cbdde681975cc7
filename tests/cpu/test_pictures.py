"""The picture checker: true pictures pass, and a caption that is wrong in one word fails.

PICTURES_SEED=7 in the environment measures other captions and scenes.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pictures import accuracy, check, draw_pictures, painted, rejection, see

from training.shapes import (
    BACKGROUNDS,
    COLOURS,
    Caption,
    Figure,
    Scene,
    Thing,
    contradict,
    draw_captions,
    draw_examples,
    lay_out,
    parse,
    render,
    to_text,
)

SEED = int(os.environ.get("PICTURES_SEED", "0"))
COUNT = 600
CAPTION = parse("a large red circle on the left on a white background")


def draw(figures, background="white"):
    return render(Scene(tuple(figures), background))


@pytest.fixture(scope="module", params=[1, 2], ids=["one", "two"])
def truth(request):
    captions = draw_captions(COUNT, SEED, request.param)
    return captions, draw_pictures(captions, SEED)


def test_true_renders_pass(truth):
    captions, pictures = truth
    assert accuracy(pictures, captions)["all"] >= 0.995


def test_wrong_captions_fail(truth):
    captions, pictures = truth
    shares = rejection(pictures, captions, SEED)
    assert shares["contradicted"] >= 0.99
    assert shares["random"] >= 0.99


def test_pictures_with_the_noise_of_a_decoder_pass(truth):
    captions, pictures = truth
    noise = np.random.default_rng(SEED).normal(0, 8, (COUNT, *pictures[0].shape))
    noisy = np.clip(np.stack(pictures) + noise, 0, 255).astype(np.uint8)
    assert accuracy(noisy, captions)["all"] >= 0.97
    assert min(rejection(noisy, captions, SEED).values()) >= 0.99


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("size", "a small red circle on the left on a white background"),
        ("colour", "a large orange circle on the left on a white background"),
        ("shape", "a large red square on the left on a white background"),
        ("place", "a large red circle in the center on a white background"),
        ("background", "a large red circle on the left on a gray background"),
    ],
)
def test_the_wrong_attribute_is_named(attribute, words):
    picture = draw([Figure("circle", "red", 0.28, 0.5, 0.25)])
    verdict = check(picture, parse(words))
    assert [name for name, right in verdict.items() if not right] == [attribute, "all"]


def test_only_what_the_caption_says_is_judged():
    picture = draw([Figure("cross", "blue", 0.5, 0.72, 0.12)], "pink")
    assert check(picture, parse("a blue cross")) == {"count": True, "shape": True, "colour": True, "all": True}


def test_swapped_places_fail():
    picture = draw([Figure("circle", "red", 0.28, 0.5, 0.15), Figure("square", "blue", 0.72, 0.5, 0.15)])
    assert check(picture, parse("a red circle on the left and a blue square on the right"))["all"]
    assert check(picture, parse("a blue square on the right and a red circle on the left"))["all"]
    assert not check(picture, parse("a red circle on the right and a blue square on the left"))["all"]


@pytest.mark.parametrize(
    ("figures", "attribute"),
    [
        ([], "count"),
        ([Figure("circle", "red", 0.28, 0.5, 0.25), Figure("circle", "blue", 0.8, 0.5, 0.12)], "count"),
        ([Figure("circle", "red", 0.28, 0.5, 0.07)], "size"),
        ([Figure("circle", "red", 0.16, 0.16, 0.12)], "place"),
        ([Figure("circle", "red", 0.39, 0.39, 0.25)], "place"),
    ],
)
def test_pictures_outside_the_world_fail(figures, attribute):
    assert not check(draw(figures), CAPTION)[attribute]


def test_a_shape_of_no_kind_is_no_shape():
    picture = draw([])
    picture[4:28, 4:8] = picture[4:8, 4:28] = COLOURS["red"]
    (thing,) = see(picture).things
    assert (thing.shape, thing.colour) == (None, "red")


def test_a_colour_off_the_palette_is_no_colour():
    picture = draw([Figure("circle", "red", 0.28, 0.5, 0.25)])
    picture[np.all(picture == COLOURS["red"], axis=-1)] = (140, 40, 90)
    assert see(picture).things[0].colour is None


def test_noise_has_no_background():
    picture = np.random.default_rng(SEED).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert see(picture).background is None
    assert not check(picture, CAPTION)["all"]


def test_a_float_picture_is_refused():
    with pytest.raises(ValueError, match=r"^picture: expected uint8 \[h, h, 3\], got float64 \[32, 32, 3\]$"):
        see(np.zeros((32, 32, 3)))


def test_larger_pictures_are_read_alike():
    caption = draw_captions(1, SEED)[0]
    scene = lay_out(caption, np.random.default_rng(SEED))
    assert check(render(scene, 96), caption)["all"]


def test_the_painter_gets_words_and_a_seed_for_each():
    captions, calls = draw_captions(5, SEED), []

    def painter(texts, seeds):
        calls.append((texts, seeds))
        return np.stack(draw_pictures([parse(text) for text in texts], seeds[0]))

    assert accuracy(painted(painter, captions, SEED), captions)["all"] == 1.0
    ((texts, seeds),) = calls
    assert texts == [to_text(caption) for caption in captions]
    assert len(set(seeds)) == 5


# --- the grammar and the renders it is measured with ---------------------------------


@pytest.mark.parametrize("things", [1, 2])
def test_captions_survive_their_words(things):
    for caption in draw_captions(COUNT, SEED, things):
        assert parse(to_text(caption)) == caption


@pytest.mark.parametrize("things", [1, 2])
def test_a_contradiction_differs(things):
    rng = np.random.default_rng(SEED)
    for caption in draw_captions(COUNT, SEED, things):
        assert contradict(caption, rng) != caption


def test_words_outside_the_grammar_are_refused():
    with pytest.raises(ValueError, match=r"^caption: expected words such as .*, got 'a red dog'$"):
        parse("a red dog")


def test_examples_depend_on_the_seed_alone():
    texts, pictures = draw_examples(20, SEED)
    again = draw_examples(20, SEED)
    other = draw_examples(20, SEED + 1)
    assert texts == again[0]
    assert np.array_equal(pictures, again[1])
    assert texts != other[0]


def test_an_empty_scene_is_flat():
    for name, colour in BACKGROUNDS.items():
        assert np.all(draw([], name) == colour)


def test_things_are_values():
    assert Caption((Thing("circle", "red"),)) == parse("a red circle")
