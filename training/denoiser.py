"""The denoiser stage: denoiser and text encoder learn together from encoded examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from training import parts
from training.autoencoder import encoded, vae_trainer
from training.loop import Schedule, Trainer, mixed_precision, save_atomically, torch_generator
from training.recipe import Run

TEXTLESS = (0.0, 0.1)
"""Which tenth of the training rows has an empty prompt, for guidance."""
PICTURELESS = (0.05, 0.15)
"""Which tenth has no picture beside the latent, for image guidance; half of them have no prompt either."""
NEVER = (0.0, 0.0)


@dataclass(frozen=True)
class Encoded:
    """What a denoiser learns from: a row per example.

    `moments`: float16 [n, 8, 8, 8], mean and deviation of its latent; `tokens`: int16 [n, 32]; `scale`: the factor that
    gives latents unit deviation; `beside`: float16 [n, c, 8, 8], what the denoiser is shown beside the latent.
    """

    moments: torch.Tensor
    tokens: torch.Tensor
    scale: float
    beside: torch.Tensor | None = None

    @classmethod
    def load(cls, file: Path) -> Encoded:
        """What `save` wrote. Raises FileNotFoundError."""
        return cls(**torch.load(file, weights_only=True))

    def save(self, file: Path) -> None:
        """Write it whole or not at all."""
        save_atomically(vars(self), file)
        print(f"{file.stem}: {len(self.moments)} examples, scale {self.scale:.4f}", flush=True)


@torch.no_grad()
def encode_examples(run: Run) -> None:
    """Cache the encoded examples."""
    if run.resume and run.latents.exists():
        return
    moments = encoded(run, run.finished(vae_trainer(run))["vae"], run.examples.pictures)
    scale = 1 / moments[:, : parts.LATENT_CHANNELS].float().std().item()
    Encoded(moments, parts.token_rows(run.tokenizer, run.examples.texts).short(), scale).save(run.latents)


def unet_trainer(run: Run) -> Trainer:
    """Denoiser and text encoder, untrained, and how they are to be trained."""
    torch.manual_seed(run.recipe.seed + 1)
    unet = parts.make_unet().to(run.device, memory_format=torch.channels_last)
    text_encoder = parts.make_text_encoder(run.tokenizer).to(run.device)
    schedule = Schedule(run.recipe.unet_steps, run.recipe.unet_rate, rise=100, level_until=2 / 3)
    return Trainer({"unet": unet, "text_encoder": text_encoder}, schedule, run.work / "unet.pt", average_decay=0.998)


def train_unet(run: Run) -> None:
    """Train denoiser and text encoder together on the encoded examples; leaves their checkpoint."""
    trainer = run.begin(unet_trainer(run))
    text_encoder = trainer.modules["text_encoder"]
    fit(run, trainer, "unet", run.recipe.unet_batch, Encoded.load(run.latents), lambda rows: text_encoder(rows)[0])


def fit(
    run: Run,
    trainer: Trainer,
    stage: str,
    batch: int,
    examples: Encoded,
    states_of: Callable[[torch.Tensor], torch.Tensor],
    unseen: tuple[float, float] = NEVER,
) -> None:
    """Train the module `unet` to predict velocity (arXiv:2202.00512); `states_of` makes text states [n, 32, 128] of token rows.

    `unseen`: which share of the rows is not shown what lies beside its latent.
    """
    unet: nn.Module = trainer.modules["unet"]
    moments, tokens = examples.moments.to(run.device), examples.tokens.to(run.device)
    beside = None if examples.beside is None else examples.beside.to(run.device)
    empty = parts.token_rows(run.tokenizer, [""])[0].to(run.device)
    kept = parts.make_scheduler().alphas_cumprod.to(run.device)

    def loss_at(step: int) -> torch.Tensor:
        draws = draw_step(run, stage, step, batch, len(moments))
        mean, deviation = moments[draws.rows].float().chunk(2, 1)
        clean = (mean + deviation * draws.spread) * examples.scale
        prompts = torch.where(draws.within(TEXTLESS)[:, None], empty, tokens[draws.rows].long())
        signal = kept[draws.timesteps].sqrt().view(-1, 1, 1, 1)
        noise_level = (1 - kept[draws.timesteps]).sqrt().view(-1, 1, 1, 1)
        seen = signal * clean + noise_level * draws.noise
        if beside is not None:
            shown = beside[draws.rows].float() * ~draws.within(unseen)[:, None, None, None]
            seen = torch.cat([seen, shown], 1)
        with mixed_precision(run.device):
            predicted = unet(seen.contiguous(memory_format=torch.channels_last), draws.timesteps, states_of(prompts)).sample
        return functional.mse_loss(predicted.float(), signal * draws.noise - noise_level * clean)

    trainer.run(loss_at)


@dataclass(frozen=True)
class StepDraws:
    """The random numbers of one denoiser step, for a batch of n rows. `share`, 0..1, decides what a row is not told."""

    rows: torch.Tensor
    timesteps: torch.Tensor
    share: torch.Tensor
    spread: torch.Tensor
    noise: torch.Tensor

    def within(self, bounds: tuple[float, float]) -> torch.Tensor:
        """Which rows' share lies within bounds: bool [n]."""
        return (self.share >= bounds[0]) & (self.share < bounds[1])


def draw_step(run: Run, stage: str, step: int, count: int, examples: int) -> StepDraws:
    """Draw example rows, timesteps 0..999, what is left out, and two noises [n, 4, 8, 8]."""
    generator = torch_generator(run.recipe.seed, stage, step)
    shape = (count, parts.LATENT_CHANNELS, parts.LATENT_SIZE, parts.LATENT_SIZE)
    draws = (
        torch.randint(examples, (count,), generator=generator),
        torch.randint(1000, (count,), generator=generator),
        torch.rand(count, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
    )
    return StepDraws(*(draw.to(run.device) for draw in draws))
