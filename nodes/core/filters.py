"""Blur and sharpen."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Field, Image, node

Sigma = Annotated[float, Field(ge=0, le=1000), "the standard deviation in pixels; 0 changes nothing"]


@node
def blur(image: Image, sigma: Sigma = 2.0) -> Image:
    """A Gaussian blur. Beyond the edges the outermost pixels go on."""
    from .pixels import to_image
    from .smoothing import gaussian

    return to_image(gaussian(image.numpy(), sigma))


@node
def box_blur(image: Image, radius: Annotated[int, Field(ge=0, le=10_000), "the window is 2·radius + 1 pixels wide"] = 2) -> Image:
    """The mean over a square around each pixel. Beyond the edges the outermost pixels go on."""
    from .pixels import to_image
    from .smoothing import box

    return to_image(box(image.numpy(), radius))


@node
def sharpen(
    image: Image,
    amount: Annotated[float, Field(ge=0, le=100), "how much of the detail to add; 0 changes nothing"] = 1.0,
    sigma: Sigma = 1.0,
    threshold: Annotated[float, Field(ge=0, le=1), "leave detail below this as it is, such as noise"] = 0.0,
) -> Image:
    """An unsharp mask: the difference from a Gaussian blur, added to the picture."""
    import numpy as np

    from .pixels import to_image
    from .smoothing import gaussian

    pixels = image.numpy()
    detail = pixels - gaussian(pixels, sigma)
    return to_image(pixels + np.where(np.abs(detail) >= threshold, detail, 0) * np.float32(amount))
