"""The diffusion prior: from a caption and its text embedding to an image embedding."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from training.loop import Schedule, Trainer, mixed_precision, torch_generator
from training.unclip import parts
from training.unclip.decoder import Conditions
from training.unclip.diffusion import Noising
from training.unclip.recipe import Run

CAPTION_DROPOUT = 0.1
"""Share of rows with an empty caption, which guidance needs."""


def prior_trainer(run: Run) -> Trainer:
    """The prior, untrained but for the statistics of the embeddings it is to predict, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed + 4)
    prior = parts.make_prior().to(run.device)
    prior.clip_mean.requires_grad_(False)
    prior.clip_std.requires_grad_(False)
    schedule = Schedule(run.recipe.prior_steps, run.recipe.prior_rate, rise=100, level_until=0.3)
    return Trainer({"prior": prior}, schedule, run.work / "prior.pt", average_decay=0.998)


def train_prior(run: Run) -> None:
    """Train the prior on the cached embeddings; leaves its checkpoint."""
    trainer = run.begin(prior_trainer(run))
    conditions, empty = Conditions.load(run), Conditions.empty(run)
    mean, deviation = conditions.images.mean(0, keepdim=True), conditions.images.std(0, keepdim=True)
    for prior in (trainer.modules["prior"], trainer.averages["prior"]):
        prior.clip_mean.data.copy_(mean)
        prior.clip_std.data.copy_(deviation)
    targets = (conditions.images - mean) / deviation
    noising = Noising.of(parts.make_prior_scheduler(), run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "prior", step)
        count = run.recipe.prior_batch
        rows = torch.randint(len(targets), (count,), generator=draw).to(run.device)
        timesteps = torch.randint(1000, (count,), generator=draw).to(run.device)
        dropped = (torch.rand(count, generator=draw) < CAPTION_DROPOUT).to(run.device)
        noise = torch.randn(count, parts.EMBEDDING_WIDTH, generator=draw).to(run.device)
        clean, told = targets[rows], conditions.rows(rows).without_captions(dropped, empty)
        with mixed_precision(run.device):
            predicted = predict(trainer.modules["prior"], noising.add(clean, noise, timesteps), timesteps, told)
        return functional.mse_loss(predicted.float(), clean)

    trainer.run(loss_at)


def predict(prior: nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, told: Conditions) -> torch.Tensor:
    """The clean normalised embedding [n, 128] of a noisy one, given captions, as the unCLIP pipeline asks for it."""
    return prior(
        noisy, timesteps, proj_embedding=told.texts, encoder_hidden_states=told.states.float(), attention_mask=told.masks
    ).predicted_image_embedding
