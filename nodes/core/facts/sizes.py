"""The sizes that nodes make of other sizes, and how large a picture may be."""

from __future__ import annotations

import math

MAX_SIDE = 65_536
"""The longest side of a picture, in pixels."""
MAX_PIXELS = 178_956_970
"""The most pixels one picture may have: where Pillow, too, takes a file for a decompression bomb (2 GB as float32 RGB)."""


def size_problem(width: int, height: int) -> tuple[str, str] | None:
    """Why there is no picture of a size, as (text, fix); None if there is: one that is empty, or larger than MAX_SIDE and MAX_PIXELS."""
    if width < 1 or height < 1:
        return f"the picture would have {width}×{height} pixels", "use at least 1×1"
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return f"a picture of {width}×{height} pixels is too large", f"use at most {MAX_PIXELS:,} pixels and {MAX_SIDE:,} a side"
    return None


def fitted_size(columns: int, rows: int, width: int | None, height: int | None, fit: str) -> tuple[int, int] | None:
    """The size that `resize` gives a picture of columns × rows; None when neither side is asked for."""
    if width is None and height is None:
        return None
    if width is None or height is None:
        factor = width / columns if width is not None else (height or 0) / rows
        scaled = scaled_size(columns, rows, factor)
        return (width, scaled[1]) if width is not None else (scaled[0], height or 0)
    if fit == "contain":
        return scaled_size(columns, rows, min(width / columns, height / rows))
    return width, height


def scaled_size(columns: int, rows: int, factor: float) -> tuple[int, int]:
    """Both sides by a factor, rounded, at least 1."""
    return max(round(columns * factor), 1), max(round(rows * factor), 1)


def size_of_pixels(columns: int, rows: int, megapixels: float, multiple: int) -> tuple[int, int]:
    """The multiples nearest to the sides that keep the proportions and have this many pixels."""
    factor = math.sqrt(megapixels * 1e6 / (columns * rows))
    return max(round(columns * factor / multiple), 1) * multiple, max(round(rows * factor / multiple), 1) * multiple


def rotated_size(columns: int, rows: int, degrees: float) -> tuple[int, int]:
    """The smallest upright rectangle around a turned one."""
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    around = columns * cosine + rows * sine, rows * cosine + columns * sine
    return math.ceil(around[0] - 1e-6), math.ceil(around[1] - 1e-6)
