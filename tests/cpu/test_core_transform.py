"""The geometry of pictures: against Pillow, scipy and plain indexing, and what must hold for every size."""

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nodegraph import Image, Invalid, Mask
from nodes.core import transform
from nodes.core.layers import composite

METHODS = ["nearest", "bilinear", "bicubic", "lanczos", "area"]
sides = st.integers(1, 40)


def picture(width=31, height=22, batch=2, seed=0):
    return Image(np.random.default_rng(seed).random((batch, 3, height, width), np.float32))


def cells(width=31, height=22, batch=1):
    return Mask((np.random.default_rng(1).random((batch, 1, height, width)) > 0.5).astype(np.float32))


# --- resize --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(12, 9), (50, 40), (12, 40)])
def test_resize_is_pillows_on_8_bits_but_finer(method, size):
    middling = Image(0.3 + 0.4 * picture().numpy())  # far from the ends, where Pillow would clip between its two passes
    coarse = Image(middling.bytes_hwc().transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    resized = transform.resize(coarse, *size, method)
    filters = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "area": 4}
    for index, original in enumerate(coarse.pil()):
        wanted = np.asarray(original.resize(size, filters[method]), np.float32).transpose(2, 0, 1) / 255
        assert np.abs(resized.numpy()[index] - wanted).max() < 1.5 / 255


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(12, 9), (50, 40), (12, 40)])
def test_resize_is_torchs_with_antialiasing(method, size):
    import torch

    resized = transform.resize(picture(), *size, method).numpy()
    wanted = torch.nn.functional.interpolate(picture().tensor(), size[::-1], mode=method, antialias=True)
    assert np.abs(resized - wanted.clip(0, 1).numpy()).max() < 1e-5


def test_resize_keeps_what_8_bits_would_lose():
    ramp = np.broadcast_to(np.linspace(0.5, 0.502, 64, dtype=np.float32), (1, 3, 64, 64))
    small = transform.resize(Image(ramp), 32, 32, "area").numpy()
    assert len(np.unique(small)) == 32
    assert np.allclose(small[0, 0, 0], ramp[0, 0, 0].reshape(32, 2).mean(1), atol=1e-7)


@given(sides, sides, sides, sides, st.sampled_from(METHODS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_flat_picture_stays_flat(width, height, new_width, new_height, method, antialias):
    flat = Image(np.full((1, 3, height, width), 0.3, np.float32))
    resized = transform.resize(flat, new_width, new_height, method, "stretch", antialias)
    assert resized.shape == (1, 3, new_height, new_width)
    assert np.abs(resized.numpy() - 0.3).max() < 1e-6


def test_the_same_size_changes_nothing():
    image = picture()
    for method in METHODS:
        assert np.array_equal(transform.resize(image, 31, 22, method).numpy(), image.numpy())


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_antialiasing_weighs_all_pixels(method):
    stripes = np.zeros((1, 3, 32, 32), np.float32)
    stripes[..., ::2] = 1
    smooth = transform.resize(Image(stripes), 8, 8, method).numpy()
    points = transform.resize(Image(stripes), 8, 8, method, antialias=False).numpy()
    assert np.abs(smooth - 0.5).max() < 0.06
    wanted = np.asarray(PIL.Image.fromarray(stripes[0, 0]).transform((8, 8), 0, (4, 0, 0, 0, 4, 0), 2 if method == "bilinear" else 3))
    assert np.array_equal(points[0, 0], np.clip(wanted, 0, 1))


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({"width": 62}, (62, 44)),
        ({"height": 11}, (16, 11)),
        ({"width": 10, "height": 100}, (10, 100)),
        ({"width": 62, "height": 100, "fit": "contain"}, (62, 44)),
        ({"width": 62, "height": 44, "fit": "contain"}, (62, 44)),
        ({"width": 1, "height": 1000, "fit": "contain"}, (1, 1)),
        ({"width": 10, "height": 10, "fit": "cover"}, (10, 10)),
    ],
)
def test_sizes_of_resize(asked, size):
    resized, mask = transform.resize(picture(), **asked), transform.resize_mask(cells(), **asked)
    assert (resized.width, resized.height) == (mask.width, mask.height) == size


