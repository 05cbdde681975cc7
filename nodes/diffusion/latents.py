"""Between pixels and latents: the arithmetic and the draws of diffusers' Stable Diffusion pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from nodegraph import Invalid

from .loading import is_movq
from .place import place

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Pixels [n,3,h,w] in -1..1 to scaled latents; one call and one draw for each picture, from its own generator.

    Kandinsky's MoVQ draws nothing and takes the batch in one call.
    """
    if is_movq(vae):
        return vae.encode(pixels.to(*place(vae))).latents
    drawn = [_draw(vae.encode(one[None].to(*place(vae))), generator) for one, generator in zip(pixels, generators, strict=True)]
    latents = torch.cat(drawn)
    if shift := getattr(vae.config, "shift_factor", None):
        latents = latents - shift
    return vae.config.scaling_factor * latents


@torch.no_grad()
def encode_mode(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [n,3,h,w] in -1..1 to their likeliest latents, not scaled; one call for the batch and no draw."""
    encoded = vae.encode(pixels.to(*place(vae)))
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents


def _draw(encoded: object, generator: torch.Generator) -> torch.Tensor:
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.sample(generator)
    return encoded.latents  # type: ignore[attr-defined]


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, smaller: int = 0) -> torch.Tensor:
    """Scaled latents to pixels [n,3,h,w], float32 in 0..1; one call for the batch.

    `smaller`: 1 decodes one picture after another, 2 each in overlapping tiles where the VAE can; both collect on the host.
    """
    latents = latents.to(*place(vae)) / vae.config.scaling_factor
    if shift := getattr(vae.config, "shift_factor", None):
        latents = latents + shift
    options = {"force_not_quantize": True} if is_movq(vae) else {}
    if not smaller:
        return _pixels(vae.decode(latents, return_dict=False, **options)[0])
    one_by_one = vae.tiled_decode if smaller > 1 and hasattr(vae, "tiled_decode") else vae.decode
    return torch.cat([_pixels(one_by_one(one, return_dict=False, **options)[0]).cpu() for one in latents.split(1)])


def _pixels(decoded: torch.Tensor) -> torch.Tensor:
    if not decoded.isfinite().all():
        raise Invalid("the VAE gave values that are no numbers", fix="with half precision, use float32", port="latent")
    return (decoded / 2 + 0.5).clamp(0, 1).float()


KANDINSKY_GROWTH = ((1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.0, 1.0, 1.0))
"""How far the mask of an inpainting by Kandinsky reaches around each of its cells: its pipeline leaves two corners out."""


class Inpaint(NamedTuple):
    """What an inpainting starts from, each [n,…,h,w] in latent cells; `image` is None where it is not needed."""

    image: torch.Tensor | None
    noise: torch.Tensor
    mask: torch.Tensor
    masked: torch.Tensor


@torch.no_grad()
def encode_inpaint(
    vae: AutoencoderKL, pixels: torch.Tensor, mask: torch.Tensor, generators: Sequence[torch.Generator], with_image: bool
) -> Inpaint:
    """The draws of StableDiffusionInpaintPipeline in its order: the picture if asked for, the noise, the masked picture.

    Pixels [n,3,h,w] in -1..1, mask [n or 1,1,any,any] in 0..1. The masked picture draws even for a denoiser that has no use
    for it. Kandinsky encodes the picture once, draws the noise alone, masks latents in place of pixels, and lets the mask
    grow by one cell.
    """
    mask = (functional.interpolate(mask, size=pixels.shape[-2:]) >= 0.5).to(pixels).expand(len(pixels), -1, -1, -1)
    movq = is_movq(vae)
    image = encode(vae, pixels, generators) if with_image or movq else None
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    size = (pixels.shape[2] // factor, pixels.shape[3] // factor)
    noise = draw_noise((len(pixels), vae.config.latent_channels, *size), generators, *place(vae))
    cells = functional.interpolate(mask, size=size).to(*place(vae))
    if movq:
        cells = (functional.conv2d(cells, cells.new_tensor(KANDINSKY_GROWTH)[None, None], padding=1) > 0).to(cells)
        return Inpaint(image, noise, cells, image * (1 - cells))
    masked = encode(vae, pixels * (mask < 0.5), generators)
    return Inpaint(image, noise, cells, masked)


def draw_noise(shape: Sequence[int], generators: Sequence[torch.Generator], device: str, dtype: torch.dtype) -> torch.Tensor:
    """Unit noise, drawn on the CPU, each picture's from its own generator."""
    return torch.cat([torch.randn((1, *shape[1:]), generator=generator, dtype=dtype) for generator in generators]).to(device)
