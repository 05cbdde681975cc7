"""What the stages of a training share: its files, its device, the drawings; and the numbers of `tiny-sd`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTokenizer

from training import parts
from training.icons import Icons
from training.loop import Trainer, torch_generator
from training.world import Examples, draw_world


@dataclass(frozen=True)
class Recipe:
    """Every number that a run of `tiny-sd` depends on. The defaults are those of one CPU core."""

    seed: int = 0
    concepts: int = 131
    examples: int = 49152
    shape_share: float = 0.25
    pair_share: float = 0.5
    vae_steps: int = 1500
    vae_rate: float = 2e-3
    vae_batch: int = 32
    unet_steps: int = 6000
    unet_rate: float = 1e-3
    unet_batch: int = 64
    inpainting_steps: int = 3000
    inpainting_rate: float = 1e-3
    inpainting_batch: int = 64
    instruction_steps: int = 3000
    instruction_rate: float = 1e-3
    instruction_batch: int = 64


@dataclass(frozen=True)
class AnyRun:
    """Where a run keeps its files and what it runs on."""

    recipe: Any
    data: Path
    work: Path
    device: torch.device
    resume: bool
    start: Path | None = None
    """A finished model whose weights the stages begin with, where they have no checkpoint."""

    @cached_property
    def icons(self) -> Icons:
        """The drawings of this run's concepts."""
        return Icons.load(self.data, self.recipe.concepts)

    @property
    def latents(self) -> Path:
        """The cache of encoded examples."""
        return self.work / "latents.pt"

    def begin(self, trainer: Trainer, beside: str = "") -> Trainer:
        """The trainer at its checkpoint if this run resumes one, else at step 0, anew or with the weights of `start`.

        Those of a model that lies beside it are under its name with `beside` at the end.
        """
        if self.resume and trainer.resume():
            print(f"resumed {trainer.checkpoint.name} at step {trainer.step}", flush=True)
        elif self.start is not None:
            trainer.start_from(self.start.with_name(self.start.name + beside), self.fitted)
        return trainer

    def fitted(self, module: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a module takes of the weights of `start`."""
        return weights

    def finished(self, trainer: Trainer) -> dict[str, nn.Module]:
        """The averaged modules of a stage's checkpoint. Raises FileNotFoundError where there is none."""
        if not trainer.resume():
            raise FileNotFoundError(f"{trainer.checkpoint}: train this stage first")
        return trainer.averages


@dataclass(frozen=True)
class Run(AnyRun):
    """A run of `tiny-sd`."""

    recipe: Recipe

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """One token per word of the captions and instructions."""
        return parts.make_tokenizer(self.icons)

    @cached_property
    def examples(self) -> Examples:
        """The captions and pictures that the stages learn from."""
        recipe = self.recipe
        return draw_world(self.icons, recipe.examples, [recipe.seed, 1], recipe.shape_share, recipe.pair_share)

    def fitted(self, module: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a module takes of the weights of `start`: its token vectors move to the same tokens of this run's tokenizer.

        Tokens that are new get random vectors like those that `start` has.
        """
        name = "embeddings.token_embedding.weight"
        if module != "text_encoder":
            return weights
        old = json.loads((self.start / "tokenizer/vocab.json").read_text())
        table = weights[name]
        vocabulary = self.tokenizer.get_vocab()
        generator = torch_generator(self.recipe.seed, "tokens", 0)
        widened = table.float().std() * torch.randn(len(vocabulary), table.shape[1], generator=generator)
        for token, number in vocabulary.items():
            if token in old:
                widened[number] = table[old[token]]
        return weights | {name: widened}


def change_of(recipe: type) -> Callable[[str], tuple[str, Any]]:
    """A reader of NAME=VALUE as one changed number of a recipe, for `argparse`."""
    kinds = {field.name: type(field.default) for field in fields(recipe)}

    def change(text: str) -> tuple[str, Any]:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(kinds)}")
        return name, kinds[name](value)

    return change
