"""The autoregressive prior's stage: from a caption and its text embedding to an image embedding as codes, one by one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from training.loop import Schedule, Trainer, mixed_precision, torch_generator
from training.unclip import parts
from training.unclip.decoder import Conditions
from training.unclip.prior import CAPTION_DROPOUT
from training.unclip.recipe import Run

SOFTNESS = 0.7
"""Deviation, in levels, of what a code's target is spread over: to say a neighbouring level is no great mistake."""


def ar_prior_trainer(run: Run) -> Trainer:
    """The prior, untrained, its codes not fitted yet, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed + 6)
    prior = parts.make_ar_prior().to(run.device)
    schedule = Schedule(run.recipe.ar_prior_steps, run.recipe.ar_prior_rate, rise=100, level_until=0.3)
    return Trainer({"ar_prior": prior}, schedule, run.work / "ar_prior.pt", average_decay=0.998)


def train_ar_prior(run: Run) -> None:
    """Train the prior on the cached embeddings; leaves its checkpoint.

    Always anew: its codes are fitted to the embeddings, so weights for other codes mean nothing.
    """
    trainer = replace(run, start=None).begin(ar_prior_trainer(run))
    conditions, empty = Conditions.load(run), Conditions.empty(run)
    prior = trainer.modules["ar_prior"]
    if trainer.step == 0:
        for one in (prior, trainer.averages["ar_prior"]):
            one.fit(conditions.images, conditions.texts)
    codes = prior.encode(conditions.images)
    similarities = prior.similarity(conditions.images, conditions.texts)
    targets = soft_levels(prior.config.levels).to(run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "ar-prior", step)
        count = run.recipe.ar_prior_batch
        rows = torch.randint(len(codes), (count,), generator=draw).to(run.device)
        dropped = (torch.rand(count, generator=draw) < CAPTION_DROPOUT).to(run.device)
        told = conditions.rows(rows).without_captions(dropped, empty)
        with mixed_precision(run.device):
            logits = prior(told.texts, told.states.float(), told.masks, similarities[rows], codes[rows])
        return functional.cross_entropy(logits.float().flatten(0, 1), targets[codes[rows]].flatten(0, 1))

    trainer.run(loss_at)


def soft_levels(levels: int) -> torch.Tensor:
    """For each level what a prediction is to give to all of them, float32 [levels, levels]: a Gaussian around it."""
    places = torch.arange(levels, dtype=torch.float32)
    return torch.softmax(-((places[:, None] - places) ** 2) / (2 * SOFTNESS**2), dim=1)
