"""Pictures on pictures: composite, blend, grids, and pictures made from nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Field, Image, Invalid, Mask, node

from .ports import Color, Side, Unit, check_size

Position = Annotated[int | None, Field(ge=-65_536, le=65_536), "of the picture's upper left corner, may lie outside; null is the middle"]
Corner = Annotated[int, Field(ge=-65_536, le=65_536), "of the text's upper left corner, may lie outside"]
Blend = Literal[
    "normal", "multiply", "screen", "overlay", "darken", "lighten", "color_dodge", "color_burn", "hard_light", "soft_light",
    "difference", "exclusion", "hue", "saturation", "color", "luminosity", "add", "subtract",
]  # fmt: skip


@node
def composite(
    background: Image,
    image: Annotated[Image, "what is laid on the background; it keeps its size, what reaches outside is cut off"],
    mask: Annotated[Mask | None, "where the picture shows, of its size; none shows all of it"] = None,
    x: Position = 0,
    y: Position = 0,
    opacity: Unit = 1.0,
) -> Image:
    """A picture laid over another. Colours are mixed as sRGB values."""
    import numpy as np

    from .pixels import check_batches, check_sides, mixed, to_image

    check_sides(image=image, mask=mask)
    batch = check_batches(background=background, image=image, mask=mask)
    across, from_x = _overlap(background.width, image.width, x)
    down, from_y = _overlap(background.height, image.height, y)
    pixels = np.repeat(background.numpy(), batch // len(background), axis=0)
    cover = mask.numpy()[:, :, from_y, from_x] * np.float32(opacity) if mask is not None else np.float32(opacity)
    pixels[:, :, down, across] = mixed(pixels[:, :, down, across], image.numpy()[:, :, from_y, from_x], cover)
    return to_image(pixels)


def _overlap(below: int, above: int, start: int | None) -> tuple[slice, slice]:
    """Which part of a side of length `below` is under another that starts at `start`, and which part of that one it is."""
    start = (below - above) // 2 if start is None else start
    first, last = (min(max(end, 0), below) for end in (start, start + above))
    return slice(first, last), slice(first - start, last - start)


@node
def blend(
    background: Image,
    image: Annotated[Image, "of the same size"],
    mode: Annotated[Blend, "as in W3C Compositing and Blending; add and subtract are clipped sums and differences"] = "normal",
    opacity: Unit = 1.0,
    mask: Annotated[Mask | None, "where to blend; none blends everywhere"] = None,
) -> Image:
    """Two pictures of one size, mixed by a blend mode, on sRGB values."""
    from .blending import MODES
    from .pixels import check_sizes, mixed, to_image

    check_sizes(background=background, image=image, mask=mask)
    below = background.numpy()
    return to_image(mixed(below, MODES[mode](below, image.numpy()), opacity if mask is None else mask.numpy() * opacity))


@node
def solid_image(width: Side = 512, height: Side = 512, color: Color = "black", batch: Annotated[int, Field(ge=1, le=4096)] = 1) -> Image:
    """A picture of one colour."""
    import numpy as np

    from .pixels import color as parse_color

    check_size(width, height)
    return Image(np.ascontiguousarray(np.broadcast_to(parse_color(color), (batch, 3, height, width))))


@node
def gradient(
    width: Side = 512,
    height: Side = 512,
    start: Color = "black",
    end: Color = "white",
    shape: Literal["linear", "radial"] = "linear",
    degrees: Annotated[float, "of a linear gradient: 0 goes right, 90 goes down"] = 0.0,
) -> Image:
    """A smooth change from one colour to another: from side to side, or from the middle to the corners."""
    import numpy as np

    from .pixels import color as parse_color
    from .pixels import to_image

    check_size(width, height)
    down, across = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    down, across = down - height / 2, across - width / 2
    if shape == "radial":
        along = np.hypot(across, down) / np.hypot(width / 2, height / 2)
    else:
        step_x, step_y = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        along = (across * step_x + down * step_y) / (abs(width * step_x) + abs(height * step_y)) + 0.5
    first, last = parse_color(start, "start"), parse_color(end, "end")
    return to_image(first + (last - first) * along[None, None])


@node
def draw_text(
    image: Image,
    text: str,
    x: Corner = 8,
    y: Corner = 8,
    size: Annotated[int, Field(ge=4, le=2000), "the height of a line in pixels"] = 24,
    color: Color = "white",
) -> Image:
    """A picture with a text on it, in the font that Pillow brings (Latin letters). What does not fit is cut off."""
    from .lettering import cover_of_text
    from .pixels import color as parse_color
    from .pixels import mixed, to_image

    cover = cover_of_text(text, image.width, image.height, x, y, size)
    return to_image(mixed(image.numpy(), parse_color(color), cover))


@node
def image_grid(
    images: Annotated[list[Image], "the pictures, row by row; a batch counts as its pictures"],
    columns: Annotated[int | None, Field(ge=1, le=1000), "none makes the grid about square"] = None,
    gap: Annotated[int, Field(ge=0, le=1000), "pixels between pictures and around them"] = 8,
    background: Color = "white",
    labels: Annotated[list[str] | None, "a line under each picture"] = None,
    label_size: Annotated[int, Field(ge=4, le=500), "the height of a label in pixels"] = 16,
) -> Image:
    """Pictures side by side in a grid, as one picture. Smaller ones stand in the middle of their cells."""
    from .grids import Grid, lay_out
    from .pixels import color as parse_color
    from .pixels import to_image

    pictures = [pixels for image in images for pixels in image.numpy()]
    if not pictures:
        raise Invalid("there is no picture for the grid", fix="give at least one", port="images")
    if labels is not None and len(labels) != len(pictures):
        raise Invalid(f"there are {len(pictures)} pictures and {len(labels)} labels", fix="give one label for each picture", port="labels")
    grid = Grid.of([picture.shape[1:] for picture in pictures], columns, gap, label_size if labels is not None else 0)
    check_size(grid.width, grid.height, "images")
    return to_image(lay_out(pictures, grid, parse_color(background, "background"), labels or []))
