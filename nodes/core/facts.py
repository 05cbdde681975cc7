"""What is known of pictures before anything is computed: `width`, `height` (pixels) and `batch` (how many pictures).

The sizes that nodes make of other sizes are worked out here, and used by the nodes themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from string import Formatter
from typing import Any

from nodegraph.facts import Facts, Mismatch, differ

MAX_SIDE = 65_536
"""The longest side of a picture, in pixels."""
MAX_PIXELS = 178_956_970
"""The most pixels one picture may have: where Pillow, too, takes a file for a decompression bomb (2 GB as float32 RGB)."""

# --- sizes ---------------------------------------------------------------------------


def size_problem(width: int, height: int) -> tuple[str, str] | None:
    """Why there is no picture of a size, as (text, fix); None if there is: one that is empty, or larger than MAX_SIDE and MAX_PIXELS."""
    if width < 1 or height < 1:
        return f"the picture would have {width}×{height} pixels", "use at least 1×1"
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return f"a picture of {width}×{height} pixels is too large", f"use at most {MAX_PIXELS:,} pixels and {MAX_SIDE:,} a side"
    return None


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


# --- rules that nodes share -------------------------------------------------------------


def batches_problem(batches: Mapping[str, int], masks: Collection[str] = ()) -> tuple[str, str, str] | None:
    """Why pictures of these batches, by their ports, do not go together, as (port, text, fix); None if they do.

    One picture goes with every batch. Pictures set it, if there are any, and masks follow.
    """
    batch = max([count for port, count in batches.items() if port not in masks] or batches.values())
    for port, count in batches.items():
        if count not in (1, batch):
            fix = f"give {f'1 or {batch}' if batch > 1 else 'one'}, with repeat_batch or unbatch say"
            return port, f"{port!r} is a batch of {count}, but the others are a batch of {batch}", fix
    return None


NO_SIZE = ("there is neither a width nor a height", "give at least one of them")
"""What is wrong with a resizing to no size, as (text, fix)."""


def references_problem(references: int, pictures: int) -> tuple[str, str] | None:
    """Why so many references cannot go with so many pictures, as (text, fix); None if they can."""
    if references in (1, pictures):
        return None
    return f"there are {pictures} pictures and {references} references", "give one reference, or one for each picture"


WINDOW = 11
"""The side of the window of `ssim`, in pixels."""


def window_problem(width: int, height: int) -> tuple[str, str] | None:
    """Why pictures of a size are too small for `ssim`, as (text, fix); None if they are not."""
    if min(width, height) >= WINDOW:
        return None
    text = f"the pictures have {width}×{height} pixels, less than the window of {WINDOW}×{WINDOW}"
    return text, "compare larger pictures, or use psnr"


def box_problem(left: int, top: int, right: int, bottom: int) -> tuple[str, str, str] | None:
    """Why there is nothing in a box, as (port, text, fix); None if there is something."""
    for port, first, last in (("right", left, right), ("bottom", top, bottom)):
        if last <= first:
            return port, f"{port} {last} does not lie behind {first}", f"use at least {first + 1}"
    return None


def levels_problem(black: float, white: float) -> tuple[str, str, str] | None:
    """Why values cannot be stretched from black to white, as (port, text, fix); None if they can."""
    if white - black > 2.0**-150:  # less is 0 in the precision of pixels
        return None
    return "white", f"white {white:g} does not lie above black {black:g}", "use a black below white"


_NAMED = """
    aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue blueviolet brown burlywood cadetblue
    chartreuse chocolate coral cornflowerblue cornsilk crimson cyan darkblue darkcyan darkgoldenrod darkgray darkgreen darkgrey
    darkkhaki darkmagenta darkolivegreen darkorange darkorchid darkred darksalmon darkseagreen darkslateblue darkslategray
    darkslategrey darkturquoise darkviolet deeppink deepskyblue dimgray dimgrey dodgerblue firebrick floralwhite forestgreen fuchsia
    gainsboro ghostwhite gold goldenrod gray green greenyellow grey honeydew hotpink indianred indigo ivory khaki lavender
    lavenderblush lawngreen lemonchiffon lightblue lightcoral lightcyan lightgoldenrodyellow lightgray lightgreen lightgrey lightpink
    lightsalmon lightseagreen lightskyblue lightslategray lightslategrey lightsteelblue lightyellow lime limegreen linen magenta
    maroon mediumaquamarine mediumblue mediumorchid mediumpurple mediumseagreen mediumslateblue mediumspringgreen mediumturquoise
    mediumvioletred midnightblue mintcream mistyrose moccasin navajowhite navy oldlace olive olivedrab orange orangered orchid
    palegoldenrod palegreen paleturquoise palevioletred papayawhip peachpuff peru pink plum powderblue purple rebeccapurple red
    rosybrown royalblue saddlebrown salmon sandybrown seagreen seashell sienna silver skyblue slateblue slategray slategrey snow
    springgreen steelblue tan teal thistle tomato turquoise violet wheat white whitesmoke yellow yellowgreen
