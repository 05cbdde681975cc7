"""Diffusion upsamplers (arXiv:2204.06125, section 2.1): noise to a large picture beside the small one, bit for bit as in UnCLIPPipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from . import schedulers
from .latents import draw_noise
from .place import place

if TYPE_CHECKING:
    from .unclip_loading import SuperResolution


@torch.no_grad()
@schedulers.of_part("upsampler")
def upsample(
    networks: SuperResolution,
    small: torch.Tensor,
    size: tuple[int, int],
    steps: int,
    generators: list[torch.Generator],
    report: Callable[[int], None],
) -> torch.Tensor:
    """Pixels [n,3,h,w] in -1..1 at another (height, width), in -1..1 but not clamped. `report` is called after each step."""
    first = networks.first
    scheduler = schedulers.make_scheduler(networks.scheduler)
    schedulers.set_timesteps(scheduler, steps)
    at = place(first)
    times = scheduler.timesteps.to(at.device)
    small = small.to(*at).clamp(-1, 1)
    noise = draw_noise((len(small), first.config.out_channels, *size), generators, *at)
    large = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    # in float32, as a CPU has no such interpolation of half precision
    beside = functional.interpolate(small.float(), size=size, mode="bicubic", align_corners=False, antialias=True).to(at.dtype)
    options = schedulers.step_options(scheduler, 0.0, generators)
    for index, timestep in enumerate(scheduler.timesteps):
        network = networks.last if index == len(scheduler.timesteps) - 1 else first
        given = torch.cat([schedulers.scaled(scheduler, large, timestep), beside], dim=1)
        prediction = network(sample=given, timestep=times[index]).sample
        options = schedulers.at(options, scheduler.timesteps, index)
        large, _ = schedulers.step(scheduler, prediction, timestep, large, options)
        report(index + 1)
    return large
