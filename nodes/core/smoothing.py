"""Blurs of pixels [B,C,H,W], along the last two axes. Beyond the edges the outermost pixels go on."""

from __future__ import annotations

from scipy import ndimage

from .pixels import Array

SPATIAL = (2, 3)


def gaussian(pixels: Array, sigma: float) -> Array:
    """A Gaussian, cut off at four standard deviations. A sigma of 0 gives the pixels themselves."""
    if sigma == 0:
        return pixels
    return ndimage.gaussian_filter(pixels, sigma, mode="nearest", axes=SPATIAL)


def box(pixels: Array, radius: int) -> Array:
    """The mean over squares of 2·radius + 1 pixels."""
    return ndimage.uniform_filter(pixels, 2 * radius + 1, mode="nearest", axes=SPATIAL)
