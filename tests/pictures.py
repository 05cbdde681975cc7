"""The picture checker: says what is right in a picture of coloured shapes, without any neural model.

It reads the picture as a `Sighting` - background, and per shape its kind, colour,
radius and centre - and compares that with a caption. A shape is recognised by
synthesis: each kind is drawn with the area and centre of mass that was found, and
the drawing nearest to the picture names it; one that fits badly is no shape at all.

As a program it measures itself and, with a model, the pictures painted from captions:

    python tests/pictures.py --seed 0 --count 200 [--model FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.shapes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    RADII,
    SHAPES,
    Caption,
    Thing,
    contradict,
    coverage,
    draw_caption,
    draw_captions,
    lay_out,
    render,
    to_text,
)

Painter = Callable[[list[str], list[int]], np.ndarray]
"""Captions and one seed each -> pictures, uint8 [n, h, w, 3]."""

COLOUR_TOLERANCE = 60.0
"""Greatest RGB distance at which a colour still counts as one of the palette."""
BORDER_SHARE = 0.6
"""Least share of the border that must show the background."""
CONTRAST = 45.0
"""Least RGB distance from the background of a pixel that belongs to a shape."""
SPECK = 0.005
"""Patches below this share of the picture are ignored."""
WORST_FIT = 0.30
"""Greatest difference from an ideal shape, as a share of its area."""
SIZE_BORDER = (RADII["small"][1] + RADII["large"][0]) / 2
SIZE_RANGE = (0.8 * RADII["small"][0], 1.25 * RADII["large"][1])
"""Radii outside are neither small nor large."""
PLACE_TOLERANCE = 0.13
"""Greatest distance, fraction of the side, from the point that place words stand for."""


@dataclass(frozen=True)
class Seen:
    """One shape found in a picture. None: it is not a colour or shape of this world."""

    shape: str | None
    colour: str | None
    radius: float
    x: float
    y: float

    @property
    def size(self) -> str | None:
        """The size word of its radius."""
        if not SIZE_RANGE[0] <= self.radius <= SIZE_RANGE[1]:
            return None
        return "small" if self.radius < SIZE_BORDER else "large"

    @property
    def place(self) -> str | None:
        """The place words of its centre."""
        distances = {words: np.hypot(self.x - x, self.y - y) for words, (x, y) in PLACES.items()}
        nearest = min(distances, key=distances.get)
        return nearest if distances[nearest] <= PLACE_TOLERANCE else None


@dataclass(frozen=True)
class Sighting:
    """All that was found in a picture."""

    things: tuple[Seen, ...]
    background: str | None


@dataclass(frozen=True)
class Template:
    """A shape of radius 1: its area, and how far its centre of mass lies below its centre."""

    area: float
    sunk: float


# --- reading a picture --------------------------------------------------------------


def see(picture) -> Sighting:
    """Read a square picture: uint8 [h, w, 3] or a PIL image. Raises ValueError for anything else."""
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] != 3:
        raise ValueError(f"picture: expected uint8 [h, h, 3], got {pixels.dtype} {list(pixels.shape)}")
    pixels = pixels.astype(float)
    background, level = _see_background(pixels)
    if background is None:
        return Sighting((), None)
    patches = _patches(pixels, level)
    return Sighting(tuple(_see_thing(pixels, level, patch) for patch in patches), background)


def _see_background(pixels: np.ndarray) -> tuple[str | None, np.ndarray]:
    """The background's name and its actual RGB, read from the border."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    names = list(BACKGROUNDS)
    distances = np.linalg.norm(border[:, None] - np.array(list(BACKGROUNDS.values())), axis=-1)
    distances = np.where(distances <= COLOUR_TOLERANCE, distances, np.inf)
    votes = [(distances.argmin(1) == number) & np.isfinite(distances.min(1)) for number in range(len(names))]
    winner = int(np.argmax([vote.sum() for vote in votes]))
    if votes[winner].mean() < BORDER_SHARE:
        return None, border.mean(0)
    return names[winner], np.median(border[votes[winner]], axis=0)


def _patches(pixels: np.ndarray, background: np.ndarray) -> list[np.ndarray]:
    """Masks [h, w] of the connected regions off the background, specks left out."""
    labels, count = ndimage.label(np.linalg.norm(pixels - background, axis=-1) > CONTRAST)
    masks = [labels == number for number in range(1, count + 1)]
    return [mask for mask in masks if mask.mean() >= SPECK]


def _see_thing(pixels: np.ndarray, background: np.ndarray, patch: np.ndarray) -> Seen:
    colour = _body_colour(pixels, background, patch)
    covered = _coverage_seen(pixels, background, colour, patch)
    shape, radius, x, y = _fit(covered)
    return Seen(shape, _palette_name(colour), radius, x, y)


