"""How far two arrays of pixels [B,3,H,W] in 0..1 are apart."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .facts.rules import WINDOW
from .pixels import Array

SIGMA = 1.5
RADIUS = WINDOW // 2
"""The Gaussian window of SSIM is 11×11 with a standard deviation of 1.5."""
C1, C2 = 0.01**2, 0.03**2
"""The constants of SSIM for values in 0..1."""


def mean_squared_error(pixels: Array, reference: Array) -> float:
    """The mean over all values of the squared difference, summed in double precision."""
    return float(((pixels.astype(np.float64) - reference) ** 2).mean())


def structural_similarity(pixels: Array, reference: Array) -> float:
    """The mean SSIM over pictures, channels and all places where the window fits.

    Wang, Bovik, Sheikh, Simoncelli: "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004).
    """
    one, other = np.broadcast_arrays(pixels.astype(np.float64), reference.astype(np.float64))
    mean_one, mean_other = _windowed(one), _windowed(other)
    variance_one = _windowed(one * one) - mean_one**2
    variance_other = _windowed(other * other) - mean_other**2
    covariance = _windowed(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + C1) * (2 * covariance + C2)
    below = (mean_one**2 + mean_other**2 + C1) * (variance_one + variance_other + C2)
    return float((above / below).mean())


def _windowed(values: Array) -> Array:
    """Means under the window, where it lies wholly inside."""
    means = ndimage.gaussian_filter(values, SIGMA, radius=RADIUS, axes=(2, 3))
    return np.asarray(means[:, :, RADIUS:-RADIUS, RADIUS:-RADIUS])
