"""Pictures worn down at random: blurred, made smaller, noisy, and saved as a JPEG, in random order (Zhang et al. 2021, BSRGAN)."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageFilter

FACTOR = 4
BLUR = 1.0
"""Greatest deviation of the blur, in pixels of the small picture."""
NOISE = 16.0
"""Greatest deviation of the noise, of values to 255."""
QUALITIES = (35, 95)
"""Least and greatest quality of the JPEG."""
SPARED = 0.3
"""How often each but the resizing is left out."""
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def wear(picture: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A picture uint8 [3, h, w], h and w by 4, worn and at a quarter of its size."""
    width = picture.shape[-1] // FACTOR
    steps = [_reduce, *(step for step in (_blur, _roughen, _compress) if rng.random() >= SPARED)]
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    for number in rng.permutation(len(steps)):
        image = steps[number](image, rng, image.width / width)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _reduce(image: Image.Image, rng: np.random.Generator, scale: float) -> Image.Image:
    return image.resize((image.width // FACTOR, image.height // FACTOR), FILTERS[rng.integers(len(FILTERS))])


def _blur(image: Image.Image, rng: np.random.Generator, scale: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(scale * BLUR * rng.random()))


def _roughen(image: Image.Image, rng: np.random.Generator, scale: float) -> Image.Image:
    """Noise of each channel or of all alike; in a large picture more, as what is left of it is less."""
    channels = 3 if rng.random() < 0.5 else 1
    noise = rng.normal(0, scale * NOISE * rng.random(), (image.height, image.width, channels))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _compress(image: Image.Image, rng: np.random.Generator, scale: float) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(*QUALITIES)))
    return Image.open(file).convert("RGB")
