"""Pictures on pictures: compositing, the W3C blend modes, grids, and pictures made from nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Image, Invalid, Mask
from nodes.core import layers
from nodes.core.blending import MODES


def picture(width=16, height=12, batch=1, seed=0):
    return Image(np.random.default_rng(seed).random((batch, 3, height, width), np.float32))


def flat(*rgb):
    return Image(np.array(rgb, np.float32).reshape(1, 3, 1, 1))


# --- composite -----------------------------------------------------------------------


@given(st.integers(-30, 30), st.integers(-30, 30))
@settings(deadline=None)
def test_a_picture_lies_where_it_is_put(x, y):
    below, above = picture(), picture(5, 7, seed=1)
    wanted = np.pad(below.numpy(), ((0, 0), (0, 0), (40, 40), (40, 40)))
    wanted[:, :, 40 + y : 47 + y, 40 + x : 45 + x] = above.numpy()
    assert np.array_equal(layers.composite(below, above, None, x, y).numpy(), wanted[:, :, 40:52, 40:56])


def test_none_is_the_middle():
    below, above = picture(10, 8), picture(4, 2, seed=1)
    middle = layers.composite(below, above, None, None, None).numpy()
    assert np.array_equal(middle[:, :, 3:5, 3:7], above.numpy())


def test_mask_and_opacity_mix():
    below, above = flat(0, 0, 0), flat(1, 1, 1)
    quarter = Mask(np.full((1, 1, 1, 1), 0.5, np.float32))
    assert layers.composite(below, above, quarter, opacity=0.5).numpy().ravel() == pytest.approx([0.25] * 3)
    assert np.array_equal(layers.composite(below, above, opacity=0.0).numpy(), below.numpy())


def test_one_picture_goes_with_a_batch():
    one, three = picture(), picture(batch=3, seed=1)
    assert np.array_equal(layers.composite(one, three).numpy(), three.numpy())
    assert np.array_equal(layers.composite(three, one).numpy(), np.repeat(one.numpy(), 3, axis=0))
    with pytest.raises(Invalid, match="'background' is a batch of 2, but the others are a batch of 3"):
        layers.composite(picture(batch=2), three)
    with pytest.raises(Invalid, match="'mask' has 3×3 pixels, but 'image' has 16×12") as caught:
        layers.composite(one, three, Mask(np.ones((1, 1, 3, 3), np.float32)))
    assert caught.value.fix == "make it 16×12, with resize_mask say"


# --- blend: formulas of the specification, channel by channel, in Python --------------


def soft_light(cb, cs):
    if cs <= 0.5:
        return cb - (1 - 2 * cs) * cb * (1 - cb)
    curve = ((16 * cb - 12) * cb + 4) * cb if cb <= 0.25 else cb**0.5
    return cb + (2 * cs - 1) * (curve - cb)


def hard_light(cb, cs):
    return cb * 2 * cs if cs <= 0.5 else cb + (2 * cs - 1) - cb * (2 * cs - 1)


SEPARABLE = {
    "normal": lambda cb, cs: cs,
    "multiply": lambda cb, cs: cb * cs,
    "screen": lambda cb, cs: cb + cs - cb * cs,
    "overlay": lambda cb, cs: hard_light(cs, cb),
    "darken": min,
    "lighten": max,
    "color_dodge": lambda cb, cs: 0 if cb == 0 else 1 if cs == 1 else min(1, cb / (1 - cs)),
    "color_burn": lambda cb, cs: 1 if cb == 1 else 0 if cs == 0 else 1 - min(1, (1 - cb) / cs),
    "hard_light": hard_light,
    "soft_light": soft_light,
    "difference": lambda cb, cs: abs(cb - cs),
    "exclusion": lambda cb, cs: cb + cs - 2 * cb * cs,
    "add": lambda cb, cs: min(1, cb + cs),
    "subtract": lambda cb, cs: max(0, cb - cs),
}


@pytest.mark.parametrize("mode", SEPARABLE)
def test_separable_modes(mode):
    values = [0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1]
    cb, cs = (np.array(axis, np.float32) for axis in np.meshgrid(values, values))
    below, above = (Image(np.broadcast_to(axis, (1, 3, 8, 8))) for axis in (cb, cs))
    wanted = np.vectorize(SEPARABLE[mode], otypes=[float])(cb, cs)
    assert np.abs(layers.blend(below, above, mode).numpy()[0, 1] - wanted).max() < 1e-6


def lum(c):
    return 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]


def set_lum(c, wanted):
    c = [x + wanted - lum(c) for x in c]
    level, least, most = lum(c), min(c), max(c)
    if least < 0:
        c = [level + (x - level) * level / (level - least) for x in c]
    if most > 1:
        c = [level + (x - level) * (1 - level) / (most - level) for x in c]
    return c


def set_sat(c, wanted):
    order = sorted(range(3), key=lambda k: c[k])
    result = [0.0, 0.0, 0.0]
    low, middle, high = order
    if c[high] > c[low]:
        result[middle] = (c[middle] - c[low]) * wanted / (c[high] - c[low])
        result[high] = wanted
    return result


def sat(c):
    return max(c) - min(c)


NON_SEPARABLE = {
    "hue": lambda cb, cs: set_lum(set_sat(cs, sat(cb)), lum(cb)),
    "saturation": lambda cb, cs: set_lum(set_sat(cb, sat(cs)), lum(cb)),
    "color": lambda cb, cs: set_lum(cs, lum(cb)),
    "luminosity": lambda cb, cs: set_lum(cb, lum(cs)),
}


@pytest.mark.parametrize("mode", NON_SEPARABLE)
def test_non_separable_modes(mode):
    below, above = picture(20, 20), picture(20, 20, seed=1)
    below.numpy()[0, :, 0, 0] = 0.5  # grey, without any hue
    blended = layers.blend(below, above, mode).numpy()
    for y, x in np.ndindex(20, 20):
        wanted = NON_SEPARABLE[mode](*([float(c) for c in one.numpy()[0, :, y, x]] for one in (below, above)))
        assert blended[0, :, y, x] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("mode", NON_SEPARABLE)
def test_non_separable_modes_of_greys(mode):
    """Where the lum is that of the least or the greatest channel, both are rounded apart by nothing."""
    grey = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16).repeat(3, axis=1)
    for lum_below in (0.0, 0.3, 1.0):
        below = Image(np.full_like(grey, lum_below))
        wanted = grey if mode == "luminosity" else below.numpy()
        assert layers.blend(below, Image(grey), mode).numpy() == pytest.approx(wanted, abs=1e-6)


def test_every_mode_is_tested_and_can_be_chosen():
    assert set(MODES) == {*SEPARABLE, *NON_SEPARABLE} == set(layers.Blend.__args__)


def test_opacity_and_mask_of_blend():
    below, above = picture(), picture(seed=1)
    assert np.array_equal(layers.blend(below, above, "difference", 0.0).numpy(), below.numpy())
    half = np.zeros((1, 1, 12, 16), np.float32)
    half[..., 8:] = 1
    masked = layers.blend(below, above, mask=Mask(half)).numpy()
    assert np.array_equal(masked[..., :8], below.numpy()[..., :8])
    assert np.array_equal(masked[..., 8:], above.numpy()[..., 8:])


# --- made from nothing ---------------------------------------------------------------


def test_solid_images():
    image = layers.solid_image(5, 4, "rgb(255, 128, 0)", 2)
    assert image.shape == (2, 3, 4, 5)
    assert np.allclose(image.numpy()[1, :, 3, 4], [1, 128 / 255, 0])
    for wrong in ("", "#12345", "#11223344", "transparent", "rgb(1,2", "rgb(300,0,0)"):
        with pytest.raises(Invalid, match="is no opaque colour"):
            layers.solid_image(5, 4, wrong)
    with pytest.raises(Invalid, match="too large"):
        layers.solid_image(65_536, 65_536)


def test_gradients():
    ramp = layers.gradient(4, 2, "black", "white").numpy()
    assert np.allclose(ramp[0, 0], [[0.125, 0.375, 0.625, 0.875]] * 2)
    assert np.allclose(layers.gradient(2, 4, degrees=90).numpy()[0, 0], np.transpose(ramp[0, 0]), atol=1e-6)
    assert np.allclose(layers.gradient(4, 2, degrees=180).numpy(), ramp[..., ::-1], atol=1e-6)
    diagonal = layers.gradient(9, 9, "red", "blue", degrees=45).numpy()[0]
    assert np.allclose(diagonal[:, 4, 4], [0.5, 0, 0.5], atol=1e-6)
    assert diagonal[2, 8, 8] > 0.85
    radial = layers.gradient(9, 9, shape="radial").numpy()[0, 0]
    assert radial[4, 4] == 0
    assert radial[0, 0] == radial[8, 8] == radial.max() > radial[0, 4]


def test_text_is_drawn_where_it_is_asked_for():
    image = layers.solid_image(100, 60, "black", 2)
    drawn = layers.draw_text(image, "Fox\nden", 10, 5, 20, "#ff0000").numpy()
    ink = np.argwhere(drawn[0, 0] > 0.5)
    assert ink[:, 1].min() >= 10
    assert ink[:, 0].min() >= 5
    assert ink[:, 0].max() > 30
    assert not drawn[:, 1:].any()
    assert np.array_equal(drawn[0], drawn[1])


def test_text_that_is_too_large_to_be_drawn():
    image = layers.solid_image(100, 60, "black")
    with pytest.raises(Invalid, match="too large in the size 2000") as caught:
        layers.draw_text(image, "x" * 200, size=2000)
    assert caught.value.port == "size"


def test_a_line_of_more_characters_than_pillow_measures():
    image, line = layers.solid_image(100, 60, "black"), "a fox " * 200_000
    with pytest.raises(Invalid, match="a line of this text has 1,200,000 characters") as caught:
        layers.draw_text(image, f"a fox\n{line}")
    assert caught.value.port == "text"
    labels = [layers.image_grid([image], labels=[text]) for text in (line, "a fox " * 20)]
    assert np.array_equal(labels[0].numpy(), labels[1].numpy()), "cut off after as many letters"


# --- grids ---------------------------------------------------------------------------


def test_a_grid_of_pictures():
    first, second = picture(4, 3, batch=2), picture(4, 3, seed=1)
    grid = layers.image_grid([first, second], gap=2, background="#ff0000").numpy()[0]
    assert grid.shape == (3, 2 * 5 + 2, 2 * 6 + 2)
    assert np.array_equal(grid[:, 2:5, 2:6], first.numpy()[0])
    assert np.array_equal(grid[:, 2:5, 8:12], first.numpy()[1])
    assert np.array_equal(grid[:, 7:10, 2:6], second.numpy()[0])
    assert np.array_equal(grid[:, 7:10, 8:12], np.broadcast_to(np.array([1, 0, 0]).reshape(3, 1, 1), (3, 3, 4)))


@pytest.mark.parametrize(("count", "columns", "shape"), [(5, None, (3, 2)), (5, 2, (2, 3)), (2, 9, (2, 1)), (1, None, (1, 1))])
def test_the_shape_of_a_grid(count, columns, shape):
    grid = layers.image_grid([picture(4, 3)] * count, columns, gap=0)
    assert (grid.width, grid.height) == (4 * shape[0], 3 * shape[1])


def test_smaller_pictures_stand_in_the_middle():
    small, large = flat(0, 0, 0), picture(5, 5)
    grid = layers.image_grid([small, large], 2, gap=0).numpy()[0]
    assert grid[:, 2, 2].tolist() == [0, 0, 0]
    assert grid[:, :, :5].sum() == 3 * 24


@pytest.mark.parametrize("background", ["white", "black"])
def test_labels_stand_under_their_pictures(background):
    grid = layers.image_grid(
        [picture(60, 20), picture(60, 20, seed=1)], 2, 4, background, ["fox", "a label that is much too long to fit"], 12
    )
    assert (grid.width, grid.height) == (2 * 64 + 4, 20 + 18 + 8)
    ground = 1.0 if background == "white" else 0.0
    strips = grid.numpy()[0, 0, 24:42, 4:64], grid.numpy()[0, 0, 24:42, 68:128]
    assert all((np.abs(strip - ground) > 0.5).sum() > 20 for strip in strips)
    assert (grid.numpy()[0, 0, 24:42, 64:68] == ground).all()


def test_wrong_grids():
    with pytest.raises(Invalid, match="no picture"):
        layers.image_grid([])
    with pytest.raises(Invalid, match="2 pictures and 1 labels") as caught:
        layers.image_grid([picture(batch=2)], labels=["one"])
    assert caught.value.port == "labels"


def test_a_mask_for_each_background_goes_with_one_picture():
    masks = np.zeros((2, 1, 2, 2), np.float32)
    masks[1] = 1
    made = layers.composite(Image(np.zeros((2, 3, 4, 4), np.float32)), Image(np.ones((1, 3, 2, 2), np.float32)), Mask(masks))
    assert made.numpy()[0].max() == 0
    assert np.array_equal(made.numpy()[1, :, :2, :2], np.ones((3, 2, 2)))
