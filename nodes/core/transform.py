"""The geometry of pictures and masks: resize, scale, crop, pad, rotate, flip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from nodegraph import Field, Image, Invalid, Mask, node

from .facts.rules import NO_SIZE
from .facts.sizes import fitted_size, rotated_size, scaled_size, size_of_pixels
from .ports import Antialias, Color, Fit, Method, Side, check_size

if TYPE_CHECKING:
    from .pixels import Array

Offset = Annotated[int, Field(ge=0)]
Margin = Annotated[int, Field(ge=0, le=65_536)]
Edge = Annotated[
    Literal["constant", "edge", "reflect"],
    "what fills the new area: one colour, the outermost pixels, or the picture mirrored at its outermost pixels",
]
Direction = Literal["horizontal", "vertical", "both"]
OptionalSide = Annotated[int | None, Field(ge=1, le=65_536), "in pixels; none follows from the other side and the proportions"]


@node
def resize(
    image: Image,
    width: OptionalSide = None,
    height: OptionalSide = None,
    method: Method = "lanczos",
    fit: Fit = "stretch",
    antialias: Antialias = True,
) -> Image:
    """A picture at another size, computed in float precision.

    With one side alone, the other follows from the proportions.
    """
    from .pixels import to_image
    from .resampling import resize as resized

    size = fitted_size(image.width, image.height, width, height, fit)
    return to_image(resized(image.numpy(), *_checked(size), method, antialias, _box(image, size, fit)))


@node
def resize_mask(
    mask: Mask,
    width: OptionalSide = None,
    height: OptionalSide = None,
    method: Method = "bilinear",
    fit: Fit = "stretch",
    antialias: Antialias = True,
) -> Mask:
    """A mask at another size; see resize."""
    from .pixels import to_mask
    from .resampling import resize as resized

    size = fitted_size(mask.width, mask.height, width, height, fit)
    return to_mask(resized(mask.numpy(), *_checked(size), method, antialias, _box(mask, size, fit)))


def _checked(size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        raise Invalid(NO_SIZE[0], fix=NO_SIZE[1], port="width")
    check_size(*size)
    return size


def _box(picture: Image | Mask, size: tuple[int, int] | None, fit: str) -> tuple[float, float, float, float] | None:
    from .resampling import covering_box

    return covering_box(picture.width, picture.height, *size) if size and fit == "cover" else None


@node
def scale(
    image: Image,
    factor: Annotated[float, Field(gt=0, le=64), "2 doubles both sides"] = 2.0,
    method: Method = "lanczos",
    antialias: Antialias = True,
) -> Image:
    """A picture made larger or smaller by a factor. Sides are rounded, to at least 1 pixel."""
    size = scaled_size(image.width, image.height, factor)
    check_size(*size, "factor")
    return resize(image, *size, method, "stretch", antialias)


@node
def scale_to_pixels(
    image: Image,
    megapixels: Annotated[float, Field(gt=0, le=178), "millions of pixels"] = 1.0,
    multiple: Annotated[int, Field(ge=1, le=256), "make both sides a multiple of this, as models need"] = 8,
    method: Method = "lanczos",
) -> Image:
    """A picture with about this many pixels and about the same proportions."""
    size = size_of_pixels(image.width, image.height, megapixels, multiple)
    check_size(*size, "megapixels")
    return resize(image, *size, method, "stretch")


@node
def crop(image: Image, x: Offset, y: Offset, width: Side, height: Side) -> Image:
    """The part of a picture whose upper left corner is (x, y). It must lie inside of the picture."""
    return Image(_cut(image, x, y, width, height))


@node
def crop_mask(mask: Mask, x: Offset, y: Offset, width: Side, height: Side) -> Mask:
    """The part of a mask whose upper left corner is (x, y). It must lie inside of the mask."""
    return Mask(_cut(mask, x, y, width, height))


def _cut(picture: Image | Mask, x: int, y: int, width: int, height: int) -> Array:
    """The data [B,C,height,width] of a part of a picture, copied. Raises Invalid when it reaches outside."""
    from numpy import ascontiguousarray

    for port, start, length, whole in (("x", x, width, picture.width), ("y", y, height, picture.height)):
        if start + length > whole:
            side = "width" if port == "x" else "height"
            text = f"{port} {start} and {side} {length} reach beyond the picture's {side} of {whole}"
            raise Invalid(text, fix=f"use {port} + {side} of at most {whole}", port=port)
    return ascontiguousarray(picture.numpy()[:, :, y : y + height, x : x + width])


@node
def crop_to(
    image: Image,
    width: Side,
    height: Side,
    horizontal: Literal["left", "center", "right"] = "center",
    vertical: Literal["top", "center", "bottom"] = "center",
) -> Image:
    """The middle of a picture, or its part at a side or corner, at this size. The picture must be at least as large."""
    if width > image.width or height > image.height:
        text = f"{width}×{height} pixels cannot be cut from a picture of {image.width}×{image.height}"
        raise Invalid(text, fix="use resize with fit 'cover'", port="width" if width > image.width else "height")
    parts = {"left": 0, "top": 0, "center": 1, "right": 2, "bottom": 2}
    return crop(image, (image.width - width) * parts[horizontal] // 2, (image.height - height) * parts[vertical] // 2, width, height)


class Cropped(NamedTuple):
    """A part of a picture, and where it lay: `composite` puts it back."""

    image: Image
    mask: Mask
    x: int
    y: int
    width: int
    height: int


@node
def crop_to_mask(
    image: Image,
    mask: Mask,
    margin: Annotated[Margin, "pixels to keep around the mask"] = 32,
    multiple: Annotated[int, Field(ge=1, le=256), "grow both sides to a multiple of this where the picture has room"] = 8,
) -> Cropped:
    """The part of a picture around a mask: to paint a detail at full resolution, and to put it back with composite.

    The part is the same for the whole batch. What the mask holds is all that is above 0.
    """
    from .pixels import check_sizes

    check_sizes(image=image, mask=mask)
    held = mask.numpy().max(axis=(0, 1)) > 0
    if not held.any():
        raise Invalid("the mask is empty", fix="use a mask that holds something", port="mask")
    x, width = _span(held.any(axis=0).nonzero()[0], image.width, margin, multiple)
    y, height = _span(held.any(axis=1).nonzero()[0], image.height, margin, multiple)
    return Cropped(crop(image, x, y, width, height), crop_mask(mask, x, y, width, height), x, y, width, height)


def _span(held: Array, whole: int, margin: int, multiple: int) -> tuple[int, int]:
    """Start and length of the held indexes (ascending) with a margin, grown to a multiple, all within 0..whole."""
    first, last = max(int(held[0]) - margin, 0), min(int(held[-1]) + 1 + margin, whole)
    length = min(-(-(last - first) // multiple) * multiple, whole)
    return min(max(first - (length - (last - first)) // 2, 0), whole - length), length


class Extended(NamedTuple):
    image: Image
    mask: Annotated[Mask, "1 where the area is new: what an outpainting is to paint"]


@node
def pad(
    image: Image,
    left: Margin = 0,
    top: Margin = 0,
    right: Margin = 0,
    bottom: Margin = 0,
    mode: Edge = "constant",
    color: Color = "black",
) -> Extended:
    """A picture with a margin around it, and the mask of what is new."""
    import numpy as np

    from .pixels import color as parse_color

    check_size(image.width + left + right, image.height + top + bottom, "left")
    margins = ((0, 0), (0, 0), (top, bottom), (left, right))
    new = np.pad(np.zeros((len(image), 1, image.height, image.width), np.float32), margins, constant_values=1.0)
    if mode == "constant":
        area = np.s_[:, :, top : top + image.height, left : left + image.width]
        pixels = np.broadcast_to(parse_color(color), (len(image), 3, *new.shape[2:])).copy()
        pixels[area] = image.numpy()
    else:
        pixels = np.pad(image.numpy(), margins, mode="edge" if mode == "edge" else "reflect")
    return Extended(Image(pixels), Mask(new))


@node
def rotate(
    image: Image,
    degrees: Annotated[float, Field(ge=-36_000, le=36_000), "counter-clockwise"] = 90.0,
    expand: Annotated[bool, "make the picture as large as the turned one needs; otherwise corners are cut off"] = True,
    method: Annotated[Literal["nearest", "bilinear", "bicubic"], "spline interpolation of order 0, 1 or 3"] = "bicubic",
    color: Annotated[Color, "what fills the corners"] = "black",
) -> Extended:
    """A picture turned about its centre, and the mask of the corners that it does not cover.

    Turns by multiples of 90 degrees lose nothing. Edges of others are soft unless the method is nearest.
    """
    import numpy as np

    from .pixels import color as parse_color
    from .pixels import to_image, to_mask
    from .resampling import rotate as rotated

    if expand:
        check_size(*rotated_size(image.width, image.height, degrees), "image")
    pixels, coverage = rotated(image.numpy(), degrees, method, expand, parse_color(color))
    return Extended(to_image(pixels), to_mask(np.repeat(1 - coverage, len(image), axis=0)))


@node
def flip(image: Image, direction: Direction = "horizontal") -> Image:
    """A picture mirrored: left and right change places, or top and bottom, or both."""
    return Image(_flipped(image, direction))


@node
def flip_mask(mask: Mask, direction: Direction = "horizontal") -> Mask:
    """A mask mirrored; see flip."""
    return Mask(_flipped(mask, direction))


def _flipped(picture: Image | Mask, direction: str) -> Array:
    import numpy as np

    axes = {"horizontal": (3,), "vertical": (2,), "both": (2, 3)}[direction]
    return np.ascontiguousarray(np.flip(picture.numpy(), axes))
