"""Colour, blur and sharpen: against scikit-image, scipy and plain formulas."""

import numpy as np
import pytest
import skimage.color
import skimage.exposure
import skimage.filters
from scipy import ndimage

from nodegraph import Image, Invalid
from nodes.core import color, filters
from nodes.core.colorspace import from_lab, to_lab


def picture(width=24, height=18, batch=2, seed=0):
    return Image(np.random.default_rng(seed).random((batch, 3, height, width), np.float32))


def last(pixels):
    """[B,H,W,C] of [B,C,H,W]."""
    return np.moveaxis(pixels, 1, -1)


# --- adjust --------------------------------------------------------------------------


def test_without_settings_nothing_changes():
    image = picture()
    for changed in (color.adjust_color(image), color.levels(image), color.grayscale(image, 0), color.tint(image, amount=0)):
        assert np.array_equal(changed.numpy(), image.numpy())
    for same in (filters.blur(image, 0), filters.box_blur(image, 0), filters.sharpen(image, 0), filters.sharpen(image, 3, 0)):
        assert np.array_equal(same.numpy(), image.numpy())


def test_brightness_contrast_and_gamma():
    pixels = picture().numpy()
    assert np.allclose(color.adjust_color(picture(), brightness=1.5).numpy(), np.clip(pixels * 1.5, 0, 1), atol=1e-6)
    assert np.allclose(color.adjust_color(picture(), contrast=0.5).numpy(), pixels / 2 + 0.25, atol=1e-6)
    assert np.allclose(color.adjust_color(picture(), gamma=2.2).numpy(), pixels ** (1 / 2.2), atol=1e-6)


def css(pixels, saturation=1.0, degrees=0.0):
    """The matrices as they are written in Filter Effects Module Level 1."""
    s, c, z = saturation, np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    saturate = np.array(
        [
            [0.213 + 0.787 * s, 0.715 - 0.715 * s, 0.072 - 0.072 * s],
            [0.213 - 0.213 * s, 0.715 + 0.285 * s, 0.072 - 0.072 * s],
            [0.213 - 0.213 * s, 0.715 - 0.715 * s, 0.072 + 0.928 * s],
        ]
    )
    rotate = np.array(
        [
            [0.213 + c * 0.787 - z * 0.213, 0.715 - c * 0.715 - z * 0.715, 0.072 - c * 0.072 + z * 0.928],
            [0.213 - c * 0.213 + z * 0.143, 0.715 + c * 0.285 + z * 0.140, 0.072 - c * 0.072 - z * 0.283],
            [0.213 - c * 0.213 - z * 0.787, 0.715 - c * 0.715 + z * 0.715, 0.072 + c * 0.928 + z * 0.072],
        ]
    )
    return np.clip(np.moveaxis(last(pixels) @ (rotate @ saturate).T, -1, 1), 0, 1)


@pytest.mark.parametrize(("saturation", "degrees"), [(0, 0), (2.5, 0), (1, 90), (1, -120), (0.5, 45)])
def test_saturation_and_hue_are_those_of_css(saturation, degrees):
    changed = color.adjust_color(picture(), saturation=saturation, hue=degrees).numpy()
    assert np.abs(changed - css(picture().numpy(), saturation, degrees)).max() < 1e-6


def test_grey_has_no_colour_to_change():
    grey = Image(np.repeat(picture().numpy()[:, :1], 3, axis=1))
    for changed in (color.adjust_color(grey, saturation=3, hue=77), color.grayscale(grey)):
        assert np.abs(changed.numpy() - grey.numpy()).max() < 1e-6


def test_levels():
    ramp = Image(np.broadcast_to(np.linspace(0, 1, 11, dtype=np.float32), (1, 3, 2, 11)))
    stretched = color.levels(ramp, 0.2, 0.7).numpy()[0, 0, 0]
    assert np.allclose(stretched, [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1], atol=1e-6)
    assert np.allclose(color.levels(ramp, out_black=0.9, out_white=0.1).numpy()[0, 0, 0], np.linspace(0.9, 0.1, 11), atol=1e-6)
    assert np.allclose(color.levels(ramp, gamma=2).numpy()[0, 0, 0], np.linspace(0, 1, 11) ** 0.5, atol=1e-6)
    with pytest.raises(Invalid, match=r"white 0.4 does not lie above black 0.4") as caught:
        color.levels(ramp, 0.4, 0.4)
    assert caught.value.port == "white"
    with pytest.raises(Invalid, match=r"white 1e-60 does not lie above black 0"):  # in the precision of pixels
        color.levels(ramp, black=0.0, white=1e-60)


def test_invert_and_grayscale():
    pixels = picture().numpy()
    assert np.array_equal(color.invert(picture()).numpy(), 1 - pixels)
    grey = color.grayscale(picture()).numpy()
    assert np.abs(grey[:, 0] - last(pixels) @ (0.2126, 0.7152, 0.0722)).max() < 1e-6
    assert (grey[:, 0] == grey[:, 1]).all()
    assert (grey[:, 0] == grey[:, 2]).all()


