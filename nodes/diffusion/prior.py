"""The priors of unCLIP (arXiv:2204.06125, section 2.2): from a caption to an image embedding.

The loop of the diffusion prior is bit for bit that of UnCLIPPipeline, KandinskyV22PriorPipeline and StableUnCLIPPipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from nodegraph import Conditioning, Invalid

from . import schedulers
from .facts.rules import embeddings_problem, prior_negative_problem
from .guidance import guide
from .latents import draw_noise
from .place import Place, place

if TYPE_CHECKING:
    from diffusers import PriorTransformer

    from .ar_prior import ArPrior


@dataclass(frozen=True)
class Captions:
    """Encoded captions for n embeddings; twice as many rows, the unconditional ones first, where there is guidance."""

    count: int
    embedding: torch.Tensor
    states: torch.Tensor
    attended: torch.Tensor | None

    @property
    def guided(self) -> bool:
        return len(self.embedding) == 2 * self.count

    @classmethod
    def of(cls, positive: Conditioning, negative: Conditioning | None, guidance: float, count: int, at: Place) -> Captions:
        """Raises Invalid where something is missing or does not fit."""
        named = [("positive", positive)]
        if guidance > 1:
            if negative is None:
                text, fix = prior_negative_problem(guidance)
                raise Invalid(text, fix=fix, port="negative")
            named.insert(0, ("negative", negative))
        for port, one in named:
            if "pooled" not in one or "states" not in one:
                raise Invalid("the conditioning has no embedding of its text", fix="make it with encode_clip_text", port=port)
            if problem := embeddings_problem(len(one), count):
                raise Invalid(problem[0], fix=problem[1], port=port)

        def rows(name: str, *where: Any) -> torch.Tensor:
            tensors = [one.tensor(name, *where) for _, one in named]
            return torch.cat([one if len(one) == count else one.repeat_interleave(count, dim=0) for one in tensors])

        attended = rows("attended", at.device) if all("attended" in one for _, one in named) else None
        return cls(count, rows("pooled", *at), rows("states", *at), attended)


@torch.no_grad()
@schedulers.of_part("prior")
def sample(
    prior: PriorTransformer,
    config: Mapping[str, Any],
    captions: Captions,
    steps: int,
    guidance: float,
    generators: list[torch.Generator],
    report: Callable[[int], None],
) -> torch.Tensor:
    """One image embedding [n,D] for each caption. `config` is the scheduler's; `report` is called after each step."""
    scheduler = schedulers.make_scheduler(config)
    schedulers.set_timesteps(scheduler, steps)
    times = scheduler.timesteps.to(place(prior).device)
    embeddings = draw_noise((captions.count, prior.config.embedding_dim), generators, *place(prior))
    embeddings = embeddings * getattr(scheduler, "init_noise_sigma", 1.0)
    options = schedulers.step_options(scheduler, 0.0, generators)
    for index, timestep in enumerate(scheduler.timesteps):
        given = schedulers.scaled(scheduler, torch.cat([embeddings] * (1 + captions.guided)), timestep)
        prediction = prior(
            given,
            timestep=times[index],
            proj_embedding=captions.embedding,
            encoder_hidden_states=captions.states,
            attention_mask=captions.attended,
        ).predicted_image_embedding
        if captions.guided:
            prediction = guide(prediction, guidance, 0.0)
        options = schedulers.at(options, scheduler.timesteps, index)
        embeddings, _ = schedulers.step(scheduler, prediction, timestep, embeddings, options)
        report(index + 1)
    if not embeddings.isfinite().all():
        raise Invalid("the prior came to values that are no numbers", fix="use less guidance; with half precision, float32", port="prior")
    return prior.post_process_latents(embeddings)


def sample_codes(
    prior: ArPrior, captions: Captions, similarity: float, temperature: float, guidance: float, generators: list[torch.Generator]
) -> torch.Tensor:
    """One image embedding [n,D] for each caption by an autoregressive prior.

    `similarity` in 0..1 is the wanted dot product with the text, as a quantile of those in training.
    """
    wanted = round(similarity * (prior.config.similarities - 1))
    codes = prior.sample(captions.embedding, captions.states, captions.attended, generators, wanted, guidance, temperature)
    return prior.decode(codes)


def nearest(draws: Sequence[torch.Tensor], texts: torch.Tensor) -> torch.Tensor:
    """Of several draws [n,D] the one with the highest dot product with its text [n,D], for each of n; the first of equals."""
    products = torch.stack([(draw.float() * texts.float()).sum(dim=1) for draw in draws])
    chosen = products.argmax(dim=0)
    return torch.stack(list(draws))[chosen, torch.arange(len(texts), device=chosen.device)]