def _body_colour(pixels: np.ndarray, background: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """The patch's RGB without its blended edge: the median of its half farthest from the background."""
    body = pixels[patch]
    distances = np.linalg.norm(body - background, axis=-1)
    return np.median(body[distances >= np.median(distances)], axis=0)


def _coverage_seen(pixels: np.ndarray, background: np.ndarray, colour: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """How much of each pixel [h, w] in and round the patch the colour covers, 0..1."""
    axis = colour - background
    covered = np.clip((pixels - background) @ axis / (axis @ axis), 0, 1)
    return covered * ndimage.binary_dilation(patch, np.ones((3, 3)))


def _palette_name(colour: np.ndarray) -> str | None:
    distances = {name: np.linalg.norm(colour - value) for name, value in COLOURS.items()}
    nearest = min(distances, key=distances.get)
    return nearest if distances[nearest] <= COLOUR_TOLERANCE else None


def _fit(covered: np.ndarray) -> tuple[str | None, float, float, float]:
    """The kind, radius and centre of the shape whose coverage [h, h] this is."""
    side, area = len(covered), covered.mean()
    grid = (np.arange(side) + 0.5) / side
    mass_x, mass_y = (covered @ grid).sum() / covered.sum(), (grid @ covered).sum() / covered.sum()
    fits = []
    for shape in SHAPES:
        template = _template(shape)
        radius = float(np.sqrt(area / template.area))
        x, y = float(mass_x), float(mass_y - template.sunk * radius)
        difference = abs(coverage(shape, x, y, radius, side) - covered).mean() / area
        fits.append((difference, shape, radius, x, y))
    difference, shape, radius, x, y = min(fits)
    return (shape if difference <= WORST_FIT else None), radius, x, y


@cache
def _template(shape: str) -> Template:
    side, radius = 512, 0.4
    drawn = coverage(shape, 0.5, 0.5, radius, side)
    mass_y = ((np.arange(side) + 0.5) / side @ drawn).sum() / drawn.sum()
    return Template(float(drawn.mean() / radius**2), float((mass_y - 0.5) / radius))


# --- judging it by a caption --------------------------------------------------------


def check(picture, caption: Caption) -> dict[str, bool]:
    """What of the caption is right in the picture.

    Keys: `count`, `shape`, `colour`, `background`, and `size` and `place` where the
    caption says them; `all` is whether everything is. With two things an attribute is
    right when it is right for both of them.
    """
    sighting = see(picture)
    verdict = {"count": len(sighting.things) == len(caption.things)}
    if caption.background:
        verdict["background"] = sighting.background == caption.background
    verdict |= max(
        (_compare(order, caption.things) for order in _pairings(sighting.things, len(caption.things))),
        key=lambda right: sum(right.values()),
    )
    return verdict | {"all": all(verdict.values())}


def _pairings(seen: Sequence[Seen], count: int) -> list[tuple[Seen | None, ...]]:
    """Every way to give `count` things of a caption one of the seen things, or none, each."""
    padded = [*seen[:4], *[None] * count]
    return list(itertools.permutations(padded, count))


def _compare(seen: Sequence[Seen | None], things: Sequence[Thing]) -> dict[str, bool]:
    right = {}
    for attribute in ("size", "shape", "colour", "place"):
        said = [getattr(thing, attribute) for thing in things]
        found = [getattr(one, attribute, None) for one in seen]
        if any(said):
            right[attribute] = all(word is None or word == value for word, value in zip(said, found, strict=True))
    return right


# --- measuring ----------------------------------------------------------------------


def draw_pictures(captions: Sequence[Caption], seed: int) -> list[np.ndarray]:
    """True renders of captions."""
    rng = np.random.default_rng([seed, 1000])
    return [render(lay_out(caption, rng)) for caption in captions]


def accuracy(pictures, captions: Sequence[Caption]) -> dict[str, float]:
    """Share of pictures, per attribute and `all`, that are right."""
    verdicts = [check(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
    right, said = Counter(), Counter()
    for verdict in verdicts:
        right.update({attribute: int(value) for attribute, value in verdict.items()})
        said.update(verdict.keys())
    return {attribute: right[attribute] / said[attribute] for attribute in said}


def rejection(pictures, captions: Sequence[Caption], seed: int) -> dict[str, float]:
    """Share of pictures refused under a wrong caption.

    `contradicted`: it differs in exactly one attribute; `random`: it is another caption.
    """
    rng = np.random.default_rng([seed, 2000])
    wrong = {"contradicted": [contradict(caption, rng) for caption in captions]}
    wrong["random"] = [_another_caption(caption, rng) for caption in captions]
    return {
        kind: np.mean([not check(picture, caption)["all"] for picture, caption in zip(pictures, others, strict=True)])
        for kind, others in wrong.items()
    }


def _another_caption(caption: Caption, rng: np.random.Generator) -> Caption:
    """A random complete caption that does not describe the same scenes."""
    while True:
        other = draw_caption(rng, len(caption.things))
        if (set(other.things), other.background) != (set(caption.things), caption.background):
            return other


def painted(painter: Painter, captions: Sequence[Caption], seed: int) -> np.ndarray:
    """Paint every caption once, each with its own seed."""
    seeds = np.random.default_rng([seed, 3000]).integers(2**31, size=len(captions)).tolist()
    return painter([to_text(caption) for caption in captions], seeds)


def pipeline_painter(folder: str, steps: int = 20, guidance: float = 4.0, sampler: str = "default", batch: int = 50) -> Painter:
    """A painter that is the plain diffusers pipeline of a model folder.

    `sampler`: `default` keeps the folder's scheduler, else the name of a diffusers scheduler class.
    """
    import diffusers
    import torch
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if sampler != "default":
        pipeline.scheduler = getattr(diffusers, sampler).from_config(pipeline.scheduler.config)

    def paint(texts: list[str], seeds: list[int]) -> np.ndarray:
        pictures = []
        for start in range(0, len(texts), batch):
            part = slice(start, start + batch)
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
            images = pipeline(
                texts[part], num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="np"
            ).images
            pictures.append(np.round(images * 255).astype(np.uint8))
        return np.concatenate(pictures)

    return paint


def graph_painter(engine, model: str = "tiny-sd", steps: int = 20, guidance: float = 4.0, batch: int = 50) -> Painter:
    """A painter that is a nodegraph workflow on an engine; each picture has its own seed, as in `pipeline_painter`."""
    workflow = {
        "nodegraph": 1,
        "inputs": {"texts": {"type": "list[text]"}, "seeds": {"type": "list[int]"}},
        "nodes": {
            "model": {"use": "load_model", "with": {"name": model}},
            "positive": {"use": "encode_text", "from": {"encoder": "model.encoder", "text": "inputs.texts"}},
            "negative": {"use": "encode_text", "from": {"encoder": "model.encoder"}, "with": {"text": ""}},
            "count": {"use": "list_length", "from": {"items": "inputs.texts"}},
            "canvas": {"use": "empty_latent", "from": {"model": "model.denoiser", "batch": "count.int"}},
            "sample": {
                "use": "sample_latent",
                "from": {
                    "model": "model.denoiser",
                    "positive": "positive.conditioning",
                    "negative": "negative.conditioning",
                    "latent": "canvas.latent",
                    "seed": "inputs.seeds",
                },
                "with": {"steps": steps, "guidance": guidance},
            },
            "decode": {"use": "decode_latent", "from": {"vae": "model.vae", "latent": "sample.latent"}},
        },
        "outputs": {"image": "decode.image"},
    }

    def paint(texts: list[str], seeds: list[int]) -> np.ndarray:
        parts = [slice(start, start + batch) for start in range(0, len(texts), batch)]
        jobs = [engine.submit(workflow, texts=texts[part], seeds=seeds[part]) for part in parts]
        return np.concatenate([job.result().outputs["image"].bytes_hwc() for job in jobs])

    return paint


# --- command line -------------------------------------------------------------------


def report(title: str, shares: dict[str, float]) -> None:
    """Print one line of percentages."""
    print(f"{title:<38}" + "  ".join(f"{name} {100 * share:.1f}" for name, share in shares.items()), flush=True)


def parse_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="seed of captions, scenes and noise")
    parser.add_argument("--count", type=int, default=200, help="captions of one thing; as many of two")
    parser.add_argument("--model", default="tiny-sd", help="the model to paint with, through nodegraph; empty for none")
    parser.add_argument("--pipeline", metavar="FOLDER", help="a diffusers folder to paint with instead, through its own pipeline")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--sampler", default="default", help="with --pipeline: a diffusers scheduler class instead of the folder's")
    parser.add_argument("--things", type=int, choices=(1, 2), help="only captions of one, or of two, things")
    parser.add_argument("--sheet", type=Path, help="write the painted pictures as one PNG")
    return parser.parse_args()


def main() -> None:
    """Measure the checker, and the model if one is given."""
    options = parse_arguments()
    painter = None
    if options.pipeline:
        painter = pipeline_painter(options.pipeline, options.steps, options.guidance, options.sampler)
    elif options.model:
        from nodegraph import Engine

        painter = graph_painter(Engine(cache=False), options.model, options.steps, options.guidance)
    for things in (options.things,) if options.things else (1, 2):
        captions = draw_captions(options.count, options.seed, things)
        pictures = draw_pictures(captions, options.seed)
        report(f"{things} thing(s), true renders", accuracy(pictures, captions))
        report(f"{things} thing(s), wrong captions refused", rejection(pictures, captions, options.seed))
        if painter is None:
            continue
        started = time.monotonic()
        pictures = painted(painter, captions, options.seed)
        report(f"{things} thing(s), painted", accuracy(pictures, captions))
        print(f"{'':<38}{(time.monotonic() - started) / options.count:.3f} s a picture", flush=True)
        if options.sheet:
            save_sheet(pictures, options.sheet.with_stem(f"{options.sheet.stem}-{things}"))


def save_sheet(pictures: np.ndarray, path: Path, columns: int = 20, zoom: int = 2) -> None:
    """Write pictures in rows as one PNG."""
    from PIL import Image

    rows = [np.concatenate(list(pictures[start : start + columns]), 1) for start in range(0, len(pictures), columns)]
    rows = [row for row in rows if row.shape == rows[0].shape]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
