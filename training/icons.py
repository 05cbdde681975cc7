"""The icons world: captioned pictures of emoji drawings in several styles, in the grammar of `training.shapes`.

"a large octopus, noto style, at the top on a pink background": what is said decides the
whole picture. Without size and place the icon fills the picture; without a background
it stands on white. The drawings and their words come from one file that
`training.prepare` makes.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from training.shapes import BACKGROUNDS, PICTURE_SIZE, PLACES, contradict, draw_caption, lay_out, render, to_text

SIDES = {None: 28, "large": 26, "small": 20}
"""Size word -> side of the icon in a picture of 32 pixels. None: it is not said."""
LAYOUTS: tuple[tuple[str | None, str | None], ...] = ((None, None), *((size, place) for size in ("large", "small") for place in PLACES))
"""(size, place) of every picture; both are said, or neither."""
DIRECTIONS = {"in the center": (0, 0), "at the top": (0, -1), "at the bottom": (0, 1), "on the left": (-1, 0), "on the right": (1, 0)}
LAYOUT_SHARES = (0.73, *(0.15 / 5,) * 5, *(0.12 / 5,) * 5)
"""How often each layout is drawn."""
NAME_SHARE = 0.55
"""How often a concept with keywords is called by its name."""
VARIED_SHARES = (0.4, 0.25, 0.1, 0.25)
"""How often `vary_scene` changes concept, style, layout and background."""
UNSAID_SHARE = 0.4
"""How often a white background goes without saying."""


@dataclass(frozen=True)
class IconCaption:
    """What a caption says. None: it does not say it."""

    wording: str
    style: str
    size: str | None = None
    place: str | None = None
    background: str | None = None


def to_words(caption: IconCaption) -> str:
    """The caption in words."""
    thing = " ".join(word for word in (caption.size, caption.wording) if word)
    article = "an" if thing[0] in "aeiou" else "a"
    place = f", {caption.place}" if caption.place else ""
    background = f" on a {caption.background} background" if caption.background else ""
    return f"{article} {thing}, {caption.style} style{place}{background}"


_CAPTION = re.compile(
    r"(?:an? )?(?:(?P<size>large|small) )?(?P<wording>.+?), (?P<style>\w+) style"
    rf"(?:, (?P<place>{'|'.join(PLACES)}))?(?: on a (?P<background>{'|'.join(BACKGROUNDS)}) background)?"
)


def parse_words(text: str) -> IconCaption:
    """The caption that `to_words` puts into these words. Raises ValueError for words outside that grammar."""
    match = _CAPTION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"caption: expected words such as 'a large octopus, noto style, at the top on a pink background', got {text!r}")
    return IconCaption(**match.groupdict())


@dataclass(frozen=True)
class Concept:
    """Something that icons show: its name, its other wordings, and those that training never sees."""

    key: str
    name: str
    train: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True)
class Icons:
    """The drawings of some concepts in some styles.

    `drawings`: uint8 [concepts, styles, 4, side, side], colour premultiplied with alpha.
    """

    concepts: tuple[Concept, ...]
    styles: tuple[str, ...]
    drawings: torch.Tensor

    @classmethod
    def load(cls, file: Path, count: int) -> Icons:
        """The `count` most important concepts of the prepared file. Raises FileNotFoundError where there is none."""
        if not file.exists():
            raise FileNotFoundError(f"{file}: make it with python -m training.prepare")
        with np.load(file) as data:
            styles = tuple(json.loads(str(data["styles"])))
            entries = json.loads(str(data["concepts"]))[:count]
            pictures, offsets = data["pictures"].tobytes(), data["offsets"]
        concepts = tuple(Concept(entry["key"], entry["name"], tuple(entry["train"]), tuple(entry["held"])) for entry in entries)
        numbers = range(len(concepts) * len(styles))
        opened = [np.asarray(Image.open(io.BytesIO(pictures[offsets[number] : offsets[number + 1]])).convert("RGBA")) for number in numbers]
        return cls(concepts, styles, premultiply(np.stack(opened)).unflatten(0, (len(concepts), len(styles))))

    def canvases(self, side: int = PICTURE_SIZE, layouts: range = range(len(LAYOUTS))) -> torch.Tensor:
        """Every drawing in every layout on a transparent picture: uint8 [concepts x styles, layouts, 4, side, side]."""
        flat = self.drawings.flatten(0, 1)
        canvases = torch.zeros(len(flat), len(layouts), 4, side, side, dtype=torch.uint8)
        places = [canvas_place(layout, side) for layout in layouts]
        sized = {extent: shrink(flat, extent) for extent in {extent for _, _, extent in places}}
        for number, (x, y, extent) in enumerate(places):
            canvases[:, number, :, y : y + extent, x : x + extent] = sized[extent]
        return canvases

    @cached_property
    def painted_canvases(self) -> torch.Tensor:
        """`canvases` at the size of a picture, made once."""
        return self.canvases()

    @cached_property
    def held_out(self) -> dict[str, frozenset[int]]:
        """Every wording that training never sees -> the numbers of the concepts it may mean."""
        meant: dict[str, set[int]] = {}
        for number, concept in enumerate(self.concepts):
            for wording in concept.held:
                meant.setdefault(wording, set()).add(number)
        return {wording: frozenset(numbers) for wording, numbers in sorted(meant.items())}


def canvas_place(layout: int, side: int) -> tuple[int, int, int]:
    """Left, top and side, in pixels, of an icon in a picture of `side` pixels, a multiple of 32."""
    size, place = LAYOUTS[layout]
    unit = side // PICTURE_SIZE
    margin = (PICTURE_SIZE - SIDES[size]) // 2 * unit
    across, down = DIRECTIONS[place or "in the center"]
    return margin + margin * across, margin + margin * down, SIDES[size] * unit


def premultiply(pictures: np.ndarray) -> torch.Tensor:
    """RGBA uint8 [n, h, w, 4] as uint8 [n, 4, h, w] with the colours times alpha."""
    drawings = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    for drawing in drawings:  # one by one: floats of all at once would be gigabytes
        drawing[:3] = (drawing[:3].float() * (drawing[3:].float() / 255)).round().byte()
    return drawings


def shrink(drawings: torch.Tensor, side: int) -> torch.Tensor:
    """Premultiplied drawings uint8 [n, 4, s, s], anti-aliased, at another size."""
    if drawings.shape[-1] == side:
        return drawings
    parts = drawings.split(64)  # floats of all at once would be gigabytes
    sized = [functional.interpolate(part.float(), size=(side, side), mode="bilinear", antialias=True) for part in parts]
    return torch.cat([part.clamp(0, 255).round().byte() for part in sized])


def background_colours() -> torch.Tensor:
    """RGB of the backgrounds in order: float [4, 3]."""
    return torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)


def compose(canvases: torch.Tensor, backgrounds: torch.Tensor) -> torch.Tensor:
    """Canvases uint8 [n, 4, h, w] before backgrounds (numbers [n]): uint8 [n, 3, h, w]."""
    colours = background_colours().to(canvases.device)[backgrounds][:, :, None, None]
    clear = 1 - canvases[:, 3:].float() / 255
    return (canvases[:, :3].float() + colours * clear).round().clamp(0, 255).byte()


# --- examples -----------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """What one picture of the icons world shows, in numbers."""

    concept: int
    style: int
    layout: int
    background: int

    @property
    def number(self) -> int:
        """A number that only this scene has, whatever the set of concepts."""
        return ((self.concept * 8 + self.style) * len(LAYOUTS) + self.layout) * len(BACKGROUNDS) + self.background


def draw_scene(icons: Icons, rng: np.random.Generator) -> Scene:
    """A scene, uniform over concepts, styles and backgrounds; half of the pictures are on white."""
    white = rng.random() < UNSAID_SHARE
    background = 0 if white else int(rng.integers(len(BACKGROUNDS)))
    layout = int(rng.choice(len(LAYOUTS), p=LAYOUT_SHARES))
    return Scene(int(rng.integers(len(icons.concepts))), int(rng.integers(len(icons.styles))), layout, background)


def vary_scene(icons: Icons, scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that differs in exactly one of concept, style, layout and background."""
    counts = {"concept": len(icons.concepts), "style": len(icons.styles), "layout": len(LAYOUTS), "background": len(BACKGROUNDS)}
    attribute = str(rng.choice(list(counts), p=VARIED_SHARES))
    present = getattr(scene, attribute)
    other = int(rng.integers(counts[attribute] - 1))
    return Scene(**(vars(scene) | {attribute: other + (other >= present)}))


