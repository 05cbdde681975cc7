"""Colour arithmetic on sRGB pixels [B,3,H,W], and conversion to CIE L*a*b* and back."""

from __future__ import annotations

import math

import numpy as np

from .pixels import Array

FILTER_LUMA = np.array([0.213, 0.715, 0.072])
"""Weights of red, green and blue in the matrices of W3C Filter Effects Module Level 1, section 9.6."""

TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""Linear sRGB to CIE XYZ (IEC 61966-2-1)."""
WHITE = np.array([0.95047, 1.0, 1.08883])
"""The white of sRGB: CIE illuminant D65, 2° observer."""
EPSILON, KAPPA = 0.008856, 7.787
"""Where the cube root of CIE 1976 L*a*b* gives way to a line, and the slope of that line."""


def saturated(pixels: Array, amount: float) -> Array:
    """The `saturate` matrix of Filter Effects: 0 is grey, 1 leaves pixels as they are."""
    return _mixed_channels(pixels, amount * np.eye(3) + (1 - amount) * FILTER_LUMA)


def hue_turned(pixels: Array, degrees: float) -> Array:
    """The `hueRotate` matrix of Filter Effects: turns hues and keeps luma."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    towards_sine = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    return _mixed_channels(pixels, FILTER_LUMA + cosine * (np.eye(3) - FILTER_LUMA) + sine * towards_sine)


def _mixed_channels(pixels: Array, matrix: Array) -> Array:
    """Each pixel as a column times a 3×3 matrix, in the precision of the pixels."""
    mixed = matrix.astype(pixels.dtype) @ pixels.reshape(*pixels.shape[:2], -1)
    return mixed.reshape(pixels.shape)


def to_lab(pixels: Array) -> Array:
    """float64 L* in 0..100, a*, b* of sRGB pixels."""
    linear = np.where(pixels > 0.04045, ((pixels.astype(np.float64) + 0.055) / 1.055) ** 2.4, pixels / 12.92)
    relative = _mixed_channels(linear, TO_XYZ / WHITE[:, None])
    curved = np.where(relative > EPSILON, np.cbrt(relative), KAPPA * relative + 16 / 116)
    x, y, z = np.moveaxis(curved, 1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def from_lab(lab: Array) -> Array:
    """float64 sRGB pixels of L*a*b*, the inverse of `to_lab`; may lie outside of 0..1."""
    light, a, b = np.moveaxis(lab, 1, 0)
    y = (light + 16) / 116
    curved = np.stack([y + a / 500, y, y - b / 200], axis=1)
    relative = np.where(curved > np.cbrt(EPSILON), curved**3, (curved - 16 / 116) / KAPPA)
    linear = _mixed_channels(relative, np.linalg.inv(TO_XYZ) * WHITE)
    return np.where(linear > 0.0031308, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055, linear * 12.92)


def match_moments(pixels: Array, reference: Array) -> Array:
    """Pixels with the mean and deviation of the reference in each channel of L*a*b*, picture by picture.

    Reinhard et al., "Color Transfer between Images" (2001), in CIE L*a*b* in place of their lαβ.
    """
    lab, wanted = to_lab(pixels), to_lab(reference)
    means, wanted_means = (one.mean((2, 3), keepdims=True) for one in (lab, wanted))
    spread, wanted_spread = (one.std((2, 3), keepdims=True) for one in (lab, wanted))
    factor = np.where(spread > 1e-9, wanted_spread / np.maximum(spread, 1e-9), 1.0)
    return from_lab((lab - means) * factor + wanted_means)


def match_histograms(pixels: Array, reference: Array) -> Array:
    """Pixels with the histogram of the reference in each channel, picture by picture: each value goes to that of its quantile."""
    matched = np.empty_like(pixels)
    for picture in range(len(pixels)):
        for channel in range(pixels.shape[1]):
            wanted = reference[picture % len(reference), channel]
            matched[picture, channel] = _match_channel(pixels[picture, channel], wanted)
    return matched


def _match_channel(plane: Array, wanted: Array) -> Array:
    _, where, counts = np.unique(plane, return_inverse=True, return_counts=True)
    values, wanted_counts = np.unique(wanted, return_counts=True)
    quantiles, wanted_quantiles = np.cumsum(counts) / plane.size, np.cumsum(wanted_counts) / wanted.size
    matched = np.interp(quantiles, wanted_quantiles, values)
    return np.asarray(matched[where.reshape(plane.shape)])
