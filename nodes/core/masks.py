"""Masks: made from colours, thresholds and shapes, grown, feathered and combined."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Field, Image, Invalid, Mask, node

from .facts.rules import box_problem
from .ports import Channel, Color, Side, Unit, check_size

Corner = Annotated[int, Field(ge=-65_536, le=65_536), "the shape may reach outside of the mask"]


@node
def image_to_mask(image: Image, channel: Annotated[Channel, "luminance is luma (ITU-R BT.709)"] = "luminance") -> Mask:
    """A mask from one channel of a picture, or from its luminance."""
    from .pixels import channel as channel_of
    from .pixels import to_mask

    return to_mask(channel_of(image.numpy(), channel))


@node
def mask_to_image(mask: Mask) -> Image:
    """A mask as a grey picture."""
    import numpy as np

    return Image(np.repeat(mask.numpy(), 3, axis=1))


@node
def threshold_mask(image: Image, threshold: Unit = 0.5, channel: Channel = "luminance") -> Mask:
    """1 where a channel of a picture, or its luminance, is at least the threshold, and 0 elsewhere."""
    return binarize_mask(image_to_mask(image, channel), threshold)


@node
def binarize_mask(mask: Mask, threshold: Unit = 0.5) -> Mask:
    """1 where a mask is at least the threshold, and 0 elsewhere."""
    import numpy as np

    return Mask((mask.numpy() >= np.float32(threshold)).astype(np.float32))


@node
def mask_from_color(
    image: Image,
    color: Color = "white",
    tolerance: Annotated[Unit, "how far from the colour still counts; black and white are 1 apart"] = 0.1,
    softness: Annotated[Unit, "over what further distance the mask falls to 0"] = 0.0,
) -> Mask:
    """Where a picture has a certain colour. Distance is the root mean square over red, green and blue."""
    import numpy as np

    from .pixels import color as parse_color
    from .pixels import to_mask

    distance = np.sqrt(((image.numpy() - parse_color(color)) ** 2).mean(axis=1, keepdims=True))
    over = np.float32(softness)
    return to_mask(1 - (distance - np.float32(tolerance)) / over if over else distance <= np.float32(tolerance))


@node
def solid_mask(width: Side = 512, height: Side = 512, value: Unit = 1.0, batch: Annotated[int, Field(ge=1, le=4096)] = 1) -> Mask:
    """A mask of one value."""
    import numpy as np

    check_size(width, height)
    return Mask(np.full((batch, 1, height, width), value, np.float32))


@node
def rectangle_mask(
    width: Side = 512,
    height: Side = 512,
    left: Corner = 128,
    top: Corner = 128,
    right: Annotated[Corner, "the first column that is outside"] = 384,
    bottom: Annotated[Corner, "the first row that is outside"] = 384,
) -> Mask:
    """1 inside of a rectangle, 0 elsewhere."""
    import numpy as np

    _check_box(width, height, left, top, right, bottom)
    pixels = np.zeros((1, 1, height, width), np.float32)
    pixels[:, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    return Mask(pixels)


@node
def ellipse_mask(
    width: Side = 512,
    height: Side = 512,
    left: Corner = 128,
    top: Corner = 128,
    right: Annotated[Corner, "the first column that is outside"] = 384,
    bottom: Annotated[Corner, "the first row that is outside"] = 384,
) -> Mask:
    """1 inside of the ellipse that fills a rectangle, 0 elsewhere, with an edge one pixel soft."""
    _check_box(width, height, left, top, right, bottom)
    from .morphology import ellipse
    from .pixels import to_mask

    return to_mask(ellipse(width, height, (left, top, right, bottom))[None, None])


def _check_box(width: int, height: int, left: int, top: int, right: int, bottom: int) -> None:
    check_size(width, height)
    if problem := box_problem(left, top, right, bottom):
        port, text, fix = problem
        raise Invalid(text, fix=fix, port=port)


@node
def grow_mask(
    mask: Mask,
    pixels: Annotated[int, Field(ge=-4096, le=4096), "how far; below 0 the mask shrinks"] = 8,
    shape: Annotated[Literal["round", "square"], "how corners grow"] = "round",
) -> Mask:
    """A mask that reaches some pixels further, or less far. Soft masks stay soft; nothing grows in from outside."""
    from .morphology import grown
    from .pixels import to_mask

    sign = 1 if pixels >= 0 else -1
    return to_mask(sign * grown(sign * mask.numpy(), abs(pixels), shape == "round"))


@node
def feather_mask(mask: Mask, sigma: Annotated[float, Field(ge=0, le=1000), "the standard deviation in pixels"] = 4.0) -> Mask:
    """A mask with soft edges: a Gaussian blur. Beyond the edges the outermost pixels go on."""
    from .pixels import to_mask
    from .smoothing import gaussian

    return to_mask(gaussian(mask.numpy(), sigma))


@node
def invert_mask(mask: Mask) -> Mask:
    """What the mask does not hold."""
    from .pixels import to_mask

    return to_mask(1 - mask.numpy())


@node
def combine_masks(a: Mask, b: Mask, operation: Literal["and", "or", "xor", "subtract"] = "and") -> Mask:
    """Two masks of one size: what both hold, what at least one holds, what one alone holds, or a without b.

    On soft masks these are the least, the greatest, the absolute difference, and the least of a and 1 - b.
    """
    import numpy as np

    from .pixels import check_sizes, to_mask

    check_sizes(a=a, b=b)
    first, second = a.numpy(), b.numpy()
    if operation == "and":
        return to_mask(np.minimum(first, second))
    if operation == "or":
        return to_mask(np.maximum(first, second))
    if operation == "xor":
        return to_mask(np.abs(first - second))
    return to_mask(np.minimum(first, 1 - second))


@node
def mask_area(mask: Mask) -> float:
    """What share of a mask, over its whole batch, is there: 0 to 1."""
    return float(mask.numpy().mean(dtype="float64"))
