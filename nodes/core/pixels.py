"""What the pixel nodes share: arrays to values and back, colours, luma, and checks of sizes.

Pixels are numpy float32 [B,C,H,W] in 0..1 throughout, so that a photo edit needs no torch.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeAlias

import numpy as np
from PIL import ImageColor

from nodegraph import Image, Invalid, Mask

from .facts.colors import no_color
from .facts.rules import batches_problem

Array: TypeAlias = np.ndarray

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of red, green and blue in luma (ITU-R BT.709, whose primaries are those of sRGB), applied to sRGB values as they are."""


def to_image(pixels: Array) -> Image:
    """An Image of [B,3,H,W], clipped to 0..1."""
    return Image(_clipped(pixels))


def to_mask(pixels: Array) -> Mask:
    """A Mask of [B,1,H,W], clipped to 0..1."""
    return Mask(_clipped(pixels))


def _clipped(pixels: Array) -> Array:
    return np.ascontiguousarray(np.clip(pixels, 0.0, 1.0), dtype=np.float32)


def luma(pixels: Array) -> Array:
    """The luma [B,1,H,W] of pixels [B,3,H,W]. Of a grey picture, its grey."""
    red, green, blue = np.moveaxis(pixels, 1, 0)
    grey = blue + (red - blue) * LUMA[0] + (green - blue) * LUMA[1]  # exact where the three are equal
    return grey[:, None]


def channel(pixels: Array, name: str) -> Array:
    """One channel [B,1,H,W] of pixels [B,3,H,W]: `luminance` (luma), `red`, `green` or `blue`."""
    if name == "luminance":
        return luma(pixels)
    index = ("red", "green", "blue").index(name)
    return pixels[:, index : index + 1]


def mixed(below: Array, above: Array, cover: Array | np.float32 | float) -> Array:
    """`above` where cover is 1, exactly, and `below` where it is 0."""
    return below * (1 - cover) + above * cover


def color(text: str, port: str = "color") -> Array:
    """float32 [1,3,1,1] of an opaque colour. Raises Invalid for what is none."""
    parsed: tuple[int, ...] = ()
    with suppress(ValueError):
        parsed = ImageColor.getrgb(text)
    if len(parsed) != 3 or not all(0 <= part <= 255 for part in parsed):
        wrong, fix = no_color(text)
        raise Invalid(wrong, fix=fix, port=port)
    return np.array(parsed, np.float32).reshape(1, 3, 1, 1) / np.float32(255)


def check_batches(**pictures: Image | Mask | None) -> int:
    """The batch of what is computed from these pictures, named by their ports: their one batch; one picture goes with every batch.

    Images set it, if there are any, and masks follow. Raises Invalid when the batches do not go together.
    """
    given = {port: picture for port, picture in pictures.items() if picture is not None}
    images = [picture for picture in given.values() if isinstance(picture, Image)]
    batch = max(map(len, images or given.values()))
    masks = [port for port, picture in given.items() if isinstance(picture, Mask)]
    if problem := batches_problem({port: len(picture) for port, picture in given.items()}, masks):
        port, text, fix = problem
        raise Invalid(text, fix=fix, port=port)
    return batch


def check_sizes(**pictures: Image | Mask | None) -> None:
    """Raise Invalid unless all have one width and height, and batches that go together. The first one sets the size."""
    check_batches(**pictures)
    check_sides(**pictures)


def check_sides(**pictures: Image | Mask | None) -> None:
    """Raise Invalid unless all have one width and height. The first one sets the size."""
    (first, reference), *others = ((port, picture) for port, picture in pictures.items() if picture is not None)
    for port, picture in others:
        if (picture.width, picture.height) != (reference.width, reference.height):
            raise Invalid(
                f"{port!r} has {picture.width}×{picture.height} pixels, but {first!r} has {reference.width}×{reference.height}",
                fix=f"make it {reference.width}×{reference.height}, with {'resize_mask' if isinstance(picture, Mask) else 'resize'} say",
                port=port,
            )
