"""Annotations of ports that several nodes share, and the bounds they stand for."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Field, Invalid

from .facts.sizes import MAX_SIDE, size_problem

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
    if problem := size_problem(width, height):
        text, fix = problem
        raise Invalid(text, fix=fix, port=port)