def test_cover_cuts_both_ends_alike():
    image = picture(40, 20)
    covered = transform.resize(image, 20, 20, "area", "cover").numpy()
    assert np.array_equal(covered, image.numpy()[:, :, :, 10:30])
    covered = transform.resize(image, 10, 10, "area", "cover").numpy()
    assert np.allclose(covered, image.numpy()[:, :, :, 10:30].reshape(2, 3, 10, 2, 10, 2).mean((3, 5)), atol=1e-6)


def test_resize_without_a_size_or_with_too_large_a_one_is_invalid():
    with pytest.raises(Invalid, match="neither a width nor a height"):
        transform.resize(picture())
    with pytest.raises(Invalid, match="60000×60000 pixels is too large"):
        transform.resize(picture(), 60_000, 60_000)
    with pytest.raises(Invalid, match="too large"):
        transform.resize(picture(1000, 1), height=200)
    with pytest.raises(Invalid, match="too large"):
        transform.rotate(Image(np.zeros((1, 3, 1, 65_536), np.float32)), 45)


def test_scale():
    assert transform.scale(picture(), 2).shape == (2, 3, 44, 62)
    assert transform.scale(picture(), 0.01).shape == (2, 3, 1, 1)
    assert np.array_equal(transform.scale(picture(), 3, "nearest").numpy(), picture().numpy().repeat(3, 2).repeat(3, 3))


def test_scale_to_pixels():
    scaled = transform.scale_to_pixels(picture(64, 32), 0.0216, 8)
    assert (scaled.width, scaled.height) == (208, 104)


# --- crop, pad -----------------------------------------------------------------------


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_crop_is_indexing(data):
    image, mask = picture(), cells()
    x, y = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 21))
    width, height = data.draw(st.integers(1, 31 - x)), data.draw(st.integers(1, 22 - y))
    assert np.array_equal(transform.crop(image, x, y, width, height).numpy(), image.numpy()[:, :, y : y + height, x : x + width])
    assert np.array_equal(transform.crop_mask(mask, x, y, width, height).numpy(), mask.numpy()[:, :, y : y + height, x : x + width])


@pytest.mark.parametrize(
    ("box", "port", "told"), [((30, 0, 2, 1), "x", "x 30 and width 2 reach beyond"), ((0, 22, 1, 1), "y", "height of 22")]
)
def test_a_crop_that_reaches_outside_is_invalid(box, port, told):
    with pytest.raises(Invalid, match=told) as caught:
        transform.crop(picture(), *box)
    assert caught.value.port == port


def test_crop_to_a_place():
    image = picture(30, 20)
    pixels = image.numpy()
    assert np.array_equal(transform.crop_to(image, 10, 10).numpy(), pixels[:, :, 5:15, 10:20])
    assert np.array_equal(transform.crop_to(image, 10, 10, "left", "bottom").numpy(), pixels[:, :, 10:, :10])
    assert np.array_equal(transform.crop_to(image, 10, 10, "right", "top").numpy(), pixels[:, :, :10, 20:])
    with pytest.raises(Invalid, match="cannot be cut from a picture of 30×20") as caught:
        transform.crop_to(image, 30, 21)
    assert caught.value.port == "height"


@given(st.integers(0, 39), st.integers(0, 29), st.integers(1, 20), st.integers(0, 9), st.sampled_from([1, 8, 16]))
@settings(max_examples=60, deadline=None)
def test_crop_to_a_mask_holds_it_with_its_margin_and_goes_back(x, y, size, margin, multiple):
    image = picture(40, 30)
    held = np.zeros((1, 1, 30, 40), np.float32)
    held[:, :, y : y + size, x : x + size] = 0.5
    part = transform.crop_to_mask(image, Mask(held), margin, multiple)
    assert part.mask.numpy().sum() == held.sum()
    assert part.x <= max(x - margin, 0)
    assert part.x + part.width >= min(x + size + margin, 40)
    assert part.width % multiple == 0 or part.width == 40
    assert part.height % multiple == 0 or part.height == 30
    assert part.image.shape == (2, 3, part.height, part.width)
    assert np.array_equal(composite(image, part.image, None, part.x, part.y).numpy(), image.numpy())


