"""The autoencoder stage: pictures [n, 3, 32, 32] <-> latents [n, 8, 8, 8] that stay within bounds."""

from __future__ import annotations

import torch

from training.autoencoder import encoded, fit, trainer_of
from training.loop import Trainer, save_atomically
from training.unclip import parts
from training.unclip.recipe import Run

BOUND = 2.0
"""Latents beyond this are pulled back: the sampling loop of unCLIP clamps, as it does pixels."""


def vae_trainer(run: Run) -> Trainer:
    """The autoencoder, untrained, and how it is to be trained."""
    return trainer_of(run, parts.make_vae)


def train_vae(run: Run) -> None:
    """Train the autoencoder; leaves its checkpoint."""
    fit(run, run.begin(vae_trainer(run)), "unclip-vae", lambda means: (means.abs() - BOUND).clamp(min=0).square().mean())


@torch.no_grad()
def encode_examples(run: Run) -> None:
    """Cache the latent distributions of all examples: `moments`, float16 [n, 16, 8, 8], mean and deviation; and `scale`.

    `scale` puts 99.9 % of the latents within -1..1, where the decoder's sampling clamps.
    """
    if run.resume and run.latents.exists():
        return
    moments = encoded(run, run.finished(vae_trainer(run))["vae"], run.examples.pictures)
    sample = moments[::16, : parts.LATENT_CHANNELS].float()
    scale = 1 / sample.abs().flatten().sort().values[int(0.999 * sample.numel())].item()
    save_atomically({"moments": moments, "scale": scale}, run.latents)
    print(f"latents: {len(moments)} examples, scale {scale:.4f}, deviation {sample.std().item() * scale:.3f}", flush=True)
