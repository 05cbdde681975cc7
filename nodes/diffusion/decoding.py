"""Image embeddings as the decoders of unCLIP take them, bit for bit as in the pipelines of their families."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from nodegraph import Conditioning, Invalid

from . import schedulers
from .facts.rules import NEEDED, NO_CAPTION, batches_problem
from .place import place

if TYPE_CHECKING:
    from .unclip_loading import Conditioner

Pair = tuple[Conditioning, Conditioning | None]
"""A positive conditioning, and a negative one if it is asked for."""


@torch.no_grad()
def projected(
    conditioner: Conditioner, embedding: torch.Tensor | None, caption: Conditioning | None, negative: Conditioning | None
) -> Pair:
    """Karlo: embeddings [n,D] and captions projected into class labels and states; extra context tokens go first.

    Without an embedding the learned one stands in that the decoder knows from training without any.
    """
    module = conditioner.projection
    if module is None:
        raise Invalid("the model has no 'text_proj/', which projects image embeddings", fix="copy the whole model folder", port="decoder")
    if caption is None:
        raise _lacking("projected")
    at = place(module)
    learned = module.learned_classifier_free_guidance_embeddings[None]
    embedding = learned if embedding is None else embedding.to(*at)
    named = [("caption", caption)] if negative is None else [("negative", negative), ("caption", caption)]
    count = max(len(embedding), *(len(one) for _, one in named))
    given = [_expanded(embedding, count, "embedding")]
    for port, one in named:
        if "pooled" not in one or "attended" not in one:
            raise Invalid("the conditioning has no embedding of its text", fix=NO_CAPTION, port=port)

    def rows(name: str, *where: object) -> torch.Tensor:
        return torch.cat([_expanded(one.tensor(name, *where), count, port) for port, one in named])

    states, labels = module(
        image_embeddings=given[0],
        prompt_embeds=rows("pooled", *at),
        text_encoder_hidden_states=rows("states", *at),
        do_classifier_free_guidance=len(named) == 2,
    )
    attended = functional.pad(rows("attended", at.device), (module.config.clip_extra_context_tokens, 0), value=True)
    halves = [
        Conditioning({"states": one, "class_labels": label, "attended": mask})
        for one, label, mask in zip(*(tensor.chunk(len(named)) for tensor in (states, labels, attended)), strict=True)
    ]
    return halves[-1], halves[0] if len(named) == 2 else None


def alone(embedding: torch.Tensor | None, negative: torch.Tensor | None) -> Pair:
    """Kandinsky 2.2: the embeddings themselves."""
    if embedding is None:
        raise _lacking("image")
    if negative is None:
        return Conditioning({"image_embeds": embedding}), None
    count = max(len(embedding), len(negative))
    rows = _expanded(embedding, count, "embedding"), _expanded(negative, count, "negative_embedding")
    return Conditioning({"image_embeds": rows[0]}), Conditioning({"image_embeds": rows[1]})


@torch.no_grad()
def noised(
    conditioner: Conditioner,
    embedding: torch.Tensor | None,
    caption: Conditioning | None,
    negative: Conditioning | None,
    level: int,
    generators: list[torch.Generator],
) -> Pair:
    """Stable unCLIP: embeddings [n,D] with noise of a level, and a sinusoidal embedding of the level, as class labels [n,2D].

    The unconditional labels are zero, and so are those of no embedding at all.
    """
    from diffusers.models.embeddings import get_timestep_embedding

    if caption is None:
        raise _lacking("noised")
    normalizer = conditioner.normalizer
    if normalizer is None:
        text = "the model has no 'image_normalizer/', which says how its embeddings are spread"
        raise Invalid(text, fix="copy the whole model folder", port="decoder")
    mean = normalizer.mean
    if embedding is None:
        labels = mean.new_zeros(len(generators), 2 * mean.shape[1])
    else:
        rows = _expanded(embedding.to(mean), len(generators), "embedding")
        noise = torch.cat([torch.randn((1, rows.shape[1]), generator=one, dtype=rows.dtype) for one in generators]).to(rows)
        levels = torch.tensor([level] * len(rows), device=rows.device)
        with schedulers.of_part("decoder"):
            scheduler = schedulers.make_scheduler(conditioner.noising)
        rows = normalizer.unscale(scheduler.add_noise(normalizer.scale(rows), timesteps=levels, noise=noise))
        step = get_timestep_embedding(timesteps=levels, embedding_dim=rows.shape[1], flip_sin_to_cos=True, downscale_freq_shift=0)
        labels = torch.cat([rows, step.to(rows.dtype)], 1)
    positive = Conditioning({"states": _expanded(caption.tensor("states"), len(labels), "caption"), "class_labels": labels})
    if negative is None:
        return positive, None
    states = _expanded(negative.tensor("states"), len(labels), "negative")
    return positive, Conditioning({"states": states, "class_labels": torch.zeros_like(labels)})


def _lacking(kind: str) -> Invalid:
    port, text, fix = NEEDED[kind]
    return Invalid(text, fix=fix, port=port)


def _expanded(rows: torch.Tensor, count: int, port: str) -> torch.Tensor:
    if problem := batches_problem(port, len(rows), count):
        raise Invalid(problem[0], fix=problem[1], port=port)
    return rows if len(rows) == count else rows.expand(count, *[-1] * (rows.ndim - 1)).clone()
