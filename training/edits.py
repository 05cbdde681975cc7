"""Edits that the instruction models learn and are judged by: a picture, what to change in it, and the picture that has it.

"in fluent style", "on a pink background and make it small": an instruction names every
attribute that changes, in this order, and nothing else changes. The drawings of one
concept are aligned between the styles, so both pictures are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from training import shapes
from training.icons import LAYOUTS, Icons, Scene, canvas_place, compose, draw_scene, shrink
from training.shapes import BACKGROUNDS, COLOURS, PLACES

CHANGES = ("style", "background", "size", "place")
"""What may change in a picture of an icon, in the order of the words."""
CHANGE_SHARES = (0.45, 0.35, 0.12, 0.08)
"""How often each of them is the first that is chosen."""
COUNT_SHARES = (0.7, 0.25, 0.05)
"""How often an instruction asks for one, two or three changes."""
JOIN = " and "


@dataclass(frozen=True)
class Edit:
    """An instruction, the scene that it is said of, and the scene that it asks for; both of icons, or both of shapes."""

    source: Scene | shapes.Scene
    instruction: str
    target: Scene | shapes.Scene


def draw_edit(icons: Icons, rng: np.random.Generator) -> Edit:
    """An edit of a picture of an icon.

    An icon whose size is unsaid fills its picture: it can be made small, and moved only with that.
    """
    source = draw_scene(icons, rng)
    size, place = LAYOUTS[source.layout]
    count = 1 + int(rng.choice(len(COUNT_SHARES), p=COUNT_SHARES))
    chosen = set(rng.choice(CHANGES, size=count, replace=False, p=CHANGE_SHARES))
    if size is None and "place" in chosen:
        chosen.add("size")
    target, phrases = source, []
    if "style" in chosen:
        target = replace(target, style=_another(rng, len(icons.styles), source.style))
        phrases.append(f"in {icons.styles[target.style]} style")
    if "background" in chosen:
        target = replace(target, background=_another(rng, len(BACKGROUNDS), source.background))
        phrases.append(_background_phrase(list(BACKGROUNDS)[target.background]))
    if "size" in chosen:
        size, place = "large" if size == "small" else "small", place or "in the center"
        phrases.append(f"make it {size}")
    if "place" in chosen:
        places = [other for other in PLACES if other != place]
        place = places[rng.integers(len(places))]
        phrases.append(f"move it to the {place.split()[-1]}")
    return Edit(source, JOIN.join(phrases), replace(target, layout=LAYOUTS.index((size, place))))


def draw_shape_edit(rng: np.random.Generator) -> Edit:
    """An edit of a picture of one coloured shape: another colour, another background, or both; its outline stays."""
    source = shapes.lay_out(shapes.draw_caption(rng), rng)
    (figure,) = source.figures
    recoloured, relaid = ((True, False), (False, True), (True, True))[rng.integers(3)]
    target, phrases = source, []
    if relaid:
        background = _another_name(rng, BACKGROUNDS, source.background)
        target = replace(target, background=background)
        phrases.append(_background_phrase(background))
    if recoloured:
        colour = _another_name(rng, COLOURS, figure.colour)
        target = replace(target, figures=(replace(figure, colour=colour),))
        phrases.append(f"make it {colour}")
    return Edit(source, JOIN.join(phrases), target)


def picture(icons: Icons, scene: Scene | shapes.Scene, side: int = shapes.PICTURE_SIZE) -> torch.Tensor:
    """The scene as pixels: uint8 [3, side, side]; `side` is a multiple of 32."""
    if isinstance(scene, shapes.Scene):
        return torch.from_numpy(shapes.render(scene, side)).permute(2, 0, 1)
    x, y, extent = canvas_place(scene.layout, side)
    canvas = torch.zeros(1, 4, side, side, dtype=torch.uint8)
    canvas[:, :, y : y + extent, x : x + extent] = shrink(icons.drawings[scene.concept, scene.style][None], extent)
    return compose(canvas, torch.tensor([scene.background]))[0]


def _background_phrase(background: str) -> str:
    return f"on a {background} background"


def _another(rng: np.random.Generator, count: int, present: int) -> int:
    """A number below `count` that is not the present one."""
    other = int(rng.integers(count - 1))
    return other + (other >= present)


def _another_name(rng: np.random.Generator, names, present: str) -> str:
    names = list(names)
    return names[_another(rng, len(names), names.index(present))]