def describe(icons: Icons, scene: Scene, rng: np.random.Generator, wording: str | None = None) -> IconCaption:
    """A caption of the scene: the wording that is given, or one that training may use."""
    concept = icons.concepts[scene.concept]
    if wording is None:
        named = not concept.train or rng.random() < NAME_SHARE
        wording = concept.name if named else concept.train[rng.integers(len(concept.train))]
    size, place = LAYOUTS[scene.layout]
    background = None if scene.background == 0 and rng.random() < 0.6 else list(BACKGROUNDS)[scene.background]
    return IconCaption(wording, icons.styles[scene.style], size, place, background)


@dataclass(frozen=True)
class Examples:
    """Captions with their pictures, uint8 [n, 3, 32, 32]; rows with one `scene` number show the same thing.

    They come in groups of `group` rows, of which all but the first differ from the first in one attribute.
    """

    texts: list[str]
    pictures: torch.Tensor
    scenes: torch.Tensor
    group: int


def draw_examples(icons: Icons, count: int, seed: list[int], shape_share: float = 0.1, group: int = 4) -> Examples:
    """`count` (a multiple of `group`) examples, `shape_share` of the groups from the world of shapes."""
    rng = np.random.default_rng(seed)
    canvases = icons.canvases()
    rows = []
    for _ in range(count // group):
        draw = _draw_shapes if rng.random() < shape_share else _draw_icons
        rows += draw(icons, canvases, rng, group)
    texts, pictures, scenes = zip(*rows, strict=True)
    shapes = {scene: -1 - number for number, scene in enumerate(dict.fromkeys(scene for scene in scenes if not isinstance(scene, Scene)))}
    numbers = [scene.number if isinstance(scene, Scene) else shapes[scene] for scene in scenes]
    return Examples(list(texts), torch.stack(pictures), torch.tensor(numbers), group)


def _draw_icons(icons: Icons, canvases: torch.Tensor, rng: np.random.Generator, group: int):
    first = draw_scene(icons, rng)
    scenes = [first, *(vary_scene(icons, first, rng) for _ in range(group - 1))]
    drawn = torch.stack([canvases[scene.concept * len(icons.styles) + scene.style, scene.layout] for scene in scenes])
    pictures = compose(drawn, torch.tensor([scene.background for scene in scenes]))
    return [(to_words(describe(icons, scene, rng)), picture, scene) for scene, picture in zip(scenes, pictures, strict=True)]


def _draw_shapes(icons: Icons, canvases: torch.Tensor, rng: np.random.Generator, group: int):
    first = draw_caption(rng)
    captions = [first, *(contradict(first, rng) for _ in range(group - 1))]
    pictures = [torch.from_numpy(render(lay_out(caption, rng))).permute(2, 0, 1) for caption in captions]
    return [(to_text(caption), picture, caption) for caption, picture in zip(captions, pictures, strict=True)]
