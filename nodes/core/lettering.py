"""Text as coverage: how much of each pixel is ink, in the font that Pillow brings."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from nodegraph import Invalid

from .pixels import Array, luma

LONGEST = PIL.ImageFont.MAX_STRING_LENGTH
"""The most characters of a line that Pillow measures."""


def cover_of_text(text: str, width: int, height: int, x: int, y: int, size: int) -> Array:
    """float32 [height,width]: the ink of a text, which may have several lines, from its upper left corner at (x, y).

    Raises Invalid for a line that has more characters or pixels than Pillow draws, whatever is seen of them.
    """
    if (longest := max(map(len, text.split("\n")))) > LONGEST:
        raise Invalid(f"a line of this text has {longest:,} characters", fix=f"break it into lines of at most {LONGEST:,}", port="text")
    canvas = PIL.Image.new("L", (width, height))
    try:
        PIL.ImageDraw.Draw(canvas).multiline_text((x, y), text, fill=255, font=PIL.ImageFont.load_default(size))
    except PIL.Image.DecompressionBombError:
        raise Invalid(
            f"a line of this text is too large in the size {size}", fix="make it smaller, or break it into lines", port="size"
        ) from None
    return _cover(canvas)


def strip_of_text(text: str, width: int, height: int, size: int) -> Array:
    """float32 [height,width]: one line in the middle of a strip, with an ellipsis in place of what does not fit."""
    canvas = PIL.Image.new("L", (width, height))
    font = PIL.ImageFont.load_default(size)
    line = _fitting(" ".join(text.split()), font, width)
    PIL.ImageDraw.Draw(canvas).text((width / 2, height / 2), line, fill=255, font=font, anchor="mm")
    return _cover(canvas)


def _fitting(line: str, font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont, width: int) -> str:
    """The longest beginning that is at most so wide, found by halving."""
    if len(line) <= LONGEST and font.getlength(line) <= width:
        return line
    fits, too_long = 0, min(len(line), LONGEST)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if font.getlength(line[:middle] + "…") <= width else (fits, middle)
    return line[:fits] + "…"


def _cover(canvas: PIL.Image.Image) -> Array:
    return np.asarray(canvas, np.float32) / np.float32(255)


def readable_on(background: Array) -> Array:
    """Black or white [1,3,1,1], whichever stands out more from a colour."""
    return np.full((1, 3, 1, 1), 0.0 if luma(background).item() > 0.5 else 1.0, np.float32)
