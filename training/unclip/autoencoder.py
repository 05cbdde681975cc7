"""The autoencoder's stages: pictures [n, 3, 32, 32] <-> latents [n, 8, 8, 8] that stay within bounds, and more of that picture."""

from __future__ import annotations

import torch

from training.autoencoder import encoded, fit, trainer_of
from training.loop import Schedule, Trainer, mixed_precision, save_atomically
from training.unclip import parts
from training.unclip.recipe import Run

BOUND = 2.0
"""Latents beyond this are pulled back: the sampling loop of unCLIP clamps, as it does pixels."""
TETHER = 0.05
"""What a latent's square distance from where it was, in deviations of all latents, adds to the loss of the polish."""


def vae_trainer(run: Run) -> Trainer:
    """The autoencoder, untrained, and how it is to be trained."""
    return trainer_of(run, parts.make_vae)


def train_vae(run: Run) -> None:
    """Train the autoencoder; leaves its checkpoint."""
    fit(run, run.begin(vae_trainer(run)), "unclip-vae", lambda means, images: beyond_bound(means))


def beyond_bound(means: torch.Tensor) -> torch.Tensor:
    """How far latents are beyond the bound: 0 where they are within."""
    return (means.abs() - BOUND).clamp(min=0).square().mean()


def polish_trainer(run: Run) -> Trainer:
    """The finished autoencoder, and how it is to be trained on."""
    schedule = Schedule(run.recipe.polish_steps, run.recipe.polish_rate, level_until=0.1)
    return Trainer(run.finished(vae_trainer(run)), schedule, run.work / "polish.pt", average_decay=0.995)


def polish_vae(run: Run) -> None:
    """Train the finished autoencoder on, its latents tethered to what they are: what learns of them need not learn anew."""
    before = run.finished(vae_trainer(run))["vae"].to(run.device)
    moments = torch.load(run.latents, weights_only=True)["moments"]
    deviation = moments[::16, : parts.LATENT_CHANNELS].float().std().item()

    def beyond(means: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), mixed_precision(run.device):
            were = before.encode(images).latent_dist.mean.float()
        return beyond_bound(means) + TETHER * ((means - were) / deviation).square().mean()

    fit(run, run.begin(polish_trainer(run)), "unclip-polish", beyond, absolute=0.2)


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
