"""The autoencoder stages of both models: train it on the examples, then encode them with it."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional

from training import parts
from training.loop import Schedule, Trainer, batches, mixed_precision, torch_generator
from training.recipe import AnyRun

FOREGROUND_WEIGHT = 5.0
"""How much more than a background pixel a pixel of a thing adds to the loss."""
KL_WEIGHT = 2e-3
TEST_PICTURES = 256


def vae_trainer(run: AnyRun) -> Trainer:
    """The autoencoder of `tiny-sd`, untrained, and how it is to be trained."""
    return trainer_of(run, parts.make_vae)


def trainer_of(run: AnyRun, make_vae) -> Trainer:
    """An autoencoder, untrained, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed)
    vae = make_vae().to(run.device, memory_format=torch.channels_last)
    schedule = Schedule(run.recipe.vae_steps, run.recipe.vae_rate, rise=50, level_until=0.1)
    return Trainer({"vae": vae}, schedule, run.work / "vae.pt", average_decay=0.99)


def train_vae(run: AnyRun) -> None:
    """Train the autoencoder of `tiny-sd`; leaves its checkpoint."""
    fit(run, run.begin(vae_trainer(run)), "vae")


def fit(run: AnyRun, trainer: Trainer, stage: str, beyond=lambda means, images: 0.0, absolute: float = 1.0) -> None:
    """Train an autoencoder on the examples; `beyond` is a further loss of the means of its latents, for `absolute` see the error."""
    vae = trainer.modules["vae"]
    pictures = run.examples.pictures.to(run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, stage, step)
        rows = torch.randint(len(pictures), (run.recipe.vae_batch,), generator=draw).to(run.device)
        images = to_images(pictures[rows])
        with mixed_precision(run.device):
            latents = vae.encode(images).latent_dist
            decoded = vae.decode(draw_latents(latents, draw)).sample
        weight = 1 + FOREGROUND_WEIGHT * foreground(images)
        divergence = latents.kl().float().mean() / latents.mean[0].numel()
        return weighted_error(decoded.float(), images, weight, absolute) + KL_WEIGHT * divergence + beyond(latents.mean.float(), images)

    trainer.run(loss_at)
    print(f"{stage}: {reconstruction_psnr(run, trainer.averages['vae']):.1f} dB", flush=True)


def to_images(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures uint8 [n, 3, h, w] as float -1..1, channels last."""
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def draw_latents(latents: DiagonalGaussianDistribution, generator: torch.Generator) -> torch.Tensor:
    """A sample of the encoder's distributions, the same on every device."""
    return latents.mean + latents.std * torch.randn(latents.mean.shape, generator=generator).to(latents.mean.device)


def foreground(images: torch.Tensor) -> torch.Tensor:
    """1.0 where a picture [n, 3, h, w] differs from its corner, else 0.0: [n, 1, h, w]."""
    return ((images - images[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.1).float()


def weighted_error(decoded: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, absolute: float = 1.0) -> torch.Tensor:
    """Mean `absolute` L1 + L2 error of images [n, 3, h, w] in -1..1 under a weight per pixel [n, 1, h, w].

    With equal weights small things, a tenth of the pixels, stay grey for a long time.
    """
    error = decoded - images
    return (weight * (absolute * error.abs() + error.square())).mean()


@torch.no_grad()
def reconstruction_psnr(run: AnyRun, vae: AutoencoderKL) -> float:
    """Peak signal-to-noise ratio, dB, of pictures that are decoded from their encoding."""
    images = to_images(run.examples.pictures[-TEST_PICTURES:].to(run.device))
    decoded = vae.decode(vae.encode(images).latent_dist.mode()).sample
    return float(10 * torch.log10(4 / functional.mse_loss(decoded, images)))


@torch.no_grad()
def encoded(run: AnyRun, vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """What an autoencoder makes of pictures: float16 [n, 2c, 8, 8], mean and deviation of the latents along the channels."""
    moments = []
    for rows in batches(len(pictures), 256):
        with mixed_precision(run.device):
            latents = vae.encode(to_images(pictures[rows].to(run.device))).latent_dist
        moments.append(torch.cat([latents.mean, latents.std], 1).half().cpu())
    return torch.cat(moments)