def test_tint_gives_the_hue_and_keeps_the_light():
    tinted = color.tint(picture(), "#804020").numpy()
    weights = np.array([0.3, 0.59, 0.11])
    assert np.abs((last(tinted) - last(picture().numpy())) @ weights).max() < 1e-5
    assert (tinted[:, 0] >= tinted[:, 1] - 1e-6).all()
    assert (tinted[:, 1] >= tinted[:, 2] - 1e-6).all()


def test_posterize_and_quantize():
    few = color.posterize(picture(), 3).numpy()
    assert set(np.unique(few)) == {0, 0.5, 1}
    assert np.abs(few - picture().numpy()).max() <= 0.25 + 1e-6
    for dither in (False, True):
        reduced = color.quantize(picture(), 5, dither).numpy()
        assert all(len(np.unique(one.reshape(-1, 3), axis=0)) <= 5 for one in last(reduced))
        assert np.abs(reduced - picture().numpy()).mean() < 0.2


# --- match ---------------------------------------------------------------------------


def test_lab_is_skimages_and_goes_back():
    pixels = np.concatenate([picture().numpy(), np.zeros((2, 3, 18, 1), np.float32), np.ones((2, 3, 18, 1), np.float32)], axis=3)
    lab = to_lab(pixels)
    assert np.abs(last(lab) - skimage.color.rgb2lab(last(pixels.astype(np.float64)))).max() < 1e-3
    assert np.abs(from_lab(lab) - pixels).max() < 1e-5


def test_histograms_are_matched_as_skimage_does():
    image, reference = picture(), picture(10, 10, batch=2, seed=1)
    dark = Image(reference.numpy() ** 2)
    matched = color.match_color(image, dark, "histogram").numpy()
    for k in range(2):
        wanted = skimage.exposure.match_histograms(last(image.numpy())[k], last(dark.numpy())[k], channel_axis=-1)
        assert np.abs(last(matched)[k] - wanted).max() < 1e-6


def test_moments_are_matched_in_lab():
    image = Image(0.4 + 0.2 * picture().numpy())
    warm = Image((0.3 + 0.3 * picture(9, 9, 1, seed=1).numpy()) * np.array([1.2, 1, 0.7], np.float32).reshape(1, 3, 1, 1))
    matched = to_lab(color.match_color(image, warm).numpy())
    wanted = to_lab(warm.numpy())
    assert np.abs(matched.mean((2, 3)) - wanted.mean((2, 3))).max() < 0.05
    assert np.abs(matched.std((2, 3)) - wanted.std((2, 3))).max() < 0.05


def test_matching_a_flat_picture_and_wrong_references():
    grey = Image(np.full((1, 3, 4, 4), 0.5, np.float32))
    matched = color.match_color(grey, picture(batch=1)).numpy()
    assert np.isfinite(matched).all()
    assert np.ptp(matched, axis=(2, 3)).max() < 1e-6
    with pytest.raises(Invalid, match="3 pictures and 2 references"):
        color.match_color(picture(batch=3), picture(batch=2))


# --- filters -------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 2.0, 15.0])
def test_blur_is_skimages(sigma):
    blurred = filters.blur(picture(), sigma).numpy()
    for k in range(2):
        wanted = skimage.filters.gaussian(last(picture().numpy())[k], sigma, channel_axis=-1, mode="nearest")
        assert np.abs(last(blurred)[k] - wanted).max() < 1e-5


def test_box_blur_is_a_mean():
    pixels = picture().numpy()
    padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    wanted = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (2, 3)).mean((4, 5))
    assert np.abs(filters.box_blur(picture(), 2).numpy() - wanted).max() < 1e-6


def test_a_blurred_flat_picture_stays_flat():
    flat = Image(np.full((1, 3, 9, 9), 0.3, np.float32))
    assert np.abs(filters.blur(flat, 50).numpy() - 0.3).max() < 1e-6
    assert np.abs(filters.box_blur(flat, 50).numpy() - 0.3).max() < 1e-6


def test_sharpen_is_an_unsharp_mask():
    pixels = picture().numpy()
    detail = pixels - ndimage.gaussian_filter(pixels, (0, 0, 1.5, 1.5), mode="nearest")
    assert np.allclose(filters.sharpen(picture(), 0.7, 1.5).numpy(), np.clip(pixels + 0.7 * detail, 0, 1), atol=1e-6)
    some = filters.sharpen(picture(), 0.7, 1.5, threshold=0.2).numpy()
    small = np.abs(detail) < 0.2
    assert np.array_equal(some[small], pixels[small])
    assert not np.array_equal(some, pixels)
