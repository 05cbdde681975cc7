"""The world that the built-in models learn: captioned pictures of coloured shapes.

A picture is a square RGB image of one or two flat shapes on a flat background.
Positions and radii are fractions of the image side, x to the right and y down.
Everything random is drawn from a `numpy.random.Generator` that the caller seeds,
so the same seed gives the same captions and the same pixels.

The chain is: `draw_caption` (what is said) -> `lay_out` (where it lies exactly)
-> `render` (pixels), with `to_text` and `parse` between a caption and its words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

PICTURE_SIZE = 32
"""Side of a picture in pixels."""

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 50),
    "purple": (140, 60, 180),
    "orange": (245, 140, 30),
    "black": (20, 20, 20),
}
BACKGROUNDS = {
    "white": (250, 250, 250),
    "gray": (150, 150, 150),
    "pink": (250, 190, 210),
    "cyan": (160, 230, 235),
}
SHAPES = ("circle", "square", "triangle", "cross")

RADII = {"large": (0.23, 0.27), "small": (0.11, 0.14)}
"""Size word -> least and greatest radius."""
PAIR_RADII = (0.13, 0.16)
"""Least and greatest radius of a shape that shares its picture."""

PLACES = {
    "in the center": (0.50, 0.50),
    "at the top": (0.50, 0.28),
    "at the bottom": (0.50, 0.72),
    "on the left": (0.28, 0.50),
    "on the right": (0.72, 0.50),
}
"""Place words -> the point (x, y) they stand for."""
PLACE_JITTER = 0.03
"""Greatest distance, per axis, of a shape from the point of its place."""
OPPOSITES = (("on the left", "on the right"), ("at the top", "at the bottom"))
"""The places that two shapes of one picture take; either may be named first."""

SYNONYMS = {"large": "big", "small": "little", "gray": "grey", "center": "middle"}
OPENINGS = ("a picture of ", "an image of ", "a drawing of ")


@dataclass(frozen=True)
class Thing:
    """A shape as a caption names it. None: the caption does not say."""

    shape: str
    colour: str
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Caption:
    """One or two things and the background, None where it is not said."""

    things: tuple[Thing, ...]
    background: str | None = None


@dataclass(frozen=True)
class Figure:
    """A shape as it lies in a picture: centre (x, y) and radius, fractions of the side."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """All that `render` needs."""

    figures: tuple[Figure, ...]
    background: str


# --- captions -----------------------------------------------------------------------


def draw_caption(rng: np.random.Generator, things: int = 1) -> Caption:
    """A complete caption of `things` (1 or 2) shapes, uniform over the grammar."""
    if things == 1:
        thing = Thing(_pick(rng, SHAPES), _pick(rng, COLOURS), _pick(rng, RADII), _pick(rng, PLACES))
        return Caption((thing,), _pick(rng, BACKGROUNDS))
    if things == 2:
        places = _pick(rng, OPPOSITES)[:: _pick(rng, (1, -1))]
        colours = rng.permutation(list(COLOURS))[:2]
        pair = tuple(Thing(_pick(rng, SHAPES), str(colour), None, place) for colour, place in zip(colours, places, strict=True))
        return Caption(pair, _pick(rng, BACKGROUNDS))
    raise ValueError(f"things: expected 1 or 2, got {things!r}")


def draw_captions(count: int, seed: int, things: int = 1) -> list[Caption]:
    """`count` complete captions of `things` shapes; the same seed gives the same list."""
    rng = np.random.default_rng([seed, things])
    return [draw_caption(rng, things) for _ in range(count)]


def to_text(caption: Caption) -> str:
    """The caption in words: "a large red circle on the left on a white background"."""
    phrases = " and ".join(_thing_text(thing) for thing in caption.things)
    return phrases + (f" on a {caption.background} background" if caption.background else "")


def parse(text: str) -> Caption:
    """The caption that `to_text` puts into these words.

    Raises ValueError for words outside that grammar; a missing size, place or
    background is allowed.
    """
    match = _CAPTION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"caption: expected words such as {_EXAMPLE!r}, got {text!r}")
    things = tuple(
        Thing(found["shape"], found["colour"], found["size"], found["place"])
        for found in (_THING.fullmatch(part) for part in match["things"].split(" and "))
    )
    return Caption(things, match["background"])


def loosen(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption with some of size, place and background left unsaid.

    Two things keep their places, which tell them apart.
    """
    keeps = rng.random(3) < 0.5
    background = caption.background if keeps[0] else None
    if len(caption.things) == 2:
        return replace(caption, background=background)
    (thing,) = caption.things
    thing = replace(thing, size=thing.size if keeps[1] else None, place=thing.place if keeps[2] else None)
    return Caption((thing,), background)


