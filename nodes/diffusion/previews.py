"""Rough pictures of latents, without a VAE."""

from __future__ import annotations

import torch

from nodegraph import Image

RGB = {
    "kl-f8-c4-0.18215": ((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177)),
}
"""Space → what each latent channel is worth in red, green and blue of -1..1, by linear regression."""


def preview(latents: torch.Tensor, space: str) -> Image:
    """Latents at one pixel per cell: their colours where the space is known, otherwise their structure in false colours."""
    latents = latents.detach().float().cpu()
    if space == "pixels":
        return Image((latents / 2 + 0.5).clamp(0, 1))
    if factors := RGB.get(space):
        return Image((torch.einsum("nchw,cr->nrhw", latents, torch.tensor(factors, dtype=torch.float32)) / 2 + 0.5).clamp(0, 1))
    channels = latents[:, torch.arange(3) % latents.shape[1]]
    low, high = channels.amin(dim=(1, 2, 3), keepdim=True), channels.amax(dim=(1, 2, 3), keepdim=True)
    return Image((channels - low) / (high - low).clamp(min=1e-6))