def test_crop_to_an_empty_mask_is_invalid():
    with pytest.raises(Invalid, match="the mask is empty"):
        transform.crop_to_mask(picture(), Mask(np.zeros((1, 1, 22, 31), np.float32)))


@pytest.mark.parametrize(("mode", "numpys"), [("edge", "edge"), ("reflect", "reflect")])
def test_pad_is_numpys(mode, numpys):
    image = picture(7, 5)
    padded = transform.pad(image, 1, 2, 30, 4, mode)
    margins = ((0, 0), (0, 0), (2, 4), (1, 30))
    assert np.array_equal(padded.image.numpy(), np.pad(image.numpy(), margins, mode=numpys))
    assert np.array_equal(padded.mask.numpy(), np.pad(np.zeros((2, 1, 5, 7)), margins, constant_values=1))


def test_pad_with_a_colour():
    image = picture(7, 5)
    padded = transform.pad(image, 1, 2, 3, 4, color="#ff8000").image.numpy()
    assert np.array_equal(padded[:, :, 2:7, 1:8], image.numpy())
    assert np.allclose(padded[:, :, 0, 0], [1, 128 / 255, 0])
    with pytest.raises(Invalid, match="'reddish' is no opaque colour") as caught:
        transform.pad(image, 1, color="reddish")
    assert caught.value.port == "color"


# --- rotate, flip --------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, 450])
def test_quarter_turns_only_move_pixels(degrees):
    image = picture()
    turned = transform.rotate(image, degrees)
    assert np.array_equal(turned.image.numpy(), np.rot90(image.numpy(), degrees // 90, (2, 3)))
    assert not turned.mask.numpy().any()


@pytest.mark.parametrize(("method", "order"), [("bilinear", 1), ("bicubic", 3)])
@pytest.mark.parametrize("degrees", [30.0, -75.5, 200.0])
def test_turning_is_scipys_inside(method, order, degrees):
    image = Image(ndimage.gaussian_filter(picture(40, 40).numpy(), (0, 0, 2, 2)))
    turned = transform.rotate(image, degrees, expand=False, method=method)
    wanted = ndimage.rotate(image.numpy(), degrees, (3, 2), reshape=False, order=order, mode="nearest")
    inside = (slice(None), slice(None), slice(14, 26), slice(14, 26))
    assert np.abs(turned.image.numpy()[inside] - np.clip(wanted, 0, 1)[inside]).max() < 1e-5


def test_a_small_turn_is_counter_clockwise():
    right = np.zeros((1, 3, 41, 41), np.float32)
    right[:, :, 19:22, 35:38] = 1
    turned = transform.rotate(Image(right), 45, expand=False).image.numpy()[0, 0]
    down, across = ndimage.center_of_mass(turned)
    assert across > 25
    assert down < 15


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_the_corners_of_a_turned_picture_have_the_colour_and_the_mask(method):
    white = Image(np.ones((2, 3, 30, 40), np.float32))
    turned = transform.rotate(white, 30, method=method, color="red")
    assert (turned.image.width, turned.image.height) == (50, 46)
    new, green = turned.mask.numpy()[:, 0], turned.image.numpy()[:, 1]
    assert np.allclose(green, 1 - new, atol=1e-6)
    assert new[0, 0, 0] == 1
    assert new[0, 23, 25] == 0
    assert (turned.image.numpy()[:, 0] == 1).all()
    assert abs((1 - new[0]).sum() - 30 * 40) < 15
    assert set(np.unique(new)) == {0, 1} if method == "nearest" else len(np.unique(new)) > 10


def test_flips():
    image, mask = picture(), cells()
    for direction, axes in [("horizontal", 3), ("vertical", 2), ("both", (2, 3))]:
        assert np.array_equal(transform.flip(image, direction).numpy(), np.flip(image.numpy(), axes))
        assert np.array_equal(transform.flip_mask(mask, direction).numpy(), np.flip(mask.numpy(), axes))
