"""Text to image, image to image and inpainting with latent diffusion models in the diffusers folder layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from nodegraph import (
    Conditioning,
    Denoiser,
    Field,
    Handle,
    Image,
    Invalid,
    Kind,
    Latent,
    Mask,
    ModelRef,
    Rng,
    Run,
    Seed,
    TextEncoder,
    Vae,
    node,
)

from .classifiers import Guide
from .facts import rules, samplers
from .facts.configurations import as_known, config_problem, denoiser_facts, encoder_facts, vae_facts
from .facts.layouts import CONDITIONERS, CONFIG_FILES, denoiser_part, layout_problem

if TYPE_CHECKING:
    import torch

    from .noisy_classifier import ClassSteer

Sampler = Literal[
    "default", "ddim", "ddpm", "deis", "dpm++_2m", "dpm++_2m_sde", "dpm++_2s", "dpm++_sde", "dpm2", "dpm2_ancestral", "euler",
    "euler_ancestral", "heun", "lcm", "lms", "pndm", "tcd", "unipc",
]  # fmt: skip
Sigmas = Literal["default", "karras", "exponential", "beta"]


class Model(NamedTuple):
    """The parts of a latent diffusion model."""

    denoiser: Denoiser
    vae: Vae
    encoder: TextEncoder


class Drawn(NamedTuple):
    """A latent, and the random state after the draws for it."""

    latent: Latent
    rng: Rng


@node
def load_model(
    name: Annotated[ModelRef, Kind("diffusion"), "A model in the diffusers folder layout, as safetensors."], *, run: Run
) -> Model:
    """Take a latent diffusion model apart: its denoiser (with its scheduler), its VAE, and its text encoder.

    Weights are read when a node uses them. Pickles (`.bin`, `.ckpt`, `.pt`) are refused.
    """
    from .loading import read_configs

    paths = [path for path, _ in name.files]
    if problem := layout_problem(paths):
        raise _invalid("name", problem)
    configurations = Handle(name.part(*CONFIG_FILES))
    with run.use(configurations, read_configs) as configs:
        if problem := config_problem(configs.get):
            raise _invalid("name", problem)
        parts = (denoiser_part(paths), "scheduler", *CONDITIONERS)
        denoiser = Denoiser.of(name, *parts, facts=denoiser_facts(configs.get))
        vae = Vae.of(name, "vae", facts=vae_facts(configs.get))
        encoder = TextEncoder.of(name, "text_encoder", "tokenizer", facts=encoder_facts(configs.get))
    return Model(denoiser, vae, encoder)


@node
def encode_text(
    encoder: TextEncoder,
    text: Annotated[str | list[str], "A prompt, or one for each picture of a batch."],
    clip_skip: Annotated[int, Field(ge=0, le=30), "Layers left out at the end of the encoder: 1 takes the last but one."] = 0,
    emphasis: Annotated[bool, "Whether brackets in the text are emphasis; off, they are ordinary characters."] = True,
    *,
    run: Run,
) -> Conditioning:
    """Encode a prompt for a denoiser.

    `(words)` count 1.1 times, `[words]` 1/1.1 times, `(words:1.4)` 1.4 times; brackets nest, `\\(` is an ordinary bracket.
    A prompt longer than the encoder takes is encoded in chunks of its length, one after the other. The pipelines of
    diffusers apply their `clip_skip` to the prompt and not to the negative prompt.
    """
    from .encoding import encode
    from .loading import load_text_encoder, load_tokenizer

    prompts = [text] if isinstance(text, str) else list(text)
    if not prompts:
        raise _invalid("text", rules.NO_TEXT)
    with run.use(encoder, load_tokenizer) as tokenizer, run.use(encoder, load_text_encoder) as module:
        return Conditioning({"states": encode(prompts, tokenizer, module, clip_skip, emphasis)})


@node(lane="cpu")
def empty_latent(
    model: Denoiser,
    width: Annotated[int | None, Field(ge=1, le=16384), "Pixels; the model's own width if not given."] = None,
    height: Annotated[int | None, Field(ge=1, le=16384), "Pixels; the model's own height if not given."] = None,
    batch: Annotated[int, Field(ge=1, le=4096), "Pictures in one batch."] = 1,
) -> Latent:
    """A latent without a picture, for sampling from pure noise."""
    import numpy

    known = model.facts
    if not {"factor", "latent_channels"} <= set(known):
        raise Invalid("the denoiser does not say what its latents are", fix="use the denoiser of load_model", port="model")
    factor, columns, rows = known["factor"], width or known.get("width", 0), height or known.get("height", 0)
    for port, size in (("width", columns), ("height", rows)):
        if not size:
            raise Invalid(f"the model has no {port} of its own", fix=f"set {port}", port=port)
    if problem := rules.size_problem(columns, rows, factor):
        raise _invalid("width" if columns % factor else "height", problem)
    shape = (batch, known["latent_channels"], rows // factor, columns // factor)
    return Latent(numpy.zeros(shape, numpy.float32), known.get("space", ""))


@node
def encode_image(vae: Vae, image: Image, seed: Annotated[Seed, "The encoding is a draw from a distribution."] = 0, *, run: Run) -> Drawn:
    """Encode pictures as latents. Their sides must be multiples of the VAE's factor (8 for Stable Diffusion).

    For image to image as in diffusers, hand `rng` on to the `seed` of `sample_latent`.
    """
    from . import latents
    from .loading import load_vae

    _check_size(vae, image)
    generators = _rng(seed, len(image)).generators()
    with run.use(vae, load_vae) as module:
        data = latents.encode(module, _pixels(image), generators)
    return Drawn(Latent(data, vae.facts.get("space", "")), Rng.of(generators))


@node
def encode_inpaint(
    model: Annotated[Denoiser, "The denoiser that will sample: one for inpainting needs less of the picture than others."],
    vae: Vae,
    image: Image,
    mask: Annotated[Mask, "What is painted anew, from 0.5 on; of any size, one for all pictures or one for each."],
    seed: Annotated[Seed, "Hand `rng` on to the seed of sample_latent."] = 0,
    strength: Annotated[float, Field(ge=0, le=1), "The strength that sample_latent gets."] = 1.0,
    *,
    run: Run,
) -> Drawn:
    """Encode pictures for inpainting: the latent carries noise, mask and masked picture into `sample_latent`.

    Works with denoisers for inpainting and with ordinary ones, where the sampler puts the picture back around the mask
    after each step.
    """
    from . import latents
    from .loading import load_vae

    _check_size(vae, image)
    if problem := rules.masks_problem(len(mask), len(image)):
        raise _invalid("mask", problem)
    generators = _rng(seed, len(image)).generators()
    with_image = strength < 1 or model.facts.get("channels") == vae.facts.get("channels")
    with run.use(vae, load_vae) as module:
        parts = latents.encode_inpaint(module, _pixels(image), mask.tensor(), generators, with_image)
    extras = {name: part for name, part in parts._asdict().items() if part is not None}
    data = parts.noise.new_zeros(parts.noise.shape) if parts.image is None else parts.image
    return Drawn(Latent(data, vae.facts.get("space", ""), extras), Rng.of(generators))


@node(smaller=2)
def decode_latent(vae: Vae, latent: Latent, *, run: Run) -> Image:
    """Turn latents into pictures.

    Where memory is short: one picture after another, then each in tiles that are blended, which may show in large flat areas.
    """
    from . import latents
    from .loading import load_vae
    from .place import place

    if problem := rules.absent_problem(vae.facts):
        raise _invalid("vae", problem)
    channels, space = vae.facts.get("channels", latent.shape[1]), vae.facts.get("space", "")
    if latent.shape[1] != channels or (latent.space and space and latent.space != space):
        given = f"the space {latent.space!r} with {latent.shape[1]} channels"
        text = f"the latent is of {given}, but this VAE decodes {space!r} with {channels}"
        raise Invalid(text, fix="use the VAE of the model that made the latent", port="latent")
    with run.use(vae, load_vae) as module:
        return Image(latents.decode(module, latent.tensor(place(module).device), run.smaller))


@node(smaller=1)
def sample_latent(
    model: Denoiser,
    positive: Conditioning,
    latent: Annotated[Latent, "From empty_latent, encode_image or encode_inpaint, or of an earlier sampling."],
    negative: Annotated[Conditioning | None, "What to steer away from; needed where guidance is above 1."] = None,
    seed: Annotated[Seed, "One for each picture; a number stands for seed, seed + 1, …"] = 0,
    steps: Annotated[int, Field(ge=1, le=1000), "Steps from pure noise to a clean picture."] = 20,
    guidance: Annotated[float, Field(ge=0, le=100), "Guidance scale; at 1 and below there is none."] = 7.5,
    sampler: Annotated[Sampler, "`default` is the one in the model's folder."] = "default",
    sigmas: Annotated[Sigmas, "How noise levels are spaced; `default` is the model's and the sampler's way."] = "default",
    strength: Annotated[float, Field(gt=0, le=1), "How much of the picture changes: the share of the steps that is taken."] = 1.0,
    start: Annotated[int, Field(ge=0, le=1000), "The first step to take; instead of strength."] = 0,
    end: Annotated[int | None, Field(ge=1, le=1000), "The step to stop before; the last one if not given."] = None,
    add_noise: Annotated[bool, "Off when the latent already holds the noise of the first step, to go on with a sampling."] = True,
    eta: Annotated[float, Field(ge=0, le=1), "Fresh noise in each step of ddim and tcd."] = 0.0,
    guidance_rescale: Annotated[float, Field(ge=0, le=1), "Against overexposure; 0.7 for models with zero terminal SNR."] = 0.0,
    image_guidance: Annotated[float, Field(ge=0, le=100), "For models that edit by instruction: how closely the picture is kept."] = 1.5,
    guide: Annotated[Guide | None, "From guide_by_class: what else steers the sampling."] = None,
    *,
    run: Run,
) -> Drawn:
    """Sample a latent: from pure noise, from a picture, or around a mask; for a batch all pictures in one.

    A sampling can be cut in two nodes: `end` of the first is `start` of the second, which has `add_noise` off and takes
    latent and rng of the first as its latent and seed. The result is the same as of one node for the samplers that look at
    one step only (ddim, ddpm, euler, euler_ancestral, heun, dpm2, dpm2_ancestral, lcm, tcd). The others (dpm++_2m,
    dpm++_2m_sde, dpm++_2s, dpm++_sde, deis, lms, pndm, unipc) begin their history, or their random path, anew.

    Where memory is short: the denoiser sees one picture after another, and with guidance its two predictions, too.
    """
    from .loading import load_scheduler_config, load_unet
    from .previews import preview
    from .sampling import Sampling, Settings

    if unfit := rules.absent_problem(model.facts) or rules.denoiser_problem(model.facts):
        raise _invalid("model", unfit)
    if latent.space and model.facts.get("space", latent.space) != latent.space:
        text = f"the latent is of the space {latent.space!r}, but this denoiser works in {model.facts['space']!r}"
        raise Invalid(text, fix="use the VAE of the same model", port="latent")
    if problem := rules.cells_problem(model.facts, *latent.shape[2:]):
        raise _invalid("latent", problem)
    first, last = _steps(steps, strength, start, end)
    if problem := (
        samplers.variance_problem(model.facts, sampler)
        or samplers.noise_problem(model.facts, sampler, sigmas, steps, whole=first == 0)
        or samplers.count_problem(model.facts, sampler, steps)
    ):
        raise Invalid(problem[1], fix=problem[2], port=problem[0])
    settings = Settings(steps, first, last, guidance, guidance_rescale, sampler, sigmas, eta, add_noise, image_guidance)
    generators = _rng(seed, len(latent)).generators()

    def report(done: int, total: int, estimate: torch.Tensor) -> None:
        run.progress(done, total, f"{sampler} {done}/{total}", partial(preview, estimate, latent.space))

    with run.use(model, load_unet) as unet, run.use(model, load_scheduler_config) as config, _steering(guide, run) as steer:
        scheduler = as_known(config, model.facts)
        sampling = Sampling(unet, scheduler, positive, negative, latent, settings, generators, steer, run.smaller)
        return Drawn(sampling.run(report, run.resumed(), run.checkpoint), Rng.of(generators))


@contextmanager
def _steering(guide: Guide | None, run: Run) -> Iterator[ClassSteer | None]:
    """What steers the sampling while it runs, if anything does."""
    if guide is None:
        yield None
        return
    from .loading import load_classifier

    with run.use(Handle(guide.files, guide.component, guide.dtype), load_classifier) as classifier:
        from .noisy_classifier import ClassSteer  # which is loaded by now

        yield ClassSteer(classifier, guide.facts["place"], guide.facts["scale"])


def _steps(steps: int, strength: float, start: int, end: int | None) -> tuple[int, int]:
    """First and last of the steps to take: first <= step < last."""
    if problem := samplers.steps_problem(steps, strength, start, end):
        raise Invalid(problem[1], fix=problem[2], port=problem[0])
    return start or samplers.first_of_strength(steps, strength), steps if end is None else end


def _check_size(vae: Vae, image: Image) -> None:
    if problem := rules.absent_problem(vae.facts):
        raise _invalid("vae", problem)
    problem = rules.size_problem(image.width, image.height, vae.facts.get("factor", 1))
    if problem:
        raise _invalid("image", problem)


def _pixels(image: Image) -> Any:
    """A picture as VAEs take it: -1..1."""
    return 2.0 * image.tensor() - 1.0


def _rng(seed: int | list[int] | Rng, count: int) -> Rng:
    try:
        return Rng.seeded(seed, count)
    except ValueError as error:
        raise Invalid(str(error), fix="give one seed, or one for each picture", port="seed") from None


def _invalid(port: str, problem: tuple[str, str]) -> Invalid:
    text, fix = problem
    return Invalid(text, fix=fix, port=port)
