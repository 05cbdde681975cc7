"""Diffusion as UnCLIPScheduler samples it: noising, and the losses of a predicted noise and a learned variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import UnCLIPScheduler


@dataclass(frozen=True)
class Noising:
    """The noise schedule on one device: `kept`, the share of the signal's power that is left at each timestep."""

    kept: torch.Tensor

    @classmethod
    def of(cls, scheduler: UnCLIPScheduler, device: torch.device) -> Noising:
        """The schedule that a scheduler samples with."""
        return cls(scheduler.alphas_cumprod.to(device))

    def signal(self, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Factor of the clean sample, shaped to multiply `like`."""
        return self.kept[timesteps].sqrt().view(-1, *[1] * (like.dim() - 1))

    def noise(self, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Factor of the noise, shaped to multiply `like`."""
        return (1 - self.kept[timesteps]).sqrt().view(-1, *[1] * (like.dim() - 1))

    def add(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noisy sample at each timestep."""
        return self.signal(timesteps, clean) * clean + self.noise(timesteps, clean) * noise

    def variance_loss(self, clean: torch.Tensor, predicted: torch.Tensor, fraction: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Bits a number by which a step with this learned variance differs from the true one (Nichol and Dhariwal 2021, eq. 14-15).

        `predicted` is the clean sample that the mean stands on; it takes no gradient.
        `fraction` -1..1 lies between the logarithms of the least and the greatest variance.
        """
        now = self.kept[timesteps]
        before = torch.where(timesteps > 0, self.kept[(timesteps - 1).clamp(min=0)], torch.ones_like(now))
        beta = 1 - now / before
        least = ((1 - before) / (1 - now) * beta).clamp(min=1e-20)
        shape = (-1, *[1] * (clean.dim() - 1))
        low, high = least.log().view(shape), beta.log().view(shape)
        mixed = (fraction + 1) / 2
        variance = mixed * high + (1 - mixed) * low
        shift = (before.sqrt() * beta / (1 - now)).view(shape) * (clean - predicted.detach())
        divergence = 0.5 * (variance - low - 1 + (low - variance).exp() + shift.square() * (-variance).exp())
        return (divergence.flatten(1).mean(1) * (timesteps > 0)).mean() / math.log(2)
