"""The decoder stage: from an image embedding, and optionally a caption, to latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from training.loop import Schedule, Trainer, mixed_precision, torch_generator
from training.unclip import parts
from training.unclip.clip import embed, trained_clip
from training.unclip.diffusion import Noising
from training.unclip.recipe import Run

EMBEDDING_DROPOUT = 0.1
CAPTION_DROPOUT = 0.5
EMBEDDING_NOISE = 0.1
"""Deviation of the noise on image embeddings: what a prior predicts is never exact."""
HEAVIEST = 5.0
"""Greatest weight of a step's error in the noise; it grows with the noise, where the picture's outline is decided."""


@dataclass(frozen=True)
class Conditions:
    """What the decoder is told: embeddings [n, 128], text states [n, 32, 128] and where those are text, bool [n, 32]."""

    images: torch.Tensor
    texts: torch.Tensor
    states: torch.Tensor
    masks: torch.Tensor

    @classmethod
    def load(cls, run: Run) -> Conditions:
        """The cached embeddings of the examples, on the run's device."""
        cache = torch.load(run.work / "embeddings.pt", weights_only=True)
        return cls(*(cache[name].to(run.device) for name in ("images", "texts", "states", "masks")))

    @classmethod
    def empty(cls, run: Run) -> Conditions:
        """The empty caption, one row; its image embedding means nothing."""
        read = embed(run, trained_clip(run), [""], run.examples.pictures[:1])
        return cls(*(read[name].to(run.device) for name in ("images", "texts", "states", "masks")))

    def rows(self, rows: torch.Tensor) -> Conditions:
        """Some rows."""
        return Conditions(self.images[rows], self.texts[rows], self.states[rows], self.masks[rows])

    def without_captions(self, dropped: torch.Tensor, empty: Conditions) -> Conditions:
        """The same with the captions of some rows, bool [n], made empty."""
        return Conditions(
            self.images,
            torch.where(dropped[:, None], empty.texts, self.texts),
            torch.where(dropped[:, None, None], empty.states, self.states),
            torch.where(dropped[:, None], empty.masks, self.masks),
        )


def decoder_trainer(run: Run) -> Trainer:
    """Decoder and text projection, untrained, and how they are to be trained."""
    torch.manual_seed(run.recipe.seed + 3)
    decoder = parts.make_decoder().to(run.device, memory_format=torch.channels_last)
    modules = {"decoder": decoder, "text_proj": parts.make_text_projection().to(run.device)}
    schedule = Schedule(run.recipe.decoder_steps, run.recipe.decoder_rate, rise=100, level_until=0.5)
    return Trainer(modules, schedule, run.work / "decoder.pt", average_decay=0.998)


def train_decoder(run: Run) -> None:
    """Train decoder and text projection on the cached latents and embeddings; leaves their checkpoint."""
    trainer = run.begin(decoder_trainer(run))
    decoder, projection = trainer.modules["decoder"], trainer.modules["text_proj"]
    cache = torch.load(run.latents, weights_only=True)
    moments = cache["moments"].to(run.device)
    conditions, empty = Conditions.load(run), Conditions.empty(run)
    noising = Noising.of(parts.make_decoder_scheduler(), run.device)

    def loss_at(step: int) -> torch.Tensor:
        draws = draw_step(run, step, len(moments))
        mean, deviation = moments[draws.rows].float().chunk(2, 1)
        clean = (mean + deviation * draws.spread) * cache["scale"]
        told = conditions.rows(draws.rows).without_captions(draws.captionless, empty)
        guess = projection.learned_classifier_free_guidance_embeddings
        images = torch.where(draws.imageless[:, None], guess, told.images + EMBEDDING_NOISE * draws.jitter)
        noisy = noising.add(clean, draws.noise, draws.timesteps).contiguous(memory_format=torch.channels_last)
        with mixed_precision(run.device):
            predicted = predict(decoder, projection, noisy, draws.timesteps, images, told)
        return decoder_loss(noising, clean, noisy, draws, predicted.float())

    trainer.run(loss_at)


def predict(
    decoder: nn.Module, projection: nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, images: torch.Tensor, told: Conditions
) -> torch.Tensor:
    """Noise and variance [n, 16, 8, 8] of noisy latents, given image embeddings and captions, as the unCLIP pipeline asks for them."""
    context, joined = projection(
        image_embeddings=images,
        prompt_embeds=told.texts,
        text_encoder_hidden_states=told.states.float(),
        do_classifier_free_guidance=False,
    )
    mask = functional.pad(told.masks, (parts.CONTEXT_TOKENS, 0), value=True)
    return decoder(noisy, timesteps, context, class_labels=joined, attention_mask=mask).sample


def decoder_loss(noising: Noising, clean: torch.Tensor, noisy: torch.Tensor, draws: StepDraws, predicted: torch.Tensor) -> torch.Tensor:
    """Weighted error of the noise, plus what the learned variance costs."""
    noise, fraction = predicted.chunk(2, 1)
    signal, level = noising.signal(draws.timesteps, clean), noising.noise(draws.timesteps, clean)
    weight = (1 / signal.square()).clamp(max=HEAVIEST)
    guess = ((noisy - level * noise) / signal).clamp(-1, 1)
    return (weight * (noise - draws.noise).square()).mean() + noising.variance_loss(clean, guess, fraction, draws.timesteps)


@dataclass(frozen=True)
class StepDraws:
    """The random numbers of one decoder step, for a batch of n rows."""

    rows: torch.Tensor
    timesteps: torch.Tensor
    imageless: torch.Tensor
    captionless: torch.Tensor
    jitter: torch.Tensor
    spread: torch.Tensor
    noise: torch.Tensor


def draw_step(run: Run, step: int, examples: int) -> StepDraws:
    """Draw example rows, timesteps 0..999, what is left out, and the noises."""
    draw = torch_generator(run.recipe.seed, "unclip-decoder", step)
    count = run.recipe.decoder_batch
    shape = (count, parts.LATENT_CHANNELS, parts.LATENT_SIZE, parts.LATENT_SIZE)
    draws = (
        torch.randint(examples, (count,), generator=draw),
        torch.randint(1000, (count,), generator=draw),
        torch.rand(count, generator=draw) < EMBEDDING_DROPOUT,
        torch.rand(count, generator=draw) < CAPTION_DROPOUT,
        torch.randn(count, parts.EMBEDDING_WIDTH, generator=draw),
        torch.randn(shape, generator=draw),
        torch.randn(shape, generator=draw),
    )
    return StepDraws(*(tensor.to(run.device) for tensor in draws))
