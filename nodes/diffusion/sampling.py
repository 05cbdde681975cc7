"""The sampling loop on diffusers' denoisers and schedulers, bit for bit that of the Stable Diffusion pipelines.

What that takes: guidance is one forward of the concatenated batch, unconditional half first; draws come from each
picture's own generator in the pipelines' order; a masked picture is joined after the sample is scaled for the denoiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from nodegraph import Conditioning, Invalid, Latent

from . import progress, schedulers
from .conditioning import forward_inputs
from .facts.rules import empty_problem
from .facts.samplers import NO_VARIANCE
from .guidance import guide, guide_edit, split_variance
from .latents import draw_noise
from .place import place

if TYPE_CHECKING:
    from diffusers import SchedulerMixin, UNet2DConditionModel

Report = Callable[[int, int, torch.Tensor], None]
"""Called after each forward with how many are done, how many there are, and an estimate of the clean latents."""
Steer = Callable[["SchedulerMixin", torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Changes a prediction: takes the scheduler, the noisy latents as the denoiser gets them, the timestep, the prediction."""


Checkpoint = Callable[[Callable[[], Any]], None]
"""Called after each step with what gives its state, which it asks for now and then."""


def _keep_nothing(state: Callable[[], Any]) -> None:
    """The checkpoint of a sampling that is not resumed."""


@dataclass(frozen=True)
class Settings:
    """How to sample: of `steps` steps those with first <= step < last."""

    steps: int
    first: int
    last: int
    guidance: float = 7.5
    rescale: float = 0.0
    sampler: str = "default"
    sigmas: str = "default"
    eta: float = 0.0
    add_noise: bool = True
    image_guidance: float = 1.5


