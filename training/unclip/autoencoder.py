"""The autoencoder stage: pictures [n, 3, 32, 32] <-> latents [n, 8, 8, 8] that stay within bounds."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from training.autoencoder import draw_latents, foreground, weighted_error
from training.loop import Schedule, Trainer, batches, mixed_precision, save_atomically, torch_generator
from training.unclip import parts
from training.unclip.recipe import Run, to_images

FOREGROUND_WEIGHT = 5.0
KL_WEIGHT = 2e-3
BOUND = 2.0
"""Latents beyond this are pulled back: the sampling loop of unCLIP clamps, as it does pixels."""
BOUND_WEIGHT = 1.0
TEST_PICTURES = 256


def vae_trainer(run: Run) -> Trainer:
    """The autoencoder, untrained, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed)
    vae = parts.make_vae().to(run.device, memory_format=torch.channels_last)
    schedule = Schedule(run.recipe.vae_steps, run.recipe.vae_rate, rise=50, level_until=0.1)
    return Trainer({"vae": vae}, schedule, run.work / "vae.pt", average_decay=0.99)


def train_vae(run: Run) -> None:
    """Train the autoencoder; leaves its checkpoint."""
    trainer = run.begin(vae_trainer(run))
    vae = trainer.modules["vae"]
    pictures = run.examples.pictures.to(run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "unclip-vae", step)
        rows = torch.randint(len(pictures), (run.recipe.vae_batch,), generator=draw).to(run.device)
        images = to_images(pictures[rows])
        with mixed_precision(run.device):
            latents = vae.encode(images).latent_dist
            decoded = vae.decode(draw_latents(latents, draw)).sample
        weight = 1 + FOREGROUND_WEIGHT * foreground(images)
        divergence = latents.kl().float().mean() / latents.mean[0].numel()
        beyond = (latents.mean.float().abs() - BOUND).clamp(min=0).square().mean()
        return weighted_error(decoded.float(), images, weight) + KL_WEIGHT * divergence + BOUND_WEIGHT * beyond

    trainer.run(loss_at)
    print(f"vae: {reconstruction_psnr(run, trainer.averages['vae']):.1f} dB", flush=True)


@torch.no_grad()
def reconstruction_psnr(run: Run, vae: AutoencoderKL) -> float:
    """Peak signal-to-noise ratio, dB, of pictures that are decoded from their encoding."""
    images = to_images(run.examples.pictures[:TEST_PICTURES].to(run.device))
    decoded = vae.decode(vae.encode(images).latent_dist.mode()).sample
    return float(10 * torch.log10(4 / functional.mse_loss(decoded, images)))


@torch.no_grad()
def encode_examples(run: Run) -> None:
    """Cache the latent distributions of all examples: `moments`, float16 [n, 16, 8, 8], mean and deviation; and `scale`.

    `scale` puts 99.9 % of the latents within -1..1, where the decoder's sampling clamps.
    """
    file = run.work / "latents.pt"
    if run.resume and file.exists():
        return
    vae = run.finished(vae_trainer(run))["vae"]
    moments = []
    for rows in batches(len(run.examples.pictures), 256):
        with mixed_precision(run.device):
            latents = vae.encode(to_images(run.examples.pictures[rows].to(run.device))).latent_dist
        moments.append(torch.cat([latents.mean, latents.std], 1).half().cpu())
    moments = torch.cat(moments)
    sample = moments[::16, : parts.LATENT_CHANNELS].float()
    scale = 1 / sample.abs().flatten().sort().values[int(0.999 * sample.numel())].item()
    save_atomically({"moments": moments, "scale": scale}, file)
    print(f"latents: {len(moments)} examples, scale {scale:.4f}, deviation {sample.std().item() * scale:.3f}", flush=True)
