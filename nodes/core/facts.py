"""What is known of pictures before anything is computed: `width`, `height` (pixels) and `batch` (how many pictures).

The sizes that nodes make of other sizes are worked out here, and used by the nodes themselves.
"""

from __future__ import annotations

import math
from typing import Any

from nodegraph.facts import Facts, Mismatch, differ

# --- sizes ---------------------------------------------------------------------------


def fitted_size(columns: int, rows: int, width: int | None, height: int | None, fit: str) -> tuple[int, int] | None:
    """The size that `resize` gives a picture of columns × rows; None when neither side is asked for."""
    if width is None and height is None:
        return None
    if width is None or height is None:
        factor = width / columns if width is not None else (height or 0) / rows
        scaled = scaled_size(columns, rows, factor)
        return (width, scaled[1]) if width is not None else (scaled[0], height or 0)
    if fit == "contain":
        return scaled_size(columns, rows, min(width / columns, height / rows))
    return width, height


def scaled_size(columns: int, rows: int, factor: float) -> tuple[int, int]:
    """Both sides by a factor, rounded, at least 1."""
    return max(round(columns * factor), 1), max(round(rows * factor), 1)


def size_of_pixels(columns: int, rows: int, megapixels: float, multiple: int) -> tuple[int, int]:
    """The multiples nearest to the sides that keep the proportions and have this many pixels."""
    factor = math.sqrt(megapixels * 1e6 / (columns * rows))
    return max(round(columns * factor / multiple), 1) * multiple, max(round(rows * factor / multiple), 1) * multiple


def rotated_size(columns: int, rows: int, degrees: float) -> tuple[int, int]:
    """The smallest upright rectangle around a turned one."""
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    around = columns * cosine + rows * sine, rows * cosine + columns * sine
    return math.ceil(around[0] - 1e-6), math.ceil(around[1] - 1e-6)


# --- values and control --------------------------------------------------------------


def _same_value(value: Facts) -> Facts:
    return value


integer = number = boolean = text = _same_value


def _value(value: Facts, **rest: Facts) -> Facts:
    return value


skip_if = require = _value


def switch(condition: Facts, on_true: Facts, on_false: Facts) -> Facts:
    """What is known of the chosen input; of both, as long as it is open which one that is."""
    if (known := condition.get("value")) is not None:
        return on_true if known else on_false
    return Facts(**{name: fact for name, fact in on_true.items() if on_false.get(name) == fact})


# --- pictures: `value` is a literal, a picture has width, height and batch ------------------------------------------------

SIZES = ("width", "height", "batch")


def _picture(like: Facts, **changes: Any) -> Facts:
    return Facts(**{**{name: like.get(name) for name in SIZES}, **changes})


def _sized(size: tuple[Any, ...] | None, batch: Any) -> Facts:
    return Facts(width=size[0], height=size[1], batch=batch) if size else Facts(batch=batch)


def _all(facts: Facts, *names: str) -> tuple[Any, ...] | None:
    found = tuple(facts.get(name) for name in names)
    return None if None in found else found


def _literals(*ports: Facts) -> tuple[Any, ...] | None:
    found = tuple(port.get("value") for port in ports)
    return None if None in found else found


def _like_image(image: Facts, **rest: Facts) -> Facts:
    return _picture(image)


def _like_mask(mask: Facts, **rest: Facts) -> Facts:
    return _picture(mask)


adjust_color = levels = invert = grayscale = tint = posterize = quantize = match_color = _like_image
blur = box_blur = sharpen = flip = image_to_mask = threshold_mask = mask_from_color = draw_text = _like_image
flip_mask = grow_mask = feather_mask = invert_mask = binarize_mask = mask_to_image = _like_mask


def _made(width: Facts, height: Facts, **rest: Facts) -> Facts:
    return _sized(_literals(width, height), 1)


gradient = rectangle_mask = ellipse_mask = _made


def solid_image(width: Facts, height: Facts, batch: Facts, **rest: Facts) -> Facts:
    return _sized(_literals(width, height), batch.get("value"))


solid_mask = solid_image


def image_size(image: Facts) -> dict[str, Facts]:
    return {name: Facts(value=image.get(name)) for name in SIZES}


def repeat_batch(image: Facts, count: Facts) -> Facts:
    known = _all(image, "batch"), _literals(count)
    return _picture(image, batch=known[0][0] * known[1][0] if known[0] and known[1] else None)


def _resized(picture: Facts, width: Facts, height: Facts, fit: Facts) -> Facts:
    asked, size = _literals(width, height, fit), _all(picture, "width", "height")
    if asked and asked[2] != "contain":
        return _sized(asked[:2], picture.get("batch"))
    return _sized(fitted_size(*size, *asked) if asked and size else None, picture.get("batch"))


def resize(image: Facts, width: Facts, height: Facts, fit: Facts) -> Facts:
    return _resized(image, width, height, fit)


