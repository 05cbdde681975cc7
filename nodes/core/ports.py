"""Annotations of ports that several nodes share, and the bounds they stand for."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Field, Invalid

MAX_SIDE = 65_536
"""The longest side of a picture, in pixels."""
MAX_PIXELS = 178_956_970
"""The most pixels one picture may have: where Pillow, too, takes a file for a decompression bomb (2 GB as float32 RGB)."""

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Color = Annotated[str, "a colour: #rgb, #rrggbb, a CSS name such as 'orange', rgb(255, 165, 0) or hsl(39, 100%, 50%)"]
Channel = Literal["luminance", "red", "green", "blue"]
Sampling = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
Method = Annotated[Sampling, "the resampling filter; area is the mean of the covered pixels"]
Fit = Annotated[
    Literal["stretch", "contain", "cover"],
    "where the proportions differ: stretch the picture, keep it whole (one side becomes smaller than asked), or cut off what is over",
]
Antialias = Annotated[bool, "when shrinking, weigh all covered pixels; without it, bilinear and bicubic sample single points"]


def check_size(width: int, height: int, port: str = "width") -> None:
    """Raise Invalid when a picture of this size is empty or larger than MAX_SIDE and MAX_PIXELS allow."""
    if width < 1 or height < 1:
        raise Invalid(f"the picture would have {width}×{height} pixels", fix="use at least 1×1", port=port)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise Invalid(
            f"a picture of {width}×{height} pixels is too large",
            fix=f"use at most {MAX_PIXELS:,} pixels and {MAX_SIDE:,} a side",
            port=port,
        )
