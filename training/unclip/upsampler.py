"""The first upsampler's stage: diffusion from 32 to 128 pixels, learned on crops of the same drawings at both sizes.

The network predicts the clean picture, not the noise: a small one, asked at seven noise levels, stays true to what it is
shown. Some of the small pictures are blurred (Saharia et al. 2021), and some went through the autoencoder, as all that
the decoder paints did.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from training.autoencoder import to_images
from training.icons import LAYOUT_SHARES, Icons, compose
from training.loop import Schedule, Trainer, mixed_precision, torch_generator
from training.shapes import BACKGROUNDS, PICTURE_SIZE
from training.unclip import parts
from training.unclip.autoencoder import vae_trainer
from training.unclip.diffusion import Noising
from training.unclip.recipe import Run

FACTOR = 4
CROP = 48
"""Side of a crop of the large picture; the network is convolutional and works at any size."""
BLUR_SHARE, DECODED_SHARE = 0.35, 0.35
"""Shares of the small pictures that are blurred, and that are decoded from their encoding."""
BLURS = (0.3, 0.7)
"""Least and greatest deviation of that blur in small pixels."""


@dataclass(frozen=True)
class Sizes:
    """The icons in every layout at both sizes: uint8 [icons, layouts, 4, side, side]."""

    small: torch.Tensor
    large: torch.Tensor

    @classmethod
    def of(cls, icons: Icons, device: torch.device) -> Sizes:
        """Both sizes, on the device."""
        return cls(icons.canvases(PICTURE_SIZE).to(device), icons.canvases(FACTOR * PICTURE_SIZE).to(device))

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` pictures at both sizes: floats -1..1, [n, 3, 32, 32] and [n, 3, 128, 128]."""
        icons = torch.randint(len(self.small), (count,), generator=generator)
        layouts = torch.multinomial(torch.tensor(LAYOUT_SHARES), count, replacement=True, generator=generator)
        backgrounds = torch.randint(len(BACKGROUNDS), (count,), generator=generator).to(self.small.device)
        return tuple(to_images(compose(drawn[icons, layouts], backgrounds)) for drawn in (self.small, self.large))


def upsampler_trainer(run: Run) -> Trainer:
    """The upsampler, untrained, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed + 5)
    upsampler = parts.make_upsampler().to(run.device, memory_format=torch.channels_last)
    schedule = Schedule(run.recipe.upsampler_steps, run.recipe.upsampler_rate, rise=50, level_until=0.4)
    return Trainer({"super_res_first": upsampler}, schedule, run.work / "upsampler.pt", average_decay=0.99)


def train_upsampler(run: Run) -> None:
    """Train the upsampler; leaves its checkpoint."""
    trainer = run.begin(upsampler_trainer(run))
    upsampler = trainer.modules["super_res_first"]
    sizes = Sizes.of(run.icons, run.device)
    vae = run.finished(vae_trainer(run))["vae"]
    noising = Noising.of(parts.make_upsampler_scheduler(), run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "upsampler", step)
        small, large = sizes.draw(run.recipe.upsampler_batch, draw)
        beside = enlarge(corrupt(small, vae, draw), large.shape[-1])
        clean, beside = crop(torch.cat([large, beside], 1), draw).split(3, 1)
        return clean_loss(upsampler, noising, clean, beside, draw)

    trainer.run(loss_at)


def clean_loss(upsampler: nn.Module, noising: Noising, clean: torch.Tensor, beside: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Squared error of the clean pictures [n, 3, h, w] that the network sees in noisy ones, beside what it is shown."""
    timesteps = torch.randint(1000, (len(clean),), generator=draw).to(clean.device)
    noise = torch.randn(clean.shape, generator=draw).to(clean.device)
    given = torch.cat([noising.add(clean, noise, timesteps), beside], 1).contiguous(memory_format=torch.channels_last)
    with mixed_precision(clean.device):
        predicted = upsampler(given, timesteps).sample
    return functional.mse_loss(predicted.float(), clean)


@torch.no_grad()
def corrupt(small: torch.Tensor, vae: AutoencoderKL, generator: torch.Generator) -> torch.Tensor:
    """Images [n, 3, h, w] in -1..1 of which some are blurred, all of those by one amount, and some went through the autoencoder."""
    chance = torch.rand(len(small), generator=generator).to(small.device)
    decoded = torch.nonzero(chance > 1 - DECODED_SHARE).flatten()
    changed = torch.where((chance < BLUR_SHARE)[:, None, None, None], blur(small, generator), small)
    changed[decoded] = vae.decode(vae.encode(small[decoded]).latent_dist.mode()).sample.clamp(-1, 1)
    return changed


def blur(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images [n, 3, h, w] under a Gaussian of one random deviation."""
    deviation = BLURS[0] + (BLURS[1] - BLURS[0]) * torch.rand(1, generator=generator).item()
    reach = torch.arange(-2, 3, dtype=torch.float32)
    line = torch.softmax(-(reach**2) / (2 * deviation**2), 0).to(images.device)
    kernel = (line[:, None] * line[None]).expand(3, 1, 5, 5)
    return functional.conv2d(functional.pad(images, (2,) * 4, mode="replicate"), kernel, groups=3)


def enlarge(small: torch.Tensor, side: int) -> torch.Tensor:
    """Images enlarged as the unCLIP pipeline does it before its upsampler."""
    return functional.interpolate(small, size=(side, side), mode="bicubic", align_corners=False, antialias=True)


def crop(images: torch.Tensor, generator: torch.Generator, side: int = CROP) -> torch.Tensor:
    """One crop of `side` pixels for all images."""
    top, left = torch.randint(images.shape[-1] - side + 1, (2,), generator=generator).tolist()
    return images[:, :, top : top + side, left : left + side]
