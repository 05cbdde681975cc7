"""The second upsampler's stage: four times larger from any size, learned on crops of worn drawings (see `training.unclip.wear`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training.autoencoder import to_images
from training.icons import Icons, compose
from training.loop import Schedule, Trainer, numpy_seed, torch_generator
from training.shapes import BACKGROUNDS
from training.unclip import parts
from training.unclip.diffusion import Noising
from training.unclip.recipe import Run
from training.unclip.upsampler import CROP, clean_loss, crop, enlarge
from training.unclip.wear import wear

SIDES = (128, 256)
"""Of the large pictures: edges of several curvatures, as the network is to serve at any size."""
FULL_AND_SPARSE = range(0, 7, 6)
"""The layouts that are learned from: an icon that fills the picture, and a small one with much of the plain background."""
CROPS = (CROP, 2 * CROP)
"""Sides of the crops, fewer of the larger ones at once: the more of a picture is seen, the truer are the colours of plain areas."""


@dataclass(frozen=True)
class Drawings:
    """The icons, each filling its picture and small in the center, per side of `SIDES` uint8 [2 x icons, 4, side, side]."""

    canvases: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, icons: Icons) -> Drawings:
        """All of them."""
        return cls(tuple(icons.canvases(side, FULL_AND_SPARSE).flatten(0, 1) for side in SIDES))

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` worn pictures and the large ones of one side: floats -1..1, [n, 3, side / 4, side / 4] and [n, 3, side, side]."""
        canvases = self.canvases[rng.integers(len(SIDES))]
        icons, backgrounds = (torch.from_numpy(rng.integers(kinds, size=count)) for kinds in (len(canvases), len(BACKGROUNDS)))
        large = compose(canvases[icons], backgrounds)
        return to_images(torch.stack([wear(picture, rng) for picture in large])), to_images(large)


def second_upsampler_trainer(run: Run) -> Trainer:
    """The upsampler, untrained, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed + 8)
    upsampler = parts.make_second_upsampler().to(run.device, memory_format=torch.channels_last)
    schedule = Schedule(run.recipe.second_upsampler_steps, run.recipe.second_upsampler_rate, rise=50, level_until=0.4)
    return Trainer({"super_res_first": upsampler}, schedule, run.work / "second_upsampler.pt", average_decay=0.99)


def train_second_upsampler(run: Run) -> None:
    """Train the upsampler; leaves its checkpoint."""
    trainer = run.begin(second_upsampler_trainer(run))
    drawings = Drawings.of(run.icons)
    noising = Noising.of(parts.make_upsampler_scheduler(), run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "second-upsampler", step)
        rng = np.random.default_rng(numpy_seed(run.recipe.seed, "second-upsampler", step))
        side = int(rng.choice(CROPS))
        count = max(1, run.recipe.second_upsampler_batch * CROP**2 // side**2)
        small, large = (images.to(run.device) for images in drawings.draw(count, rng))
        beside = enlarge(small, large.shape[-1])
        clean, beside = crop(torch.cat([large, beside], 1), draw, side).split(3, 1)
        return clean_loss(trainer.modules["super_res_first"], noising, clean, beside, draw)

    trainer.run(loss_at)