"""
COLORS = frozenset(_NAMED.split())
"""The names that CSS has for colours."""


def color_problem(text: str) -> tuple[str, str] | None:
    """Why a text is no opaque colour, as (text, fix); None if it is one, or is written with a function such as rgb(...)."""
    lower = text.lower()
    if "(" in text or lower in COLORS or re.fullmatch("#([0-9a-f]{3}){1,2}\n?", lower):  # as Pillow reads them
        return None
    return no_color(text)


def no_color(text: str) -> tuple[str, str]:
    """What is wrong with a text that is no opaque colour."""
    return f"{text!r} is no opaque colour", "write it like '#ff8800' or 'orange'"


NO_ALPHA = ("a jpeg has no alpha", "use png or webp, or lay the picture over a background with composite")
"""What is wrong with a mask for a jpeg, as (text, fix)."""
LONGEST = {"jpeg": 65_500, "webp": 16_383}
"""The longest side that libjpeg and libwebp write, in pixels."""


def format_problem(width: int, height: int, format: str) -> tuple[str, str] | None:
    """Why a picture of a size cannot be saved in a format, as (text, fix); None if it can."""
    if max(height, width) <= LONGEST.get(format, max(height, width)):
        return None
    return f"a {format} of {width}×{height} pixels cannot be", f"use png, or at most {LONGEST[format]:,} a side"


def ending(format: str) -> str:
    """Of the name of a file in a format."""
    return "jpg" if format == "jpeg" else format


def name_problem(stem: str, suffix: str) -> tuple[str, str] | None:
    """Why a text and an ending are no relative name for a file on any system, as (text, fix); None if they are."""
    name = f"{stem}.{suffix}"
    if re.search(r'[\0-\x1f<>:"|?*\\]', name) or any(len(part.encode()) > 200 for part in PurePath(name).parts):
        return f"{name!r} cannot be a file's name everywhere", 'use up to 200 bytes without < > : " | ? * \\'
    return outside(name) if PurePath(name).is_absolute() or not stem.rpartition("/")[2].strip(" .") else None


def outside(name: str) -> tuple[str, str]:
    """What is wrong with a name that leads out of a folder."""
    return f"{name!r} is no name for a file below the output folder", "use a relative name without '..'"


# --- templates -----------------------------------------------------------------------

MAX_WIDTH = 1000
"""The widest a field may ask to be, so that a short template cannot ask for gigabytes."""


class NoTemplate(ValueError):
    """A text is no template, or a field of it cannot be filled; `fix` says what would do."""

    def __init__(self, text: str, fix: str):
        super().__init__(text)
        self.fix = fix


def template_fields(template: str) -> list[tuple[str, str | None, str]]:
    """(text before the field, its name or None at the end, its format) in order. Raises NoTemplate."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise NoTemplate(f"{template!r} is no template: {error}", "write {{ and }} for braces themselves") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or conversion or "{" in (form or "")):
            raise NoTemplate(f"the template has a field {name!r}", "a field is {name} or {name:format}")
    return [(before, name, form or "") for before, name, form, _ in parts]


def filled(template: str, values: Mapping[str, object]) -> str:
    """The template with its fields replaced. Raises NoTemplate, also for a field without a value and a format that does not fit."""
    parts = template_fields(template)
    return "".join(before + ("" if name is None else filled_field(name, form, values)) for before, name, form in parts)


def filled_field(name: str, form: str, values: Mapping[str, object]) -> str:
    if name not in values:
        known = ", ".join(f"{{{known}}}" for known in values) or "none"
        raise NoTemplate(f"the template has a field {{{name}}} without a value", f"known fields: {known}")
    if any(len(digits) > 9 or int(digits) > MAX_WIDTH for digits in re.findall(r"\d+", form)):
        raise NoTemplate(f"the format {form!r} of {{{name}}} is too wide", f"use at most {MAX_WIDTH}")
    try:
        text = format(values[name], form)
        text.encode()  # `c` spells half a character for some numbers, which no file, tokenizer or terminal takes
        return text
    except (ValueError, TypeError, OverflowError) as error:
        raise NoTemplate(f"{{{name}:{form}}} does not fit {values[name]!r}: {error}", "see Python's format mini-language") from None


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