def resize_mask(mask: Facts, width: Facts, height: Facts, fit: Facts) -> Facts:
    return _resized(mask, width, height, fit)


def scale(image: Facts, factor: Facts) -> Facts:
    size, by = _all(image, "width", "height"), _literals(factor)
    return _sized(scaled_size(*size, *by) if size and by else None, image.get("batch"))


def scale_to_pixels(image: Facts, megapixels: Facts, multiple: Facts) -> Facts:
    size, asked = _all(image, "width", "height"), _literals(megapixels, multiple)
    return _sized(size_of_pixels(*size, *asked) if size and asked else None, image.get("batch"))


def _cropped(picture: Facts, x: Facts, y: Facts, width: Facts, height: Facts) -> Facts | Mismatch:
    for port, start, side, length in (("x", x, "width", width), ("y", y, "height", height)):
        part, whole = _literals(start, length), picture.get(side)
        if part and whole is not None and sum(part) > whole:
            text = f"{port} {part[0]} and {side} {part[1]} reach beyond the picture's {side} of {whole}"
            return Mismatch(port, text, f"use {port} + {side} of at most {whole}")
    return _sized(_literals(width, height), picture.get("batch"))


def crop(image: Facts, x: Facts, y: Facts, width: Facts, height: Facts) -> Facts | Mismatch:
    return _cropped(image, x, y, width, height)


def crop_mask(mask: Facts, x: Facts, y: Facts, width: Facts, height: Facts) -> Facts | Mismatch:
    return _cropped(mask, x, y, width, height)


def crop_to(image: Facts, width: Facts, height: Facts, **rest: Facts) -> Facts | Mismatch:
    for port, asked in (("width", width), ("height", height)):
        if _all(asked, "value") and _all(image, port) and asked["value"] > image[port]:
            return Mismatch(port, f"{port} {asked['value']} is more than the picture's {image[port]}", "use resize with fit 'cover'")
    return _sized(_literals(width, height), image.get("batch"))


def pad(image: Facts, left: Facts, top: Facts, right: Facts, bottom: Facts, **rest: Facts) -> dict[str, Facts]:
    size, margins = _all(image, "width", "height"), _literals(left, top, right, bottom)
    new = (size[0] + margins[0] + margins[2], size[1] + margins[1] + margins[3]) if size and margins else None
    return dict.fromkeys(("image", "mask"), _sized(new, image.get("batch")))


def rotate(image: Facts, degrees: Facts, expand: Facts, **rest: Facts) -> dict[str, Facts]:
    size, asked = _all(image, "width", "height"), _literals(degrees, expand)
    if size and asked and asked[1]:
        size = rotated_size(size[0], size[1], asked[0])
    return dict.fromkeys(("image", "mask"), _sized(size if asked else None, image.get("batch")))


def _mismatch(first: str, one: Facts, second: str, other: Facts) -> Mismatch | None:
    """Two pictures that must have one size but are known to have not."""
    if not any(differ(one.get(side), other.get(side)) for side in ("width", "height")):
        return None
    sizes = [f"{picture.get('width', '?')}×{picture.get('height', '?')}" for picture in (other, one)]
    return Mismatch(
        second, f"{second!r} has {sizes[0]} pixels, but {first!r} has {sizes[1]}", f"make it {sizes[1]}, with resize or resize_mask"
    )


def _batch(*pictures: Facts) -> Any:
    """The batch of what is computed from several pictures, one of which may be for all."""
    known = [picture.get("batch", 0) for picture in pictures]
    return max(known) if all(known) else None


def composite(background: Facts, image: Facts, mask: Facts, **rest: Facts) -> Facts | Mismatch:
    return _mismatch("image", image, "mask", mask) or _picture(background, batch=_batch(background, image))


def blend(background: Facts, image: Facts, mask: Facts, **rest: Facts) -> Facts | Mismatch:
    wrong = _mismatch("background", background, "image", image) or _mismatch("background", background, "mask", mask)
    return wrong or _picture(background, batch=_batch(background, image))


def crop_to_mask(image: Facts, mask: Facts, **rest: Facts) -> dict[str, Facts] | Mismatch:
    return _mismatch("image", image, "mask", mask) or {"image": Facts(batch=image.get("batch"))}


def combine_masks(a: Facts, b: Facts, **rest: Facts) -> Facts | Mismatch:
    return _mismatch("a", a, "b", b) or _picture(a, batch=_batch(a, b))


def _compared(image: Facts, reference: Facts, **rest: Facts) -> Facts | Mismatch:
    return _mismatch("image", image, "reference", reference) or Facts()


mse = psnr = ssim = _compared


def difference_image(image: Facts, reference: Facts, **rest: Facts) -> Facts | Mismatch:
    return _mismatch("image", image, "reference", reference) or _picture(image, batch=_batch(image, reference))
