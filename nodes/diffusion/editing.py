"""Editing pictures: back to their noise, and by instruction."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from nodegraph import Conditioning, Denoiser, Field, Image, Invalid, Latent, Run, Vae, node

from .facts import rules, samplers
from .facts.configurations import as_known


class Inverted(NamedTuple):
    """A noisy latent, and how exact it is."""

    latent: Latent
    error: Annotated[float, "The largest error of one inverted step: root mean square, where latents are about 1."]


@node(smaller=1)
def invert_ddim(
    model: Denoiser,
    positive: Annotated[Conditioning, "As for the sampling that follows; a decoder's holds the image embedding."],
    latent: Annotated[Latent, "From encode_image."],
    negative: Annotated[Conditioning | None, "Needed where guidance is above 1."] = None,
    steps: Annotated[int, Field(ge=1, le=1000), "As for the sampling."] = 20,
    guidance: Annotated[float, Field(ge=0, le=100), "As for the sampling; 1, none, is the most exact."] = 1.0,
    strength: Annotated[float, Field(gt=0, le=1), "How far back: the share of the steps."] = 1.0,
    turns: Annotated[int, Field(ge=1, le=100), "Corrections of each step at most; each costs one call of the denoiser."] = 10,
    *,
    run: Run,
) -> Inverted:
    """Find the noisy latent from which the sampler `ddim` comes back to a picture.

    Hand it to sample_latent with sampler `ddim`, `add_noise` off and the same conditioning, steps, guidance and strength.
    With `eta` 0 the picture comes back; a larger one varies it, as in the variations of arXiv:2204.06125, section 3.1.

    Where memory is short: the denoiser sees one picture after another, and with guidance its two predictions, too.
    """
    from .inversion import invert
    from .loading import load_scheduler_config, load_unet
    from .sampling import Sampling, Settings

    if unfit := rules.absent_problem(model.facts) or rules.denoiser_problem(model.facts) or rules.invert_problem(model.facts):
        text, fix = unfit
        raise Invalid(text, fix=fix, port="model")
    if not {"mask", "edited"}.isdisjoint(latent.extras):
        text, fix = rules.BESIDE
        raise Invalid(text, fix=fix, port="latent")
    if problem := rules.cells_problem(model.facts, *latent.shape[2:]):
        text, fix = problem
        raise Invalid(text, fix=fix, port="latent")
    if problem := samplers.steps_problem(steps, strength):
        raise Invalid(problem[1], fix=problem[2], port=problem[0])
    settings = Settings(steps, samplers.first_of_strength(steps, strength), steps, guidance, sampler="ddim", add_noise=False)
    with run.use(model, load_unet) as unet, run.use(model, load_scheduler_config) as config:
        scheduler = as_known(config, model.facts)
        sampling = Sampling(unet, scheduler, positive, negative, latent, settings, [], smaller=run.smaller)
        noisy, error = invert(sampling, turns, lambda done, total: run.progress(done, total, f"inverting {done}/{total}"))
    return Inverted(Latent(noisy, latent.space), error)


@node
def encode_edit(vae: Vae, image: Image, *, run: Run) -> Latent:
    """Encode pictures for a denoiser that edits by instruction (InstructPix2Pix): it paints from noise, beside the picture.

    Sample with the instruction as the prompt; `image_guidance` of sample_latent says how closely the picture is kept.
    """
    from . import latents
    from .loading import load_vae

    if problem := rules.absent_problem(vae.facts):
        text, fix = problem
        raise Invalid(text, fix=fix, port="vae")
    if problem := rules.size_problem(image.width, image.height, vae.facts.get("factor", 1)):
        text, fix = problem
        raise Invalid(text, fix=fix, port="image")
    with run.use(vae, load_vae) as module:
        edited = latents.encode_mode(module, 2.0 * image.tensor() - 1.0)
    return Latent(edited.new_zeros(edited.shape), vae.facts.get("space", ""), {"edited": edited})
