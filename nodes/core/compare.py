"""How alike two pictures are. A batch is compared as a whole; one reference goes with every batch."""

from __future__ import annotations

import math
from typing import Annotated

from nodegraph import Field, Image, Invalid, node

from .facts.rules import window_problem


@node
def mse(image: Image, reference: Image) -> float:
    """The mean squared error of values in 0..1: 0 for equal pictures."""
    from .metrics import mean_squared_error
    from .pixels import check_sizes

    check_sizes(image=image, reference=reference)
    return mean_squared_error(image.numpy(), reference.numpy())


@node
def psnr(
    image: Image,
    reference: Image,
    most: Annotated[float, Field(gt=0), "what equal pictures give, in place of infinity, and the most that any give"] = 100.0,
) -> float:
    """The peak signal-to-noise ratio in decibels: 10·log10(1 / mse). Above 40 a difference is hard to see."""
    error = mse(image, reference)
    return min(-10 * math.log10(error), most) if error > 0 else most


@node
def ssim(image: Image, reference: Image) -> float:
    """The structural similarity, 1 for equal pictures (Wang et al. 2004: Gaussian window, mean over the channels)."""
    from .metrics import structural_similarity
    from .pixels import check_sizes

    check_sizes(image=image, reference=reference)
    if wrong := window_problem(image.width, image.height):
        raise Invalid(wrong[0], fix=wrong[1], port="image")
    return structural_similarity(image.numpy(), reference.numpy())


@node
def difference_image(
    image: Image, reference: Image, gain: Annotated[float, Field(gt=0, le=1000), "makes small differences visible"] = 1.0
) -> Image:
    """The absolute difference of two pictures, times a gain."""
    import numpy as np

    from .pixels import check_sizes, to_image

    check_sizes(image=image, reference=reference)
    return to_image(np.abs(image.numpy() - reference.numpy()) * np.float32(gain))
