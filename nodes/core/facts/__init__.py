"""What is known of pictures before anything is computed: `width`, `height` (pixels) and `batch` (how many pictures).

These are the facts of the pack's nodes. The modules beside it have the rules that the nodes themselves follow, too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nodegraph.facts import Facts, Mismatch, differ

from .colors import color_problem
from .rules import NO_SIZE, batches_problem, box_problem, choice_problem, levels_problem, references_problem, window_problem
from .saving import NO_ALPHA, ending, format_problem, name_problem
from .sizes import fitted_size, rotated_size, scaled_size, size_of_pixels, size_problem
from .templates import NoTemplate, filled, filled_field, template_fields

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


def choose(choice: Facts, **options: Facts) -> Facts | Mismatch:
    """What is known of the chosen input; of all, as long as it is open which one that is."""
    if (known := choice.get("value")) is not None:
        problem = choice_problem(known, options)
        return Mismatch("choice", *problem) if problem else options[known]
    first, *others = options.values() or [Facts()]
    return Facts(**{name: fact for name, fact in first.items() if all(other.get(name) == fact for other in others)})


def format_text(template: Facts, **values: Facts) -> Facts | Mismatch:
    form = template.get("value")
    try:
        for _, name, spelled in template_fields(form) if form is not None else ():
            if name in values and "value" in values[name]:
                filled_field(name, spelled, {name: values[name]["value"]})
    except NoTemplate as error:
        return Mismatch("template", str(error), error.fix)
    return Facts()


# --- pictures: `value` is a literal, a picture has width, height and batch ------------------------------------------------

SIZES = ("width", "height", "batch")


def _picture(like: Facts, **changes: Any) -> Facts:
    return Facts(**{**{name: like.get(name) for name in SIZES}, **changes})


def _sized(size: tuple[Any, ...] | None, batch: Any) -> Facts:
    return Facts(width=size[0], height=size[1], batch=batch) if size else Facts(batch=batch)


def _made(port: str, size: tuple[Any, ...] | None, batch: Any) -> Facts | Mismatch:
    """A picture of a size that follows from what the port is given."""
    wrong = size_problem(*size) if size else None
    return Mismatch(port, *wrong) if wrong else _sized(size, batch)


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


adjust_color = invert = grayscale = posterize = quantize = _like_image
blur = box_blur = sharpen = flip = image_to_mask = threshold_mask = _like_image
flip_mask = grow_mask = feather_mask = invert_mask = binarize_mask = mask_to_image = _like_mask


def _miscolored(**colors: Facts) -> Mismatch | None:
    """Colours that are written, and none, by their ports."""
    told = ((port, color_problem(color["value"])) for port, color in colors.items() if "value" in color)
    return next((Mismatch(port, *wrong) for port, wrong in told if wrong), None)


def _colored(image: Facts, color: Facts, **rest: Facts) -> Facts | Mismatch:
    return _miscolored(color=color) or _picture(image)


tint = mask_from_color = draw_text = _colored


def image_grid(background: Facts, **rest: Facts) -> Facts | Mismatch:
    return _miscolored(background=background) or Facts(batch=1)


def levels(image: Facts, black: Facts, white: Facts, **rest: Facts) -> Facts | Mismatch:
    ends = _literals(black, white)
    return Mismatch(*wrong) if ends and (wrong := levels_problem(*ends)) else _picture(image)


def match_color(image: Facts, reference: Facts, **rest: Facts) -> Facts | Mismatch:
    batches = _all(reference, "batch"), _all(image, "batch")
    wrong = references_problem(*batches[0], *batches[1]) if batches[0] and batches[1] else None
    return Mismatch("reference", *wrong) if wrong else _picture(image)


def gradient(width: Facts, height: Facts, start: Facts, end: Facts, **rest: Facts) -> Facts | Mismatch:
    return _miscolored(start=start, end=end) or _made("width", _literals(width, height), 1)


def _shape(width: Facts, height: Facts, left: Facts, top: Facts, right: Facts, bottom: Facts) -> Facts | Mismatch:
    box = _literals(left, top, right, bottom)
    return Mismatch(*wrong) if box and (wrong := box_problem(*box)) else _made("width", _literals(width, height), 1)


rectangle_mask = ellipse_mask = _shape


def solid_mask(width: Facts, height: Facts, batch: Facts, **rest: Facts) -> Facts | Mismatch:
    return _made("width", _literals(width, height), batch.get("value"))


def solid_image(width: Facts, height: Facts, batch: Facts, color: Facts) -> Facts | Mismatch:
    return _miscolored(color=color) or solid_mask(width, height, batch)


def load_image() -> dict[str, Facts]:
    return {"image": Facts(batch=1), "mask": Facts(batch=1)}


def load_mask() -> Facts:
    return Facts(batch=1)


def image_size(image: Facts) -> dict[str, Facts]:
    return {name: Facts(value=image.get(name)) for name in SIZES}


def repeat_batch(image: Facts, count: Facts) -> Facts:
    known = _all(image, "batch"), _literals(count)
    return _picture(image, batch=known[0][0] * known[1][0] if known[0] and known[1] else None)


def _resized(picture: Facts, width: Facts, height: Facts, fit: Facts) -> Facts | Mismatch:
    if width.null and height.null:
        return Mismatch("width", *NO_SIZE)
    size, sides, how = _all(picture, "width", "height"), (width.get("value"), height.get("value")), fit.get("value")
    if how is None or any(side is None and not facts.null for side, facts in zip(sides, (width, height), strict=True)):
        return _sized(None, picture.get("batch"))
    if how != "contain" and None not in sides:
        return _made("width", sides, picture.get("batch"))
    return _made("width", fitted_size(*size, *sides, how) if size else None, picture.get("batch"))


def resize(image: Facts, width: Facts, height: Facts, fit: Facts) -> Facts | Mismatch:
    return _resized(image, width, height, fit)


def resize_mask(mask: Facts, width: Facts, height: Facts, fit: Facts) -> Facts | Mismatch:
    return _resized(mask, width, height, fit)


def scale(image: Facts, factor: Facts) -> Facts | Mismatch:
    size, by = _all(image, "width", "height"), _literals(factor)
    return _made("factor", scaled_size(*size, *by) if size and by else None, image.get("batch"))


def scale_to_pixels(image: Facts, megapixels: Facts, multiple: Facts) -> Facts | Mismatch:
    size, asked = _all(image, "width", "height"), _literals(megapixels, multiple)
    return _made("megapixels", size_of_pixels(*size, *asked) if size and asked else None, image.get("batch"))


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


def pad(image: Facts, left: Facts, top: Facts, right: Facts, bottom: Facts, mode: Facts, color: Facts) -> dict[str, Facts] | Mismatch:
    if mode.get("value") == "constant" and (wrong := _miscolored(color=color)):
        return wrong
    size, margins = _all(image, "width", "height"), _literals(left, top, right, bottom)
    new = (size[0] + margins[0] + margins[2], size[1] + margins[1] + margins[3]) if size and margins else None
    made = _made("left", new, image.get("batch"))
    return made if isinstance(made, Mismatch) else dict.fromkeys(("image", "mask"), made)


def rotate(image: Facts, degrees: Facts, expand: Facts, color: Facts, **rest: Facts) -> dict[str, Facts] | Mismatch:
    if wrong := _miscolored(color=color):
        return wrong
    size, asked = _all(image, "width", "height"), _literals(degrees, expand)
    if size and asked and asked[1]:
        size = rotated_size(size[0], size[1], asked[0])
    made = _made("image", size if asked else None, image.get("batch"))
    return made if isinstance(made, Mismatch) else dict.fromkeys(("image", "mask"), made)


def _mismatch(first: str, one: Facts, second: str, other: Facts) -> Mismatch | None:
    """Two pictures that must have one size but are known to have not."""
    if not any(differ(one.get(side), other.get(side)) for side in ("width", "height")):
        return None
    sizes = [f"{picture.get('width', '?')}×{picture.get('height', '?')}" for picture in (other, one)]
    return Mismatch(
        second, f"{second!r} has {sizes[0]} pixels, but {first!r} has {sizes[1]}", f"make it {sizes[1]}, with resize or resize_mask"
    )


def _batches(masks: Collection[str] = (), **pictures: Facts) -> Mismatch | None:
    """Pictures whose batches are all known, and do not go together."""
    given = {port: facts.get("batch") for port, facts in pictures.items() if not facts.null}
    wrong = None if None in given.values() else batches_problem(given, masks)
    return Mismatch(*wrong) if wrong else None


def _batch(*pictures: Facts) -> Any:
    """The batch of what is computed from several pictures, one of which may be for all."""
    known = [picture.get("batch", 0) for picture in pictures]
    return max(known) if all(known) else None


def composite(background: Facts, image: Facts, mask: Facts, **rest: Facts) -> Facts | Mismatch:
    wrong = _mismatch("image", image, "mask", mask) or _batches(["mask"], background=background, image=image, mask=mask)
    return wrong or _picture(background, batch=_batch(background, image))


def blend(background: Facts, image: Facts, mask: Facts, **rest: Facts) -> Facts | Mismatch:
    wrong = _mismatch("background", background, "image", image) or _mismatch("background", background, "mask", mask)
    wrong = wrong or _batches(["mask"], background=background, image=image, mask=mask)
    return wrong or _picture(background, batch=_batch(background, image))


def crop_to_mask(image: Facts, mask: Facts, **rest: Facts) -> dict[str, Facts] | Mismatch:
    wrong = _mismatch("image", image, "mask", mask) or _batches(["mask"], image=image, mask=mask)
    return wrong or {"image": Facts(batch=image.get("batch"))}


def combine_masks(a: Facts, b: Facts, **rest: Facts) -> Facts | Mismatch:
    return _mismatch("a", a, "b", b) or _batches(a=a, b=b) or _picture(a, batch=_batch(a, b))


def _alike(image: Facts, reference: Facts) -> Mismatch | None:
    return _mismatch("image", image, "reference", reference) or _batches(image=image, reference=reference)


def _compared(image: Facts, reference: Facts, **rest: Facts) -> Facts | Mismatch:
    return _alike(image, reference) or Facts()


mse = psnr = _compared


def ssim(image: Facts, reference: Facts) -> Facts | Mismatch:
    size = _all(image, "width", "height")
    wrong = window_problem(*size) if size else None
    return _alike(image, reference) or (Mismatch("image", *wrong) if wrong else Facts())


def difference_image(image: Facts, reference: Facts, **rest: Facts) -> Facts | Mismatch:
    return _alike(image, reference) or _picture(image, batch=_batch(image, reference))


SAVED = {"workflow": "x", "node": "x", "index": 0, "key8": "00000000", "n": 1}
"""The least that the fields of a picture's name can stand for."""


def save_image(image: Facts, name: Facts, format: Facts, mask: Facts, **rest: Facts) -> Facts | Mismatch:
    wrong = _mismatch("image", image, "mask", mask) or _batches(["mask"], image=image, mask=mask)
    kind, size, asked = format.get("value"), _all(image, "width", "height"), name.get("value")
    if mask and kind == "jpeg":  # a mask of which nothing is known may be null
        wrong = wrong or Mismatch("mask", *NO_ALPHA)
    if size and kind and (problem := format_problem(*size, kind)):
        wrong = wrong or Mismatch("format", *problem)
    try:
        problem = name_problem(filled(asked, SAVED), ending(kind or "png")) if asked is not None else None
    except NoTemplate as error:
        problem = str(error), error.fix
    return wrong or (Mismatch("name", *problem) if problem else Facts())
