"""Resizing and rotating pixels [B,C,H,W] in float precision.

Resizing is Pillow's, on 32-bit float planes: its filters widen when a picture shrinks (antialiasing), its sums are double,
and it needs no torch. Rotating is scipy's spline interpolation.
"""

from __future__ import annotations

import math

import numpy as np
import PIL.Image
from PIL.Image import Resampling, Transform
from scipy import ndimage

from .facts.sizes import rotated_size
from .pixels import Array

FILTERS = {
    "nearest": Resampling.NEAREST,
    "bilinear": Resampling.BILINEAR,
    "bicubic": Resampling.BICUBIC,
    "lanczos": Resampling.LANCZOS,
    "area": Resampling.BOX,
}
SPLINE_ORDERS = {"nearest": 0, "bilinear": 1, "bicubic": 3}

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of the part of a picture that is resized, in pixels."""


def resize(pixels: Array, width: int, height: int, method: str, antialias: bool = True, box: Box | None = None) -> Array:
    """Pixels at another size; not clipped. The same size without a box gives the pixels themselves.

    `antialias=False` samples single points, for bilinear and bicubic.
    """
    rows, columns = pixels.shape[2:]
    box = box or (0.0, 0.0, float(columns), float(rows))
    if (width, height) == (columns, rows) and box == (0, 0, columns, rows):
        return pixels
    shrinks = box[2] - box[0] > width or box[3] - box[1] > height
    resize_plane = _sample_plane if shrinks and not antialias and method in ("bilinear", "bicubic") else _resize_plane
    planes = pixels.reshape(-1, rows, columns)
    resized = np.stack([resize_plane(PIL.Image.fromarray(plane), (width, height), FILTERS[method], box) for plane in planes])
    return resized.reshape(*pixels.shape[:2], height, width)


def _resize_plane(plane: PIL.Image.Image, size: tuple[int, int], method: Resampling, box: Box) -> Array:
    return np.asarray(plane.resize(size, method, box))


def _sample_plane(plane: PIL.Image.Image, size: tuple[int, int], method: Resampling, box: Box) -> Array:
    across, down = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    return np.asarray(plane.transform(size, Transform.AFFINE, (across, 0.0, box[0], 0.0, down, box[1]), method))


def covering_box(columns: int, rows: int, width: int, height: int) -> Box:
    """The largest centred part of a picture that has the proportions of width × height."""
    scale = max(width / columns, height / rows)
    across, down = min(width / scale, columns), min(height / scale, rows)
    left, top = (columns - across) / 2, (rows - down) / 2
    return left, top, left + across, top + down


def rotate(pixels: Array, degrees: float, method: str, expand: bool, background: Array) -> tuple[Array, Array]:
    """(pixels, coverage [1,1,H,W]) turned counter-clockwise about the centre, laid over a background [1,C,1,1].

    Coverage is 1 where the picture is and 0 outside, with soft edges unless the method is nearest. Quarter turns that keep
    the size, or may change it, only move pixels.
    """
    rows, columns = pixels.shape[2:]
    quarters, rest = divmod(degrees % 360, 90)
    if rest == 0 and (expand or quarters % 2 == 0 or rows == columns):
        turned = np.rot90(pixels, int(quarters), axes=(2, 3))
        return turned, np.ones((1, 1, *turned.shape[2:]), np.float32)
    shape = rotated_size(columns, rows, degrees)[::-1] if expand else (rows, columns)
    order = SPLINE_ORDERS[method]
    planes = pixels.reshape(-1, rows, columns)
    turned = np.stack([_rotate_plane(plane, degrees, shape, order, "nearest") for plane in planes]).reshape(*pixels.shape[:2], *shape)
    coverage = _rotate_plane(np.ones((rows, columns), np.float32), degrees, shape, min(order, 1), "grid-constant")[None, None]
    return background + (turned - background) * coverage, coverage


def _rotate_plane(plane: Array, degrees: float, shape: tuple[int, int], order: int, mode: str) -> Array:
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    to_source = np.array([[cosine, sine], [-sine, cosine]])
    middle = (np.array(plane.shape) - 1) / 2 - to_source @ ((np.array(shape) - 1) / 2)
    turned = ndimage.affine_transform(plane, to_source, middle, shape, np.float32, order=order, mode=mode)
    return np.asarray(turned)
