"""The geometry of masks: growing, and ellipses."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from .pixels import Array


def grown(planes: Array, radius: int, is_round: bool) -> Array:
    """The greatest value within a radius of each pixel of [B,C,H,W]: over a disk dx² + dy² ≤ radius², or over a square.

    What lies outside does not count. Shrinking is growing of the negated values.
    """
    if radius == 0:
        return planes
    if not is_round:
        return _widest(_widest(planes, radius, 3), radius, 2)
    rows = planes.shape[2]
    result = np.full_like(planes, -np.inf)
    for down in range(-min(radius, rows - 1), min(radius, rows - 1) + 1):  # a disk is a stack of spans
        spans = _widest(planes, math.isqrt(radius * radius - down * down), 3)
        target, source = slice(max(down, 0), rows + min(down, 0)), slice(max(-down, 0), rows - max(down, 0))
        np.maximum(result[:, :, target], spans[:, :, source], out=result[:, :, target])
    return result


def _widest(planes: Array, radius: int, axis: int) -> Array:
    radius = min(radius, planes.shape[axis] - 1)
    return np.asarray(ndimage.maximum_filter1d(planes, 2 * radius + 1, axis, mode="constant", cval=-np.inf))


def ellipse(width: int, height: int, box: tuple[int, int, int, int]) -> Array:
    """float32 [height,width]: how much of each pixel lies in the ellipse that fills a box (left, top, right, bottom).

    The distance to the edge is f / |∇f| of f = |p| - 1 in units of the half axes, exact for circles to first order.
    """
    left, top, right, bottom = box
    half_x, half_y = (right - left) / 2, (bottom - top) / 2
    down, across = np.ogrid[0:height, 0:width]
    x, y = (across + 0.5 - (left + right) / 2) / half_x, (down + 0.5 - (top + bottom) / 2) / half_y
    from_middle = np.sqrt(x * x + y * y)
    slope = np.sqrt((x / half_x) ** 2 + (y / half_y) ** 2) / np.maximum(from_middle, 1e-12)
    distance = (from_middle - 1) / np.maximum(slope, 1e-12)
    return np.clip(0.5 - distance, 0, 1).astype(np.float32)