def reword(text: str, rng: np.random.Generator) -> str:
    """The caption's words as another person may write them; the meaning stays."""
    for word, synonym in SYNONYMS.items():
        if rng.random() < 0.3:
            text = re.sub(rf"\b{word}\b", synonym, text)
    style = rng.integers(3)
    if style == 0:
        return _pick(rng, OPENINGS) + text
    if style == 1:
        return re.sub(r" on a (\w+) background$", r", \1 background", re.sub(r"^an? ", "", text))
    return text


def contradict(caption: Caption, rng: np.random.Generator) -> Caption:
    """A caption that differs from a complete one in exactly one attribute of one thing,
    or in the background, or, for two things, in which thing has which place."""
    if len(caption.things) == 2:
        return _contradict_pair(caption, rng)
    (thing,) = caption.things
    attribute = _pick(rng, ("size", "shape", "colour", "place", "background"))
    if attribute == "background":
        return replace(caption, background=_another(rng, BACKGROUNDS, caption.background))
    choices = {"size": RADII, "shape": SHAPES, "colour": COLOURS, "place": PLACES}[attribute]
    other = _another(rng, choices, getattr(thing, attribute))
    return replace(caption, things=(replace(thing, **{attribute: other}),))


def _contradict_pair(caption: Caption, rng: np.random.Generator) -> Caption:
    first, second = caption.things
    attribute = _pick(rng, ("shape", "colour", "order", "background"))
    if attribute == "background":
        return replace(caption, background=_another(rng, BACKGROUNDS, caption.background))
    if attribute == "order":
        swapped = (replace(first, place=second.place), replace(second, place=first.place))
        return replace(caption, things=swapped)
    if attribute == "shape":
        first = replace(first, shape=_another(rng, SHAPES, first.shape))
    else:
        unused = [colour for colour in COLOURS if colour != second.colour]
        first = replace(first, colour=_another(rng, unused, first.colour))
    return replace(caption, things=(first, second))


def _thing_text(thing: Thing) -> str:
    words = [word for word in (thing.size, thing.colour, thing.shape, thing.place) if word]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def _pick(rng: np.random.Generator, options):
    options = tuple(options)
    return options[rng.integers(len(options))]


def _another(rng: np.random.Generator, options, current):
    return _pick(rng, [option for option in options if option != current])


def _thing_pattern(named: bool) -> str:
    def group(name: str, options) -> str:
        return f"(?{'P<' + name + '>' if named else ':'}{'|'.join(options)})"

    words = f"{group('colour', COLOURS)} {group('shape', SHAPES)}"
    return f"(?:an? )?(?:{group('size', RADII)} )?{words}(?: {group('place', PLACES)})?"


_EXAMPLE = "a large red circle on the left on a white background"
_THING = re.compile(_thing_pattern(named=True))
_ANY_THING = _thing_pattern(named=False)
_CAPTION = re.compile(rf"(?P<things>{_ANY_THING}(?: and {_ANY_THING})?)(?: on a (?P<background>{'|'.join(BACKGROUNDS)}) background)?")


