"""The autoencoder stages: train it, encode the examples with it, then sharpen its decoder."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional

from training import parts
from training.loop import Schedule, Trainer, batches, mixed_precision, numpy_seed, save_atomically, torch_generator
from training.recipe import Run, trained
from training.shapes import draw_examples

FOREGROUND_WEIGHT = 6.0
"""How much more than a background pixel a pixel of a shape adds to the autoencoder's loss."""
KL_WEIGHT = 2e-3


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

    def loss_at(step: int) -> torch.Tensor:
        _, pictures = draw_examples(run.recipe.vae_batch, numpy_seed(run.recipe.seed, "vae", step))
        images = to_images(pictures).to(run.device, memory_format=torch.channels_last)
        noise = torch_generator(run.recipe.seed, "vae", step)
        with mixed_precision(run.device):
            latents = vae.encode(images).latent_dist
            decoded = vae.decode(draw_latents(latents, noise)).sample
        weight = 1 + FOREGROUND_WEIGHT * foreground(images)
        divergence = latents.kl().float().mean() / latents.mean[0].numel()
        return weighted_error(decoded.float(), images, weight) + KL_WEIGHT * divergence

    trainer.run(loss_at)
    print(f"vae: {reconstruction_psnr(run, trainer.averages['vae']):.1f} dB on new pictures", flush=True)


def draw_latents(latents: DiagonalGaussianDistribution, generator: torch.Generator) -> torch.Tensor:
    """A sample [n, 4, 8, 8] of the encoder's distributions, the same on every device."""
    return latents.mean + latents.std * torch.randn(latents.mean.shape, generator=generator).to(latents.mean.device)


def foreground(images: torch.Tensor) -> torch.Tensor:
    """1.0 where a picture [n, 3, h, w] differs from its corner, else 0.0: [n, 1, h, w]."""
    return ((images - images[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.1).float()


def weighted_error(decoded: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean L1 + L2 error of images [n, 3, h, w] in -1..1 under a weight per pixel [n, 1, h, w].

    With equal weights the shapes, a tenth of the pixels, stay grey for a long time.
    """
    error = decoded - images
    return (weight * (error.abs() + error.square())).mean()


@torch.no_grad()
def reconstruction_psnr(run: Run, vae: AutoencoderKL) -> float:
    """Peak signal-to-noise ratio, dB, of 128 pictures that training never drew."""
    _, pictures = draw_examples(128, numpy_seed(run.recipe.seed, "vae-test", 0))
    images = to_images(pictures).to(run.device)
    decoded = vae.decode(vae.encode(images).latent_dist.mode()).sample
    return float(10 * torch.log10(4 / functional.mse_loss(decoded, images)))


@torch.no_grad()
def encode_examples(run: Run) -> None:
    """Cache the latent distributions and token rows of the examples that the denoiser trains on.

    `moments`: float16 [n, 8, 8, 8], mean and deviation along the channels; `tokens`:
    int16 [n, 32]; `scale`: the factor that gives the latents unit deviation.
    """
    if run.resume and run.latents.exists():
        return
    vae = trained(run, vae_trainer(run))["vae"]
    tokenizer = parts.make_tokenizer()
    moments, tokens = [], []
    for number, rows in enumerate(batches(run.recipe.examples, 128)):
        texts, pictures = draw_examples(rows.stop - rows.start, numpy_seed(run.recipe.seed, "latents", number))
        images = to_images(pictures).to(run.device, memory_format=torch.channels_last)
        with mixed_precision(run.device):
            latents = vae.encode(images).latent_dist
        moments.append(torch.cat([latents.mean, latents.std], 1).half().cpu())
        tokens.append(parts.token_rows(tokenizer, texts).short())
    moments = torch.cat(moments)
    scale = 1 / moments[:, : parts.LATENT_CHANNELS].float().std().item()
    save_atomically({"moments": moments, "tokens": torch.cat(tokens), "scale": scale}, run.latents)
    print(f"latents: {len(moments)} examples, scale {scale:.4f}", flush=True)


def decoder_trainer(run: Run) -> Trainer:
    """The trained autoencoder with its encoder frozen, and how its decoder goes on."""
    vae = trained(run, vae_trainer(run))["vae"].train()
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    schedule = Schedule(run.recipe.decoder_steps, run.recipe.decoder_rate, rise=50, level_until=0.1)
    return Trainer({"vae": vae}, schedule, run.work / "decoder.pt", average_decay=0.99)


def train_decoder(run: Run) -> None:
    """Sharpen the decoder, the cached latents staying valid; leaves its checkpoint.

    Here the shapes of a picture weigh as much as its background, however small they are.
    """
    trainer = run.begin(decoder_trainer(run))
    vae = trainer.modules["vae"]

    def loss_at(step: int) -> torch.Tensor:
        _, pictures = draw_examples(run.recipe.decoder_batch, numpy_seed(run.recipe.seed, "decoder", step))
        images = to_images(pictures).to(run.device, memory_format=torch.channels_last)
        noise = torch_generator(run.recipe.seed, "decoder", step)
        with mixed_precision(run.device):
            with torch.no_grad():
                drawn = draw_latents(vae.encode(images).latent_dist, noise)
            decoded = vae.decode(drawn).sample
        shapes = foreground(images)
        return weighted_error(decoded.float(), images, 1 + shapes / shapes.mean((1, 2, 3), keepdim=True))

    trainer.run(loss_at)
    print(f"decoder: {reconstruction_psnr(run, trainer.averages['vae']):.1f} dB on new pictures", flush=True)


def to_images(pictures: np.ndarray) -> torch.Tensor:
    """Pictures uint8 [n, h, w, 3] as float [n, 3, h, w] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
