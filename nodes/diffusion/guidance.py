"""How the predictions of one forward become one: the combinations of guidance."""

from __future__ import annotations

import torch


def guide(prediction: torch.Tensor, guidance: float, rescale: float) -> torch.Tensor:
    """Classifier-free guidance (arXiv:2207.12598) of a prediction [unconditional; conditional].

    `rescale` mixes in the result with the deviation of the conditional half (arXiv:2305.08891, section 3.4).
    """
    unconditional, conditional = prediction.chunk(2)
    mixed = unconditional + guidance * (conditional - unconditional)
    if rescale <= 0:
        return mixed
    axes = list(range(1, mixed.ndim))
    rescaled = mixed * (conditional.std(dim=axes, keepdim=True) / mixed.std(dim=axes, keepdim=True))
    return rescale * rescaled + (1 - rescale) * mixed


def guide_edit(prediction: torch.Tensor, guidance: float, image_guidance: float) -> torch.Tensor:
    """The guidance of InstructPix2Pix (arXiv:2211.09800, section 3.2.1) of [conditional; picture alone; unconditional]."""
    conditional, picture, unconditional = prediction.chunk(3)
    return unconditional + guidance * (conditional - picture) + image_guidance * (picture - unconditional)


def split_variance(prediction: torch.Tensor, channels: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The mean [n,C,…] and the variance of a denoiser that predicts both, or None."""
    if prediction.shape[1] != 2 * channels:
        return prediction, None
    mean, variance = prediction.split(channels, dim=1)
    return mean, variance