@dataclass(frozen=True)
class Start:
    """A latent and its extras, on the denoiser's device: what the loop starts from.

    `image` is the clean latent that stays outside of `mask` (1 = sample here); `masked` is the encoded picture without what
    the mask covers, for denoisers that take it; `edited` is the encoded picture that an instruction changes.
    """

    sample: torch.Tensor
    noise: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    masked: torch.Tensor | None = None
    image: torch.Tensor | None = None
    edited: torch.Tensor | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing in the latent: it stands for pure noise."""
        return not bool(self.sample.any())

    def extras(self) -> dict[str, torch.Tensor]:
        """What further steps need beside the sample."""
        extras = {"noise": self.noise, "mask": self.mask, "masked": self.masked, "image": self.image, "edited": self.edited}
        kept = self.mask is not None or self.edited is not None
        return {name: value for name, value in extras.items() if value is not None} if kept else {}


class Sampling:
    """One use of a denoiser and a fresh scheduler on a batch of latents.

    `config` is the model's scheduler configuration; `generators`, one for each picture, are drawn from: the noise of the
    start, unless the latent brings it, and what a stochastic sampler needs. `steer`, if there is one, has the last word on
    each prediction. `smaller`: 1 has the rows of a forward one after another, which gives other roundings.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        config: Mapping[str, Any],
        positive: Conditioning,
        negative: Conditioning | None,
        latent: Latent,
        settings: Settings,
        generators: list[torch.Generator],
        steer: Steer | None = None,
        smaller: int = 0,
    ):
        self.unet, self.settings, self.generators, self.space, self.place = unet, settings, generators, latent.space, place(unet)
        self.start = read_start(unet, latent)
        self.scheduler = schedulers.make_scheduler(config, settings.sampler, settings.sigmas, outdated(unet, self.start))
        schedulers.set_timesteps(self.scheduler, settings.steps)
        self.times = self.scheduler.timesteps.to(self.place.device)  # for the denoiser
        self.takes_masked = takes_masked(unet, latent.shape[1])
        self.kandinsky = unet.config.addition_embed_type == "image"
        image_guidance = None if self.start.edited is None else settings.image_guidance
        self.inputs = forward_inputs(unet, positive, negative, latent.shape, settings.guidance, image_guidance)
        self.steer, self.smaller = steer, smaller

    @torch.no_grad()
    def run(self, report: Report, resumed: Mapping[str, Any] | None = None, checkpoint: Checkpoint = _keep_nothing) -> Latent:
        """The latent after the last of the steps. If steps are left after it, it keeps its extras for them.

        `resumed`: what `checkpoint` was given by an earlier run of the very same sampling; it goes on from there.
        """
        latents, before = self.begin(), 0
        if resumed is not None:
            before, latents = progress.unpacked(resumed, self.generators, self.scheduler, self.place.device)
        timesteps, span = self.scheduler.timesteps, self.span()
        options = schedulers.step_options(self.scheduler, self.settings.eta, self.generators)
        for done, index in enumerate(span[before:], before + 1):
            prediction = self.predict(latents, index)
            options = schedulers.at(options, timesteps, index)
            latents, estimate = schedulers.step(self.scheduler, prediction, timesteps[index], latents, options)
            latents = self.restore_outside(latents, self.times[index + 1 : index + 2])
            report(done, len(span), estimate)
            checkpoint(partial(progress.packed, done, latents, self.generators, self.scheduler))
        if not latents.isfinite().all():
            fix = "use another sampler, other sigmas or less guidance; with half precision, float32"
            raise Invalid("the sampling came to values that are no numbers", fix=fix, port="sampler")
        return Latent(latents, self.space, self.start.extras() if self.settings.last < self.settings.steps else None)

    def span(self) -> range:
        """The places in `scheduler.timesteps` of the steps to take; the last step may have more or fewer than others."""
        order = schedulers.order(self.scheduler)
        finishes = self.settings.last == self.settings.steps
        return range(self.settings.first * order, len(self.scheduler.timesteps) if finishes else self.settings.last * order)

    def begin(self) -> torch.Tensor:
        """The noisy latents before the first step.

        An empty latent stands for pure noise, and so does one with a mask when no step is left out.
        """
        settings, scheduler, empty = self.settings, self.scheduler, self.start.empty
        if empty and (settings.first or not settings.add_noise):
            text, fix = empty_problem(settings.first, settings.steps)
            raise Invalid(text, fix=fix, port="latent")
        if self.start.noise is None and settings.add_noise:
            noise = draw_noise(self.start.sample.shape, self.generators, *self.place)
            self.start = replace(self.start, noise=noise)
        schedulers.seed_brownian_motion(scheduler, self.generators)
        schedulers.begin_at(scheduler, settings.first)
        if not settings.add_noise:
            return self.start.sample
        if settings.first == 0 and (empty or self.start.mask is not None):
            return self.start.noise * getattr(scheduler, "init_noise_sigma", 1.0)
        first = self.span().start
        return schedulers.noised(scheduler, self.start.sample, self.start.noise, scheduler.timesteps[first : first + 1])

    def predict(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        """The denoiser's prediction at a place in the timesteps, guided."""
        rows, channels, timestep = self.inputs.rows, latents.shape[1], self.scheduler.timesteps[index]
        given = schedulers.scaled(self.scheduler, torch.cat([latents] * rows), timestep)
        given = torch.cat([given, *self.beside(rows)], dim=1)
        output = self.denoised(given, index, {"encoder_hidden_states": self.inputs.states, **self.inputs.further})
        mean, variance = split_variance(output, channels)
        mean = self.guided(mean)
        if self.steer is not None:
            mean = self.steer(self.scheduler, given[: len(latents), :channels], timestep, mean)
        if not schedulers.takes_variance(self.scheduler):
            return mean
        if variance is None:
            raise Invalid(NO_VARIANCE[0], fix=NO_VARIANCE[1], port="sampler")
        return torch.cat([mean, variance.chunk(rows)[self.inputs.conditional]], dim=1)

    def denoised(self, given: torch.Tensor, index: int, told: dict[str, Any]) -> torch.Tensor:
        """The denoiser's output for all rows of `given` and of what it is told beside."""
        time = self.times[index]
        rows = [(given[row : row + 1], _row(told, row)) for row in range(len(given))] if self.smaller else [(given, told)]
        with torch.inference_mode():  # which keeps no books for gradients: 7 % of a small denoiser's time
            outputs = [self.unet(one, time, **more, return_dict=False)[0] for one, more in rows]
        return torch.cat(outputs)  # outside of it: a tensor that it made can be in no gradient

    def beside(self, rows: int) -> list[torch.Tensor]:
        """What goes into the denoiser beside the latents, for all rows of a forward."""
        if self.takes_masked and self.kandinsky:
            return [torch.cat([self.start.masked] * rows), torch.cat([1 - self.start.mask] * rows)]
        if self.takes_masked:
            return [torch.cat([self.start.mask] * rows), torch.cat([self.start.masked] * rows)]
        if self.start.edited is None:
            return []
        pictures = [self.start.edited] * rows
        return [torch.cat([*pictures[:-1], torch.zeros_like(self.start.edited)] if rows > 1 else pictures)]

    def guided(self, prediction: torch.Tensor) -> torch.Tensor:
        """The rows of a prediction as one."""
        settings = self.settings
        if self.inputs.rows == 3:
            return guide_edit(prediction, settings.guidance, settings.image_guidance)
        return guide(prediction, settings.guidance, settings.rescale) if self.inputs.rows == 2 else prediction

    def restore_outside(self, latents: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Outside of the mask the picture again, as noisy as at the following timestep [1], or clean when there is none."""
        mask, image = self.start.mask, self.start.image
        if mask is None or image is None or (self.takes_masked and not self.kandinsky):
            return latents
        if len(following):
            image = schedulers.noised(self.scheduler, image, self.start.noise, following)
        return (1 - mask) * image + mask * latents


def _row(told: Any, row: int) -> Any:
    """One row of tensors [n,…], also within dicts."""
    if isinstance(told, dict):
        return {name: _row(value, row) for name, value in told.items()}
    return None if told is None else told[row : row + 1]


def takes_masked(unet: UNet2DConditionModel, channels: int) -> bool:
    """Whether a denoiser takes a mask and a masked picture beside latents of so many channels."""
    return bool(unet.config.in_channels == 2 * channels + 1)


def outdated(unet: UNet2DConditionModel, start: Start) -> dict[str, Any]:
    """What the pipelines of Stable Diffusion put in place of what a scheduler's configuration says: that of older models is wrong.

    Latents reach beyond the range that a scheduler would clip to. The pipeline for inpainting does not mend that.
    """
    if unet.config.class_embed_type or unet.config.addition_embed_type or start.edited is not None:
        return {}
    return {"steps_offset": 1, **({"clip_sample": False} if start.mask is None else {"skip_prk_steps": True})}


def read_start(unet: UNet2DConditionModel, latent: Latent) -> Start:
    """The latent and its extras where the denoiser is. Raises Invalid when they are not what it takes."""
    at = place(unet)
    noise, mask, masked, image, edited = (latent.extra(name, *at) for name in ("noise", "mask", "masked", "image", "edited"))
    channels, taken = latent.shape[1], unet.config.in_channels
    if takes_masked(unet, channels):
        if mask is None or masked is None:
            text = f"this denoiser is for inpainting: it takes {taken} channels, a latent of {channels}, a mask and a masked picture"
            raise Invalid(text, fix="make the latent with encode_inpaint", port="latent")
    elif taken == 2 * channels:
        if edited is None:
            text = f"this denoiser edits pictures: it takes {taken} channels, a latent of {channels} and an encoded picture"
            raise Invalid(text, fix="make the latent with encode_edit", port="latent")
    elif channels != taken:
        text = f"the latent has {channels} channels, but this denoiser takes {taken}"
        raise Invalid(text, fix="use a latent of its own model", port="latent")
    elif mask is not None and image is None:
        text = "the latent has a mask, but not the picture around it"
        raise Invalid(text, fix="make it with encode_inpaint for this model", port="latent")
    return Start(latent.tensor(*at), noise, mask, masked, image, edited if taken == 2 * channels else None)