# --- pictures -----------------------------------------------------------------------


def lay_out(caption: Caption, rng: np.random.Generator) -> Scene:
    """A scene that the caption describes truly; what it does not say is drawn at random."""
    paired = len(caption.things) == 2
    background = caption.background or _pick(rng, BACKGROUNDS)
    return Scene(tuple(_lay_out_thing(thing, rng, paired) for thing in caption.things), background)


def _lay_out_thing(thing: Thing, rng: np.random.Generator, paired: bool) -> Figure:
    radii = PAIR_RADII if paired else RADII[thing.size or _pick(rng, RADII)]
    x, y = PLACES[thing.place or _pick(rng, PLACES)]
    shift_x, shift_y = rng.uniform(-PLACE_JITTER, PLACE_JITTER, 2)
    return Figure(thing.shape, thing.colour, x + shift_x, y + shift_y, rng.uniform(*radii))


def render(scene: Scene, side: int = PICTURE_SIZE) -> np.ndarray:
    """The scene as pixels: uint8 [side, side, 3], edges anti-aliased; later figures cover earlier ones."""
    picture = np.empty((side, side, 3))
    picture[:] = BACKGROUNDS[scene.background]
    for figure in scene.figures:
        covered = coverage(figure.shape, figure.x, figure.y, figure.radius, side)[..., None]
        picture = picture * (1 - covered) + np.asarray(COLOURS[figure.colour]) * covered
    return np.round(picture).astype(np.uint8)


def coverage(shape: str, x: float, y: float, radius: float, side: int = PICTURE_SIZE) -> np.ndarray:
    """How much of each pixel the shape covers: float [side, side] in 0..1."""
    grid = (np.arange(side) + 0.5) / side
    distance = signed_distance(shape, grid[None, :] - x, grid[:, None] - y, radius)
    return np.clip(0.5 - distance * side, 0.0, 1.0)


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Distance of points (x, y) from the outline of a shape round the origin, negative inside.

    Exact for the circle; for the others exact near straight edges, which is all that
    anti-aliasing needs. `radius` reaches to the circle's rim, the tips of the cross,
    the apex of the triangle; the square's half side is 0.86 of it.
    """
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.86 * radius
    if shape == "triangle":
        circumradius, lowered = 1.12 * radius, y - 0.12 * radius
        slope = np.sqrt(3) / 2 * abs(x) - lowered / 2
        return np.maximum(slope, lowered + 0 * x) - circumradius / 2
    if shape == "cross":
        half_width = 0.32 * radius
        upright = np.maximum(abs(x) - half_width, abs(y) - radius)
        level = np.maximum(abs(x) - radius, abs(y) - half_width)
        return np.minimum(upright, level)
    raise ValueError(f"shape: expected one of {', '.join(SHAPES)}, got {shape!r}")


# --- examples -----------------------------------------------------------------------


def draw_examples(count: int, seed: int | list[int], pair_share: float = 0.35, loose_share: float = 0.2) -> tuple[list[str], np.ndarray]:
    """Captions and their pictures, uint8 [count, 32, 32, 3], for training.

    `pair_share` of them show two shapes; `loose_share` of the captions leave something
    unsaid or are worded in another way.
    """
    rng = np.random.default_rng(seed)
    texts, pictures = [], []
    for _ in range(count):
        caption = draw_caption(rng, 2 if rng.random() < pair_share else 1)
        loose = rng.random() < loose_share
        caption = loosen(caption, rng) if loose else caption
        texts.append(reword(to_text(caption), rng) if loose else to_text(caption))
        pictures.append(render(lay_out(caption, rng)))
    return texts, np.stack(pictures)


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    phrases = [*COLOURS, *BACKGROUNDS, *SHAPES, *RADII, *PLACES, *SYNONYMS.values(), *OPENINGS]
    return sorted({word for phrase in [*phrases, "a an and background"] for word in phrase.split()})
