"""Colour: brightness, contrast, saturation, hue, levels, tints and matching."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Field, Image, Invalid, node

from .facts.rules import levels_problem, references_problem
from .ports import Color, Unit

Factor = Annotated[float, Field(ge=0, le=100)]


@node
def adjust_color(
    image: Image,
    brightness: Annotated[Factor, "multiplies all values; 1 changes nothing"] = 1.0,
    contrast: Annotated[Factor, "multiplies the distance from middle grey"] = 1.0,
    saturation: Annotated[Factor, "0 is grey"] = 1.0,
    hue: Annotated[float, Field(ge=-360, le=360), "turns all hues, in degrees"] = 0.0,
    gamma: Annotated[float, Field(gt=0, le=100), "above 1 lightens the middle tones: value^(1/gamma)"] = 1.0,
) -> Image:
    """Brightness, contrast, saturation, hue and gamma, in this order, clipped once at the end (and before gamma).

    The first four are the filters of W3C Filter Effects (as in CSS), on sRGB values in float precision.
    """
    import numpy as np

    from .colorspace import hue_turned, saturated
    from .pixels import to_image

    pixels = image.numpy()
    if brightness != 1:
        pixels = pixels * np.float32(brightness)
    if contrast != 1:
        pixels = (pixels - np.float32(0.5)) * np.float32(contrast) + np.float32(0.5)
    if saturation != 1:
        pixels = saturated(pixels, saturation)
    if hue % 360:
        pixels = hue_turned(pixels, hue)
    if gamma != 1:
        pixels = np.clip(pixels, 0, 1) ** np.float32(1 / gamma)
    return to_image(pixels)


@node
def levels(
    image: Image,
    black: Annotated[Unit, "what becomes `out_black`"] = 0.0,
    white: Annotated[Unit, "what becomes `out_white`"] = 1.0,
    gamma: Annotated[float, Field(gt=0, le=100), "above 1 lightens the middle tones"] = 1.0,
    out_black: Unit = 0.0,
    out_white: Unit = 1.0,
) -> Image:
    """Values stretched from black..white to out_black..out_white; what lies outside is clipped."""
    import numpy as np

    from .pixels import to_image

    if problem := levels_problem(black, white):
        port, text, fix = problem
        raise Invalid(text, fix=fix, port=port)
    span = np.float32(white - black)
    stretched = np.clip((image.numpy() - np.float32(black)) / span, 0, 1) ** np.float32(1 / gamma)
    return to_image(stretched * np.float32(out_white - out_black) + np.float32(out_black))


@node
def invert(image: Image) -> Image:
    """The negative: 1 minus each value."""
    from .pixels import to_image

    return to_image(1 - image.numpy())


@node
def grayscale(image: Image, amount: Annotated[Unit, "0 changes nothing, 1 takes all colour away"] = 1.0) -> Image:
    """A picture without colours: its luma (ITU-R BT.709) in all three channels."""
    from .pixels import luma, mixed, to_image

    return to_image(mixed(image.numpy(), luma(image.numpy()), amount))


@node
def tint(image: Image, color: Color = "#704214", amount: Unit = 1.0) -> Image:
    """A picture in the hue and saturation of one colour, with its own light and dark (the blend mode `color`)."""
    from .blending import color as colored
    from .pixels import color as parse_color
    from .pixels import mixed, to_image

    pixels = image.numpy()
    return to_image(mixed(pixels, colored(pixels, parse_color(color)), amount))


@node
def posterize(image: Image, steps: Annotated[int, Field(ge=2, le=256), "values for each channel"] = 4) -> Image:
    """Each channel rounded to a few evenly spaced values."""
    import numpy as np

    from .pixels import to_image

    return to_image(np.rint(image.numpy() * np.float32(steps - 1)) / np.float32(steps - 1))


@node
def quantize(
    image: Image,
    colors: Annotated[int, Field(ge=2, le=256)] = 16,
    dither: Annotated[bool, "Floyd–Steinberg dithering in place of flat areas"] = False,
) -> Image:
    """A picture in a few colours chosen for it (median cut, on 8-bit values), each picture of a batch for itself."""
    import PIL.Image

    pictures = []
    for picture in image.pil():
        palette = picture.quantize(colors, PIL.Image.Quantize.MEDIANCUT)
        dithering = PIL.Image.Dither.FLOYDSTEINBERG if dither else PIL.Image.Dither.NONE
        pictures.append(picture.quantize(palette=palette, dither=dithering))
    return Image.from_pil(pictures)


@node
def match_color(
    image: Image,
    reference: Annotated[Image, "of any size; one, or one for each picture"],
    method: Annotated[
        Literal["moments", "histogram"], "mean and deviation in CIE Lab (Reinhard 2001), or the whole histogram of each channel"
    ] = "moments",
    amount: Unit = 1.0,
) -> Image:
    """A picture in the colours of another."""
    from .colorspace import match_histograms, match_moments
    from .pixels import mixed, to_image

    if wrong := references_problem(len(reference), len(image)):
        raise Invalid(wrong[0], fix=wrong[1], port="reference")
    match = {"moments": match_moments, "histogram": match_histograms}[method]
    return to_image(mixed(image.numpy(), match(image.numpy(), reference.numpy()), amount))
