"""Comparing pictures: against scikit-image, and what equal pictures give."""

import numpy as np
import pytest
import skimage.metrics
from scipy import ndimage

from nodegraph import Image, Invalid
from nodes.core import compare


def pair(width=40, height=30, batch=1):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((batch, 3, height, width)), (0, 0, 2, 2))
    reference = np.clip((smooth - smooth.min()) / np.ptp(smooth), 0, 1).astype(np.float32)
    noisy = np.clip(reference + rng.normal(0, 0.05, reference.shape), 0, 1).astype(np.float32)
    return Image(noisy), Image(reference)


@pytest.mark.parametrize("size", [(40, 30), (11, 11), (64, 12)])
def test_metrics_are_skimages(size):
    image, reference = pair(*size)
    one, other = image.numpy()[0].astype(np.float64), reference.numpy()[0].astype(np.float64)
    assert compare.mse(image, reference) == pytest.approx(skimage.metrics.mean_squared_error(one, other), rel=1e-9)
    assert compare.psnr(image, reference) == pytest.approx(skimage.metrics.peak_signal_noise_ratio(other, one, data_range=1), rel=1e-9)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    wanted = skimage.metrics.structural_similarity(one, other, channel_axis=0, **options)
    assert compare.ssim(image, reference) == pytest.approx(wanted, abs=1e-9)


def test_equal_pictures():
    image, _ = pair()
    assert compare.mse(image, image) == 0
    assert compare.psnr(image, image) == 100
    assert compare.psnr(image, image, 60) == 60
    assert compare.ssim(image, image) == pytest.approx(1, abs=1e-12)


def test_a_batch_is_compared_as_a_whole():
    image, reference = pair(batch=3)
    singles = [(Image(image.numpy()[k : k + 1]), Image(reference.numpy()[k : k + 1])) for k in range(3)]
    assert compare.mse(image, reference) == pytest.approx(np.mean([compare.mse(*one) for one in singles]))
    assert compare.ssim(image, reference) == pytest.approx(np.mean([compare.ssim(*one) for one in singles]))
    same = Image(np.repeat(reference.numpy()[:1], 3, axis=0))
    assert compare.ssim(image, singles[0][1]) == compare.ssim(image, same)


def test_difference_image():
    image, reference = pair()
    wanted = np.clip(np.abs(image.numpy() - reference.numpy()) * np.float32(10), 0, 1)
    assert np.array_equal(compare.difference_image(image, reference, 10).numpy(), wanted)


@pytest.mark.parametrize("node", [compare.mse, compare.psnr, compare.ssim, compare.difference_image])
def test_other_sizes_are_invalid(node):
    with pytest.raises(Invalid, match="'reference' has 20×20 pixels, but 'image' has 40×30") as caught:
        node(pair()[0], pair(20, 20)[1])
    assert caught.value.port == "reference"


def test_a_picture_smaller_than_the_window_is_invalid():
    with pytest.raises(Invalid, match="10×30 pixels, less than the window of 11×11"):
        compare.ssim(*pair(10, 30))
