"""What a denoiser is told beside the latents: text states, image embeddings, and guidance where it was distilled into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from nodegraph import Conditioning, Invalid

from .encoding import repeated
from .facts.rules import negative_problem, texts_problem
from .place import place

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Inputs:
    """The inputs of one forward on `rows` copies of a batch, one after the other; the row `conditional` follows the prompt.

    One row is the prompt alone, two are [unconditional; conditional], three [conditional; picture alone; unconditional].
    """

    rows: int
    conditional: int
    states: torch.Tensor | None
    further: dict[str, Any]


def forward_inputs(
    unet: UNet2DConditionModel,
    positive: Conditioning,
    negative: Conditioning | None,
    shape: Sequence[int],
    guidance: float,
    image_guidance: float | None = None,
) -> Inputs:
    """The inputs for latents of a shape [n,C,h,w]; `image_guidance` is given for denoisers that edit a picture beside the latents.

    Raises Invalid where the conditionings are not what the denoiser takes.
    """
    count, cells = shape[0], (shape[2], shape[3])
    guided = guidance > 1 and unet.config.time_cond_proj_dim is None and (image_guidance is None or image_guidance >= 1)
    if not guided:
        named = [("positive", positive)]
    elif negative is None:
        text, fix = negative_problem(guidance)
        raise Invalid(text, fix=fix, port="negative")
    elif image_guidance is None:
        named = [("negative", negative), ("positive", positive)]
    else:
        named = [("positive", positive), ("negative", negative), ("negative", negative)]
    further: dict[str, Any] = {"timestep_cond": _guidance_embedding(unet, guidance, count)}
    further |= _image_inputs(unet, named, count)
    conditional = [port for port, _ in named].index("positive")
    states = _text_states(unet, named, count)
    if states is not None and (attended := further.get("encoder_attention_mask")) is not None:
        padding = _padding(unet, states.shape[1], cells)
        states, further["encoder_attention_mask"] = functional.pad(states, (0, 0, 0, padding)), functional.pad(attended, (0, padding))
    return Inputs(len(named), conditional, states, further)


def _padding(unet: UNet2DConditionModel, tokens: int, cells: tuple[int, int]) -> int:
    """How many tokens that are not attended are put behind the text states of a denoiser that takes a mask of them.

    Where it attends to its own cells behind the text, diffusers tells the two by their counts: a mask as long as there are cells
    it takes for one of all keys, and fails. A token that is not attended changes nothing.
    """
    blocks = [down + up for down, up in zip(unet.config.down_block_types, reversed(unet.config.up_block_types), strict=True)]
    blocks[-1] += str(unet.config.mid_block_type)
    rows, columns = cells
    counts = {-(-rows // 2**level) * -(-columns // 2**level) for level, block in enumerate(blocks) if "Attn" in block}
    return next(padding for padding in range(len(counts) + 1) if tokens + padding not in counts)


def _text_states(unet: UNet2DConditionModel, named: Sequence[tuple[str, Conditioning]], count: int) -> torch.Tensor | None:
    """Text states [rows·n,T,D]; None for a denoiser that takes none."""
    if unet.config.encoder_hid_dim_type == "image_proj":
        return None
    return torch.cat(repeated([_states_of(unet, conditioning, count, port) for port, conditioning in named]))


def _states_of(unet: UNet2DConditionModel, conditioning: Conditioning, count: int, port: str) -> torch.Tensor:
    states = _array(unet, conditioning, "states", count, port, "text states", "make it with encode_text")
    width = unet.config.encoder_hid_dim or unet.config.cross_attention_dim
    if isinstance(width, int) and states.shape[-1] != width:
        text = f"the text states are {states.shape[-1]} wide, but this denoiser takes {width}"
        raise Invalid(text, fix="encode the text with the encoder of the same model", port=port)
    return states


def _image_inputs(unet: UNet2DConditionModel, named: Sequence[tuple[str, Conditioning]], count: int) -> dict[str, Any]:
    """What `condition_decoder` made of image embeddings, by the names of the forward's inputs."""

    def joined(name: str) -> torch.Tensor:
        fix = "make it with condition_decoder, for this denoiser"
        return torch.cat([_array(unet, one, name, count, port, "image embedding", fix) for port, one in named])

    found: dict[str, Any] = {}
    if unet.config.class_embed_type in ("identity", "projection"):
        found["class_labels"] = joined("class_labels")
    if unet.config.addition_embed_type == "image":
        found["added_cond_kwargs"] = {"image_embeds": joined("image_embeds")}
    if all("attended" in one for _, one in named):
        attended = [_expanded(one.tensor("attended", place(unet).device), count, port) for port, one in named]
        found["encoder_attention_mask"] = torch.cat(attended)
    return found


def _array(unet: UNet2DConditionModel, conditioning: Conditioning, name: str, count: int, port: str, what: str, fix: str) -> torch.Tensor:
    if name not in conditioning:
        raise Invalid(f"the conditioning has no {what}", fix=fix, port=port)
    return _expanded(conditioning.tensor(name, *place(unet)), count, port)


def _expanded(array: torch.Tensor, count: int, port: str) -> torch.Tensor:
    if problem := texts_problem(len(array), count):
        text, fix = problem
        raise Invalid(text, fix=fix, port=port)
    return array if len(array) == count else array.repeat(count, *[1] * (array.ndim - 1))


def _guidance_embedding(unet: UNet2DConditionModel, guidance: float, count: int) -> torch.Tensor | None:
    """For a denoiser that was distilled with guidance (arXiv:2310.04378) its sinusoidal embedding [n,D], otherwise None."""
    width = unet.config.time_cond_proj_dim
    if width is None:
        return None
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0, dtype=torch.float32)) / (half - 1)))
    angles = (torch.tensor(guidance - 1, dtype=torch.float32).repeat(count) * 1000.0)[:, None] * frequencies[None, :]
    embedded = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return functional.pad(embedded, (0, width % 2)).to(*place(unet))
