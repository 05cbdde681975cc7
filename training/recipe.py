"""What the stages of the `tiny-sd` training share: its numbers, its files, its device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training.loop import Trainer


@dataclass(frozen=True)
class Recipe:
    """Every number a run depends on."""

    seed: int = 0
    vae_steps: int = 1000
    vae_rate: float = 2e-3
    vae_batch: int = 32
    examples: int = 32768
    unet_steps: int = 5400
    unet_rate: float = 1e-3
    unet_batch: int = 64
    decoder_steps: int = 700
    decoder_rate: float = 1e-3
    decoder_batch: int = 32


@dataclass(frozen=True)
class Run:
    """Where a run keeps its files and what it runs on."""

    recipe: Recipe
    work: Path
    device: torch.device
    resume: bool

    @property
    def latents(self) -> Path:
        """The cache of encoded examples."""
        return self.work / "latents.pt"

    def begin(self, trainer: Trainer) -> Trainer:
        """The trainer at its checkpoint if this run resumes one, else at step 0."""
        if self.resume and trainer.resume():
            print(f"resumed {trainer.checkpoint.name} at step {trainer.step}", flush=True)
        return trainer


def trained(run: Run, trainer: Trainer) -> dict[str, nn.Module]:
    """The averaged modules of a stage's checkpoint. Raises FileNotFoundError where there is none."""
    if not trainer.resume():
        raise FileNotFoundError(f"{trainer.checkpoint}: train this stage first")
    return trainer.averages
