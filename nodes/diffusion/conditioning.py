"""What a denoiser is told beside the latents: text states, and guidance where it was distilled into the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from nodegraph import Conditioning, Invalid

from .encoding import repeated

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def text_states(
    unet: UNet2DConditionModel, positive: Conditioning, negative: Conditioning | None, count: int, guidance: float
) -> torch.Tensor:
    """The text states of one forward: [n,T,D], or [2n,T,D] with the negative half first when there is guidance."""
    states = [_states_of(unet, positive, count, "positive")]
    if guidance > 1 and unet.config.time_cond_proj_dim is None:
        if negative is None:
            text = f"guidance {guidance:g} needs a negative conditioning"
            raise Invalid(text, fix="link encode_text of an empty text to negative, or set guidance to 1", port="negative")
        states.insert(0, _states_of(unet, negative, count, "negative"))
    return torch.cat(repeated(states))


def _states_of(unet: UNet2DConditionModel, conditioning: Conditioning, count: int, port: str) -> torch.Tensor:
    if "states" not in conditioning:
        raise Invalid("the conditioning has no text states", fix="make it with encode_text", port=port)
    states = conditioning.tensor("states", str(unet.device), unet.dtype)
    width = unet.config.encoder_hid_dim or unet.config.cross_attention_dim
    if isinstance(width, int) and states.shape[-1] != width:
        text = f"the text states are {states.shape[-1]} wide, but this denoiser takes {width}"
        raise Invalid(text, fix="encode the text with the encoder of the same model", port=port)
    if len(states) not in (1, count):
        raise Invalid(f"{len(states)} texts cannot go with {count} latents", fix=f"give 1 text or {count}", port=port)
    return states if len(states) == count else states.repeat(count, 1, 1)


def guidance_embedding(unet: UNet2DConditionModel, guidance: float, count: int) -> torch.Tensor | None:
    """For a denoiser that was distilled with guidance (arXiv:2310.04378) its sinusoidal embedding [n,D], otherwise None."""
    width = unet.config.time_cond_proj_dim
    if width is None:
        return None
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = (torch.tensor(guidance - 1).repeat(count) * 1000.0)[:, None] * frequencies[None, :]
    embedded = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return functional.pad(embedded, (0, width % 2)).to(unet.device, unet.dtype)
