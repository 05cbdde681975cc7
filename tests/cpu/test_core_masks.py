"""Masks: made, grown, combined; against scipy and plain formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nodegraph import Image, Invalid, Mask
from nodes.core import masks


def picture(width=24, height=18, batch=2, seed=0):
    return Image(np.random.default_rng(seed).random((batch, 3, height, width), np.float32))


def soft(width=24, height=18, batch=2, seed=0):
    return Mask(np.random.default_rng(seed).random((batch, 1, height, width), np.float32))


def test_pictures_to_masks_and_back():
    pixels = picture().numpy()
    assert np.array_equal(masks.image_to_mask(picture(), "green").numpy(), pixels[:, 1:2])
    luma = np.moveaxis(pixels, 1, -1) @ (0.2126, 0.7152, 0.0722)
    assert np.abs(masks.image_to_mask(picture()).numpy()[:, 0] - luma).max() < 1e-6
    assert np.array_equal(masks.mask_to_image(soft()).numpy(), np.repeat(soft().numpy(), 3, axis=1))
    assert np.array_equal(masks.image_to_mask(masks.mask_to_image(soft())).numpy(), soft().numpy())


def test_thresholds():
    assert np.array_equal(
        masks.threshold_mask(picture(), 0.3, "blue").numpy(), (picture().numpy()[:, 2:] >= np.float32(0.3)).astype(np.float32)
    )
    exact = Mask(np.array([[[[0.1, 0.3, 0.5]]]], np.float32))
    assert masks.binarize_mask(exact, 0.3).numpy().tolist() == [[[[0, 1, 1]]]]


def test_masks_from_a_colour():
    row = Image(np.array([[1, 0, 0], [0.9, 0, 0], [0.5, 0, 0], [0, 0, 0]], np.float32).T.reshape(1, 3, 1, 4))
    assert masks.mask_from_color(row, "red", 0.1).numpy().ravel().tolist() == [1, 1, 0, 0]
    assert masks.mask_from_color(row, "red", 0).numpy().ravel().tolist() == [1, 0, 0, 0]
    assert masks.mask_from_color(row, "red", 0, 1e-60).numpy().ravel().tolist() == [1, 0, 0, 0]
    graded = masks.mask_from_color(row, "red", 0, 0.5 / np.sqrt(3)).numpy().ravel()
    assert graded == pytest.approx([1, 0.8, 0, 0], abs=1e-5)
    with pytest.raises(Invalid, match="'redd' is no opaque colour"):
        masks.mask_from_color(row, "redd")


def test_solid_masks_and_rectangles():
    assert masks.solid_mask(3, 2, 0.5, 2).numpy().tolist() == [[[[0.5] * 3] * 2]] * 2
    rectangle = masks.rectangle_mask(6, 5, 1, 2, 4, 9).numpy()[0, 0]
    wanted = np.zeros((5, 6))
    wanted[2:, 1:4] = 1
    assert np.array_equal(rectangle, wanted)
    assert not masks.rectangle_mask(6, 5, -4, -4, -1, -1).numpy().any()
    with pytest.raises(Invalid, match="right 4 does not lie behind 4") as caught:
        masks.rectangle_mask(6, 5, 4, 2, 4, 9)
    assert caught.value.port == "right"


def test_an_ellipse_has_its_area_and_fills_its_box():
    disk = masks.ellipse_mask(64, 48, 10, 4, 50, 44).numpy()[0, 0]
    assert disk.sum() == pytest.approx(np.pi * 20 * 20, rel=0.002)
    assert np.array_equal(disk, disk[::-1])
    assert disk[24, 30] == 1
    assert disk[24, 9] == 0
    assert disk[24, 10] > 0.4
    flat = masks.ellipse_mask(64, 48, 2, 14, 62, 34).numpy()[0, 0]
    assert flat.sum() == pytest.approx(np.pi * 30 * 10, rel=0.01)
    assert masks.ellipse_mask(4, 4, -100, -100, 100, 100).numpy().all()


def disk(radius):
    down, across = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return down * down + across * across <= radius * radius


@pytest.mark.parametrize("radius", [1, 3, 7, 40])
@pytest.mark.parametrize("shape", ["round", "square"])
def test_growing_is_grey_dilation(radius, shape):
    footprint = disk(radius) if shape == "round" else np.ones((2 * radius + 1,) * 2, bool)
    grown, shrunk = masks.grow_mask(soft(), radius, shape).numpy(), masks.grow_mask(soft(), -radius, shape).numpy()
    for k in range(2):
        plane = soft().numpy()[k, 0]
        assert np.array_equal(grown[k, 0], ndimage.grey_dilation(plane, footprint=footprint, mode="constant", cval=-9))
        assert np.array_equal(shrunk[k, 0], ndimage.grey_erosion(plane, footprint=footprint, mode="constant", cval=9))


@given(st.integers(0, 9), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_growing_and_shrinking_are_duals(radius, seed):
    grown = masks.grow_mask(soft(seed=seed), radius).numpy()
    inverse = masks.invert_mask(masks.grow_mask(masks.invert_mask(soft(seed=seed)), -radius)).numpy()
    assert np.abs(grown - inverse).max() < 1e-6
    assert (grown >= soft(seed=seed).numpy()).all()


def test_feather_and_invert():
    wanted = ndimage.gaussian_filter(soft().numpy(), (0, 0, 3, 3), mode="nearest")
    assert np.allclose(masks.feather_mask(soft(), 3).numpy(), wanted, atol=1e-6)
    assert np.array_equal(masks.feather_mask(soft(), 0).numpy(), soft().numpy())
    assert np.array_equal(masks.invert_mask(soft()).numpy(), 1 - soft().numpy())


def test_combining():
    a, b = (np.array(values, np.float32).reshape(1, 1, 1, 4) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
    table = {op: masks.combine_masks(Mask(a), Mask(b), op).numpy().ravel().tolist() for op in ("and", "or", "xor", "subtract")}
    assert table == {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "xor": [0, 1, 1, 0], "subtract": [0, 0, 1, 0]}
    first, second = soft().numpy(), soft(seed=1, batch=1).numpy()
    mixed = masks.combine_masks(soft(), soft(seed=1, batch=1), "subtract").numpy()
    assert np.array_equal(mixed, np.minimum(first, 1 - second))
    with pytest.raises(Invalid, match="'b' has 5×5 pixels"):
        masks.combine_masks(soft(), soft(5, 5))


def test_area():
    assert masks.mask_area(Mask(np.array([[[[0, 1, 0.5, 0.5]]]], np.float32))) == 0.5
