"""Sampling from the parts of a `tiny-unclip` folder, as diffusers' UnCLIPPipeline does it, with the autoencoder behind the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PriorTransformer, UnCLIPScheduler, UNet2DConditionModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from nodes.diffusion.ar_prior import ArPrior

CLASSES = {
    "text_encoder": CLIPTextModelWithProjection,
    "image_encoder": CLIPVisionModelWithProjection,
    "prior": PriorTransformer,
    "ar_prior": ArPrior,
    "decoder": UNet2DConditionModel,
    "text_proj": UnCLIPTextProjModel,
    "vae": AutoencoderKL,
}


@dataclass(frozen=True)
class Model:
    """The parts that make a picture of a caption."""

    parts: dict[str, Any]
    tokenizer: CLIPTokenizer
    prior_scheduler: UnCLIPScheduler
    decoder_scheduler: UnCLIPScheduler

    @classmethod
    def load(cls, folder: Path) -> Model:
        """The parts that a folder has, in float32."""
        there = {name: kind for name, kind in CLASSES.items() if (folder / name).is_dir()}
        parts = {name: kind.from_pretrained(folder / name, dtype=torch.float32).eval() for name, kind in there.items()}
        schedulers = (UnCLIPScheduler.from_pretrained(folder / name) for name in ("prior_scheduler", "decoder_scheduler"))
        return cls(parts, CLIPTokenizer.from_pretrained(folder / "tokenizer"), *schedulers)

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Read:
        """Embeddings, states and masks of captions."""
        length = self.tokenizer.model_max_length
        rows = self.tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        found = self.parts["text_encoder"](rows.input_ids)
        return Read(found.text_embeds, found.last_hidden_state, rows.attention_mask.bool())

    @torch.no_grad()
    def image_embeddings(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embeddings [n, 128] of pictures uint8 [n, 3, 32, 32]."""
        return self.parts["image_encoder"](pictures.float() / 127.5 - 1).image_embeds

    @torch.no_grad()
    def sample_prior(self, told: Read, generators: list[torch.Generator], steps: int = 25, guidance: float = 2.0) -> torch.Tensor:
        """Image embeddings [n, 128] of captions, one generator each."""
        prior, both = self.parts["prior"], self.read([""] * len(told.texts)).beside(told)
        latents = draw((prior.config.embedding_dim,), generators)
        for now, before in pairs(self.prior_scheduler, steps):
            found = prior(latents.repeat(2, 1), now, both.texts, both.states, both.masks).predicted_image_embedding
            without, given = found.chunk(2)
            found = without + guidance * (given - without)
            latents = step(self.prior_scheduler, found, now, latents, before, generators)
        return prior.post_process_latents(latents)

    def sample_ar_prior(
        self,
        told: Read,
        generators: list[torch.Generator],
        steps: int = 0,
        guidance: float = 2.0,
        similarity: float = 0.75,
        temperature: float = 0.5,
    ) -> torch.Tensor:
        """The same by the autoregressive prior, which has no steps; `similarity` is the quantile of the wanted dot product."""
        prior, both = self.parts["ar_prior"], self.read([""] * len(told.texts)).beside(told)
        wanted = round(similarity * (prior.config.similarities - 1))
        return prior.decode(prior.sample(both.texts, both.states, both.masks, generators, wanted, guidance, temperature))

    def best_prior(
        self,
        told: Read,
        generators: list[torch.Generator],
        draws: int = 2,
        steps: int = 25,
        guidance: float = 2.0,
        autoregressive: bool = False,
    ) -> torch.Tensor:
        """Of `draws` image embeddings of each caption the one with the highest dot product with the text embedding."""
        sample = self.sample_ar_prior if autoregressive else self.sample_prior
        drawn = torch.stack([sample(told, generators, steps, guidance) for _ in range(draws)])
        best = (drawn * told.texts).sum(-1).argmax(0)
        return drawn[best, torch.arange(len(best))]

    @torch.no_grad()
    def decode(
        self, told: Read, images: torch.Tensor | None, generators: list[torch.Generator], steps: int = 25, guidance: float = 3.0
    ) -> torch.Tensor:
        """Pictures uint8 [n, 3, 32, 32] of captions and image embeddings [n, 128]; None: of the captions alone."""
        decoder, projection = self.parts["decoder"], self.parts["text_proj"]
        both = self.read([""] * len(told.texts)).beside(told)
        if images is None:
            images = projection.learned_classifier_free_guidance_embeddings.expand(len(told.texts), -1)
        context, joined = projection(
            image_embeddings=images, prompt_embeds=both.texts, text_encoder_hidden_states=both.states, do_classifier_free_guidance=True
        )
        mask = functional.pad(both.masks, (projection.clip_extra_context_tokens, 0), value=True)
        side, channels = decoder.config.sample_size, decoder.config.in_channels
        latents = draw((channels, side, side), generators)
        for now, before in pairs(self.decoder_scheduler, steps):
            found = decoder(latents.repeat(2, 1, 1, 1), now, context, class_labels=joined, attention_mask=mask).sample
            (without, _), (given, variance) = (half.split(channels, 1) for half in found.chunk(2))
            found = torch.cat([without + guidance * (given - without), variance], 1)
            latents = step(self.decoder_scheduler, found, now, latents, before, generators)
        vae = self.parts["vae"]
        decoded = vae.decode(latents.clamp(-1, 1) / vae.config.scaling_factor).sample
        return ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte()


@dataclass(frozen=True)
class Read:
    """Captions as the text encoder reads them: embeddings, states, and where those are text."""

    texts: torch.Tensor
    states: torch.Tensor
    masks: torch.Tensor

    def beside(self, other: Read) -> Read:
        """These rows, then the other's."""
        return Read(torch.cat([self.texts, other.texts]), torch.cat([self.states, other.states]), torch.cat([self.masks, other.masks]))


def draw(shape: tuple[int, ...], generators: list[torch.Generator]) -> torch.Tensor:
    """Noise, one row from each generator."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def pairs(scheduler: UnCLIPScheduler, steps: int) -> list[tuple[int, int | None]]:
    """The timesteps, each with the next one; None behind the last."""
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    return list(zip(times, [*times[1:], None], strict=True))


def step(scheduler: UnCLIPScheduler, found, now: int, latents, before: int | None, generators) -> torch.Tensor:
    """One step of the scheduler, each row with its own generator."""
    rows = zip(found.split(1), latents.split(1), generators, strict=True)
    return torch.cat([scheduler.step(one, now, row, before, generator).prev_sample for one, row, generator in rows])
