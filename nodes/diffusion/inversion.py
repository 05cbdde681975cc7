"""DDIM inversion (arXiv:2105.05233, section F): the noisy latent from which DDIM without fresh noise comes to a given picture."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch

from nodegraph import Invalid

from . import schedulers
from .facts.samplers import NOT_OF_DDIM
from .sampling import Sampling

TOLERANCE = 1e-6
"""The mean squared error, in the latent's units, at which a step counts as inverted."""
MEMORY = 4
"""How many earlier turns the next one makes use of."""
RIDGE = 1e-6
"""Keeps turns that missed alike from being weighed against each other without bounds."""
LEAST_RATE = 0.5
"""Where almost all is noise the rate of DDIM is nearly 0, and a guess would not move."""


@torch.no_grad()
def invert(sampling: Sampling, turns: int, report: Callable[[int, int], None]) -> tuple[torch.Tensor, float]:
    """The latent before the first step of a sampling by ddim, and the largest root mean squared error of an inverted step.

    A step takes x to y; sought is x for a given y. DDIM's step is close to y = x·√(ᾱ'/ᾱ) + e(x) with a slowly changing e, so
    that x ← x + √(ᾱ/ᾱ')·(y - step(x)) converges where the denoiser is smooth. One turn of it is the usual inversion, which
    takes the prediction at the wrong end of the step; further turns take the error away (arXiv:2312.12540), mixed as in `_mixed`.
    """
    if not torch.is_tensor(getattr(sampling.scheduler, "alphas_cumprod", None)):
        raise Invalid(NOT_OF_DDIM[0], fix=NOT_OF_DDIM[1], port="model")
    latents, span, worst = reachable(sampling.scheduler, sampling.start.sample), sampling.span(), 0.0
    for done, index in enumerate(reversed(span), 1):
        latents, error = _before(sampling, index, latents, turns)
        worst = max(worst, error)
        report(done, len(span))
    return latents, worst


def reachable(scheduler: object, latents: torch.Tensor) -> torch.Tensor:
    """The nearest latents that a sampling can end with: a scheduler that clips what it predicts never comes to more.

    A number beyond that would have to be explained by noise, more of it with each step back.
    """
    config = scheduler.config  # type: ignore[attr-defined]
    return latents.clamp(-config.clip_sample_range, config.clip_sample_range) if config.get("clip_sample") else latents


def _before(sampling: Sampling, index: int, after: torch.Tensor, turns: int) -> tuple[torch.Tensor, float]:
    """The latents that the step `index` takes to `after`, as near as the turns allow, and the root mean squared error.

    Each turn mixes the last ones so that what they missed cancels (Anderson 1965): a guided denoiser is too steep for plain turns.
    """
    scheduler = sampling.scheduler
    timestep = scheduler.timesteps[index]
    rate = max(_rate(scheduler, int(timestep)), LEAST_RATE)
    best, least = after, float("inf")
    guess, guesses, misses = after, [], []
    for _ in range(turns + 1):
        prediction = sampling.predict(guess, index)
        reached, _ = schedulers.step(scheduler, prediction, timestep, guess, {"eta": 0.0})
        missed = after - reached
        error = float(missed.float().square().mean())
        if error < least:
            best, least = guess, error
        if error < TOLERANCE or not error <= 100 * least:  # nor where it is no number
            break
        guesses, misses = [*guesses[-MEMORY:], guess], [*misses[-MEMORY:], missed]
        guess = _mixed(guesses, misses, rate)
    return best, least**0.5


def _mixed(guesses: list[torch.Tensor], misses: list[torch.Tensor], rate: float) -> torch.Tensor:
    """The next guess by Anderson's method, for each picture of the batch [n, ...] by itself."""
    guess, missed = guesses[-1] + rate * misses[-1], misses[-1]
    if len(guesses) == 1:
        return guess
    steps = torch.stack([later - one for one, later in pairwise(guesses)], -1).flatten(1, -2).float()
    changes = torch.stack([later - one for one, later in pairwise(misses)], -1).flatten(1, -2).float()
    products = changes.mT @ changes
    ridge = RIDGE * products.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + torch.finfo(products.dtype).tiny
    aimed = changes.mT @ missed.flatten(1).float()[..., None]
    shares = torch.linalg.solve(products + ridge * torch.eye(products.shape[-1]).to(products), aimed)
    return guess - ((steps + rate * changes) @ shares)[..., 0].view_as(guess).to(guess.dtype)


def _rate(scheduler: object, timestep: int) -> float:
    """√(ᾱ/ᾱ') of the step from a timestep to the one below."""
    kept = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    below = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps  # type: ignore[attr-defined]
    target = kept[below] if below >= 0 else scheduler.final_alpha_cumprod  # type: ignore[attr-defined]
    return float((kept[timestep] / target) ** 0.5)
