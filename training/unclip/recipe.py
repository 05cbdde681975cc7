"""What the stages of the `tiny-unclip` training share: its numbers, its words, its examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from transformers import CLIPTokenizer

from training.icons import Examples, draw_examples
from training.recipe import AnyRun
from training.tokens import make_tokenizer
from training.unclip.parts import TOKENS


@dataclass(frozen=True)
class Recipe:
    """Every number a run depends on. The defaults are those of one CPU core."""

    seed: int = 0
    concepts: int = 131
    examples: int = 16384
    vae_steps: int = 1500
    vae_rate: float = 2e-3
    vae_batch: int = 32
    polish_steps: int = 5000
    polish_rate: float = 7e-4
    clip_steps: int = 800
    clip_rate: float = 1e-3
    clip_batch: int = 128
    clip_concepts: int = 1219
    text_steps: int = 500
    text_rate: float = 1e-3
    text_batch: int = 256
    decoder_steps: int = 1000
    decoder_rate: float = 8e-4
    decoder_batch: int = 64
    prior_steps: int = 3000
    prior_rate: float = 5e-4
    prior_batch: int = 128
    upsampler_steps: int = 3000
    upsampler_rate: float = 1.5e-3
    upsampler_batch: int = 16
    second_upsampler_steps: int = 11000
    second_upsampler_rate: float = 2e-3
    second_upsampler_batch: int = 16
    classifier_steps: int = 2500
    classifier_rate: float = 2e-3
    classifier_batch: int = 64
    ar_prior_steps: int = 12000
    ar_prior_rate: float = 1e-3
    ar_prior_batch: int = 128


PRESETS = {
    "cpu": Recipe(),
    "gpu": Recipe(
        concepts=1219,
        examples=131072,
        vae_steps=4000,
        vae_batch=256,
        clip_steps=6000,
        clip_batch=1024,
        text_steps=1000,
        text_batch=1024,
        decoder_steps=24000,
        decoder_batch=512,
        prior_steps=8000,
        prior_batch=1024,
        upsampler_steps=8000,
        upsampler_batch=64,
        second_upsampler_steps=8000,
        second_upsampler_batch=64,
        ar_prior_steps=12000,
        ar_prior_batch=1024,
    ),
}
"""By name. `gpu` learns every concept of the data file; its times are not measured yet."""


@dataclass(frozen=True)
class Run(AnyRun):
    """A run of `tiny-unclip`."""

    recipe: Recipe

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer of the prepared file."""
        with np.load(self.data) as data:
            return make_tokenizer(json.loads(str(data["merges"])), TOKENS)

    @cached_property
    def word_vectors(self) -> torch.Tensor:
        """What the sentence encoder knows of each token: float32 [tokens, 128]."""
        with np.load(self.data) as data:
            return torch.from_numpy(data["word_vectors"].astype(np.float32))

    @cached_property
    def examples(self) -> Examples:
        """The captions and pictures that every stage learns from."""
        return draw_examples(self.icons, self.recipe.examples, [self.recipe.seed, 1])
