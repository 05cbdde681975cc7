"""Texts and pictures into the joint space of a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from nodegraph import Invalid

from .encoding import check_numbers
from .loading import readable

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection


_OWN_PREPARATION = "use the preprocessor_config.json that belongs to the image encoder"


class TextCode(NamedTuple):
    """What a text encoder makes of n texts: embeddings [n,D], states [n,T,W], and which of the T tokens are text [n,T]."""

    embedding: torch.Tensor
    states: torch.Tensor
    attended: torch.Tensor


@torch.no_grad()
def encode_text(texts: Sequence[str], tokenizer: CLIPTokenizer, encoder: CLIPTextModelWithProjection) -> TextCode:
    """All texts in one call; what is longer than the encoder takes is cut off, as a text has one embedding only."""
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    check_numbers(tokens.input_ids, encoder)
    output = encoder(tokens.input_ids.to(encoder.device))
    return TextCode(output.text_embeds, output.last_hidden_state, tokens.attention_mask.bool().to(encoder.device))


@torch.no_grad()
def encode_pictures(pictures: Sequence[Picture], processor: Any, encoder: CLIPVisionModelWithProjection) -> torch.Tensor:
    """Embeddings [n,D] of RGB pictures, resized, cropped and normalised as the model was trained.

    Raises Invalid where the model says how, but in a way that cannot be, or that its encoder does not take.
    """
    with readable("what the model says of the preparation of pictures", fix=_OWN_PREPARATION):
        pixels = processor(images=list(pictures), return_tensors="pt").pixel_values
    height, width = pixels.shape[2:]
    if (height, width) != (side := encoder.config.image_size, side):
        text = f"the model prepares pictures of {width}×{height} for its image encoder, which takes {side}×{side}"
        raise Invalid(text, fix=_OWN_PREPARATION, port="encoder")
    return encoder(pixels.to(encoder.device, encoder.dtype)).image_embeds


@torch.no_grad()
def encode_nothing(encoder: CLIPVisionModelWithProjection) -> torch.Tensor:
    """The embedding [1,D] of pixel values that are all zero."""
    side = encoder.config.image_size
    return encoder(torch.zeros(1, 3, side, side, device=encoder.device, dtype=encoder.dtype)).image_embeds
