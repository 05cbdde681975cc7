"""The denoiser stage: denoiser and text encoder learn together from the cached latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from training import parts
from training.loop import Schedule, Trainer, mixed_precision, torch_generator
from training.recipe import Run

UNCONDITIONAL_SHARE = 0.1
"""Share of training rows with an empty prompt, which guidance needs."""


def unet_trainer(run: Run) -> Trainer:
    """Denoiser and text encoder, untrained, and how they are to be trained."""
    torch.manual_seed(run.recipe.seed + 1)
    unet = parts.make_unet().to(run.device, memory_format=torch.channels_last)
    text_encoder = parts.make_text_encoder(parts.make_tokenizer()).to(run.device)
    schedule = Schedule(run.recipe.unet_steps, run.recipe.unet_rate, rise=100, level_until=2 / 3)
    return Trainer({"unet": unet, "text_encoder": text_encoder}, schedule, run.work / "unet.pt", average_decay=0.998)


def train_unet(run: Run) -> None:
    """Train denoiser and text encoder together on the cached examples; leaves their checkpoint."""
    trainer = run.begin(unet_trainer(run))
    cache = torch.load(run.latents, weights_only=True)
    moments, tokens = cache["moments"].to(run.device), cache["tokens"].to(run.device)
    empty = parts.token_rows(parts.make_tokenizer(), [""])[0].to(run.device)
    kept = parts.make_scheduler().alphas_cumprod.to(run.device)
    unet, text_encoder = trainer.modules["unet"], trainer.modules["text_encoder"]

    def loss_at(step: int) -> torch.Tensor:
        draws = draw_step(run, step, len(moments))
        mean, deviation = moments[draws.rows].float().chunk(2, 1)
        clean = (mean + deviation * draws.spread) * cache["scale"]
        prompts = torch.where(draws.unconditional[:, None], empty, tokens[draws.rows].long())
        signal = kept[draws.timesteps].sqrt().view(-1, 1, 1, 1)
        noise_level = (1 - kept[draws.timesteps]).sqrt().view(-1, 1, 1, 1)
        noisy = (signal * clean + noise_level * draws.noise).contiguous(memory_format=torch.channels_last)
        with mixed_precision(run.device):
            predicted = unet(noisy, draws.timesteps, text_encoder(prompts)[0]).sample
        return functional.mse_loss(predicted.float(), signal * draws.noise - noise_level * clean)

    trainer.run(loss_at)


@dataclass(frozen=True)
class StepDraws:
    """The random numbers of one denoiser step, for a batch of n rows."""

    rows: torch.Tensor
    timesteps: torch.Tensor
    unconditional: torch.Tensor
    spread: torch.Tensor
    noise: torch.Tensor


def draw_step(run: Run, step: int, examples: int) -> StepDraws:
    """Draw example rows, timesteps 0..999, empty prompts and two noises [n, 4, 8, 8]."""
    generator = torch_generator(run.recipe.seed, "unet", step)
    count = run.recipe.unet_batch
    shape = (count, parts.LATENT_CHANNELS, parts.LATENT_SIZE, parts.LATENT_SIZE)
    draws = (
        torch.randint(examples, (count,), generator=generator),
        torch.randint(1000, (count,), generator=generator),
        torch.rand(count, generator=generator) < UNCONDITIONAL_SHARE,
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
    )
    return StepDraws(*(draw.to(run.device) for draw in draws))
