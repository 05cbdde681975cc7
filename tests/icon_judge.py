"""The icon judge: names concept and style of a picture by the nearest rendered icon, without any neural model.

A picture is compared, pixel by pixel, with every icon in the size and place that its
caption names, on its background, over small shifts and scales. The nearest icon
names concept and style; the background is read from the picture's rim.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.icons import Icons, background_colours, canvas_place, compose, shrink
from training.shapes import PICTURE_SIZE

SHIFTS = 1
"""Greatest shift in pixels, each way, that still is the same picture."""
SCALES = (-2, 0, 2)
"""Pixels by which an icon may be smaller or larger than its size word says."""


@dataclass(frozen=True)
class Expected:
    """What a picture should show: any of some concepts, in one style, layout and background (numbers)."""

    concepts: frozenset[int]
    style: int
    layout: int
    background: int


@dataclass(frozen=True)
class Verdict:
    """What the judge says: how many other concepts are nearer than the right one, and what else is right.

    `style` is that of the nearest drawing of all, whatever it shows. `own_style` is the
    nearest style of the right concept, which says something only of a picture of that
    concept: of another one it is right half the time by chance.
    """

    rank: int
    style: bool
    own_style: bool
    background: bool
    nearest: int

    @property
    def top1(self) -> bool:
        """The right concept is nearest."""
        return self.rank == 0

    @property
    def top5(self) -> bool:
        """The right concept is among the five nearest."""
        return self.rank < 5


class Judge:
    """Judges pictures against all of some icons."""

    def __init__(self, icons: Icons):
        self.icons = icons
        self._gallery = lru_cache(maxsize=None)(self._make_gallery)

    def judge(self, pictures: np.ndarray, expected: Sequence[Expected]) -> list[Verdict]:
        """Verdicts on pictures uint8 [n, 32, 32, 3]."""
        images = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).float()
        return [self._judge_one(image, wanted) for image, wanted in zip(images, expected, strict=True)]

    def _judge_one(self, image: torch.Tensor, wanted: Expected) -> Verdict:
        shifted = shifts(image).flatten(1)
        gallery = self._gallery(wanted.layout, wanted.background)
        distances = torch.cdist(shifted, gallery).amin(0)
        distances = distances.view(len(SCALES), len(self.icons.concepts), len(self.icons.styles)).amin(0)
        order = distances.amin(1).argsort().tolist()
        right = min(wanted.concepts, key=order.index)
        return Verdict(
            rank=order.index(right),
            style=int(distances[order[0]].argmin()) == wanted.style,
            own_style=int(distances[right].argmin()) == wanted.style,
            background=see_background(image) == wanted.background,
            nearest=order[0],
        )

    def _make_gallery(self, layout: int, background: int) -> torch.Tensor:
        """Every icon at every scale in one layout on one background: [scales x concepts x styles, 3 x 32 x 32]."""
        drawn = torch.cat([self._canvases(layout, step) for step in SCALES])
        return compose(drawn, torch.full((len(drawn),), background)).float().flatten(1)

    def _canvases(self, layout: int, step: int) -> torch.Tensor:
        x, y, extent = canvas_place(layout, PICTURE_SIZE)
        sized = shrink(self.icons.drawings.flatten(0, 1), extent + step)
        wide = PICTURE_SIZE + 8
        canvases = torch.zeros(len(sized), 4, wide, wide, dtype=torch.uint8)
        left, top = x + 4 - step // 2, y + 4 - step // 2
        canvases[:, :, top : top + extent + step, left : left + extent + step] = sized
        return canvases[:, :, 4:-4, 4:-4]


def shifts(image: torch.Tensor) -> torch.Tensor:
    """An image [3, h, w] shifted by at most `SHIFTS` pixels each way, its rim repeated: [n, 3, h, w]."""
    padded = functional.pad(image[None], (SHIFTS,) * 4, mode="replicate")[0]
    height, width = image.shape[-2:]
    steps = range(2 * SHIFTS + 1)
    return torch.stack([padded[:, y : y + height, x : x + width] for y in steps for x in steps])


def see_background(image: torch.Tensor) -> int:
    """The number of the background nearest to the median of the rim of an image [3, h, w] in 0..255."""
    rim = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], 1)
    return int((background_colours() - rim.median(1).values).square().sum(1).argmin())


def shares(verdicts: Collection[Verdict]) -> dict[str, tuple[float, float, float]]:
    """Per judgement its share and the 95 % interval round it (Wilson 1927)."""
    counts = {name: [getattr(verdict, name) for verdict in verdicts] for name in ("top1", "top5", "style", "own_style", "background")}
    return {name: (float(np.mean(values)), *interval(sum(values), len(values))) for name, values in counts.items()}


def interval(right: int, count: int, deviations: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share of `right` in `count`."""
    share, square = right / count, deviations**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = deviations * np.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)
