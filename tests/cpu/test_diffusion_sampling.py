"""Sampling: what every sampler accepts, seeds, splitting, cancelling, and what is refused."""

from __future__ import annotations

import typing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph import Cancelled, Conditioning, Image, Invalid, Latent, Mask, Rng
from nodegraph.kinds import content
from nodes.diffusion import nodes, previews, schedulers
from nodes.diffusion.facts import samplers
from tests.cpu.tiny_models import FolderRun, model_folder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchsde")

CHOICES = typing.get_args(nodes.Sampler)
SAMPLERS = [choice for choice in CHOICES if choice != "dpm++_sde" or find_spec("torchsde")]
"""The samplers that can be used here."""
SIGMAS = typing.get_args(nodes.Sigmas)
SINGLE_STEP = ["ddim", "ddpm", "euler", "euler_ancestral", "heun", "dpm2", "dpm2_ancestral", "lcm", "tcd"]
"""The samplers whose docs promise that a sampling cut in two is the same."""

RUN = FolderRun()
BUILT_IN = Path(nodes.__file__).parent / "models" / "tiny-sd"
"""Its noise levels begin near pure noise: spaced otherwise, many of them round to one timestep."""


@cache
def load(kind: str = "sd1") -> tuple[nodes.Model, Conditioning, Conditioning]:
    model = nodes.load_model(RUN.model(BUILT_IN if kind == "tiny-sd" else model_folder(kind)), run=RUN)
    positive, negative = (nodes.encode_text(model.encoder, text, run=RUN) for text in ("a red circle", ""))
    return model, positive, negative


def sample(kind: str = "sd1", latent: Latent | None = None, seed: Any = 0, run: FolderRun = RUN, **options: Any) -> nodes.Drawn:
    model, positive, negative = load(kind)
    given = {"positive": positive, "negative": negative, "steps": 4, "guidance": 4.0, **options}
    latent = nodes.empty_latent(model.denoiser) if latent is None else latent
    return nodes.sample_latent(model.denoiser, latent=latent, seed=seed, run=run, **given)


def picture(count: int = 1) -> Image:
    return Image(torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def centre() -> Mask:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    return Mask(mask)


def inpainting(kind: str, strength: float = 1.0) -> nodes.Drawn:
    model, _, _ = load(kind)
    return nodes.encode_inpaint(model.denoiser, model.vae, picture(), centre(), 5, strength, run=RUN)


@pytest.mark.parametrize("smaller", [0, 1])
def test_a_sampled_latent_can_be_in_a_gradient(smaller: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUN, "smaller", smaller)
    latent = sample().latent.tensor()
    assert not latent.is_inference()
    weight = torch.ones_like(latent, requires_grad=True)
    (latent * weight).square().sum().backward()
    assert torch.allclose(weight.grad, 2 * latent.square())


# --- samplers ------------------------------------------------------------------------------


def test_every_choice_has_a_scheduler() -> None:
    assert {*CHOICES} == {"default", *schedulers.SAMPLERS}
    assert {*SIGMAS} == {"default", *schedulers.RESPACINGS}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_levels(sampler: str) -> None:
    """Each spacing gives other timesteps, or is refused as the facts say."""
    config = {"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "use_karras_sigmas": sampler == "default"}
    plans = {}
    for sigmas in SIGMAS:
        if sampler in samplers.FIXED_SIGMAS and sigmas != "default":
            with pytest.raises(Invalid, match=f"takes no '{sigmas}'"):
                schedulers.make_scheduler(config, sampler, sigmas)
            continue
        scheduler = schedulers.make_scheduler(config, sampler, sigmas)
        schedulers.set_timesteps(scheduler, 6)
        plans[sigmas] = tuple(scheduler.timesteps.tolist())
    if sampler == "default":
        assert plans["default"] == plans["karras"]
        del plans["default"]
    assert len(set(plans.values())) == len(plans)


def test_samplers_differ() -> None:
    """No two samplers are the same by mistake."""
    results = {content(sample(sampler=sampler, steps=5).latent) for sampler in SAMPLERS if sampler != "default"}
    assert len(results) == len(SAMPLERS) - 1


@pytest.mark.parametrize("sampler", ["deis", "dpm++_2m", "dpm++_2m_sde", "dpm++_2s", "unipc"])
@pytest.mark.parametrize("sigmas", ["karras", "exponential", "beta"])
def test_the_first_timestep_may_come_twice(sampler: str, sigmas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that looks for the first one finds the second, and comes to its end before the loop does."""
    monkeypatch.setattr(samplers, "noise_problem", lambda *args, **more: None)  # beta sigmas would be refused
    sampled = sample("tiny-sd", sampler=sampler, sigmas=sigmas, steps=7).latent.tensor()
    assert float(sampled.abs().max()) < 20


def test_what_is_no_number_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "noise_problem", lambda *args, **more: None)  # this sampler would be refused
    with pytest.raises(Invalid, match="values that are no numbers") as caught:
        sample("tiny-sd", sampler="dpm2_ancestral", steps=2)
    assert caught.value.port == "sampler"
    model, _, _ = load()
    with pytest.raises(Invalid, match="values that are no numbers"):
        nodes.decode_latent(model.vae, Latent(torch.full((1, 4, 8, 8), 1e30)), run=RUN)


@pytest.mark.parametrize("sigmas", ["default", "karras", "exponential", "beta"])
@pytest.mark.parametrize("sampler", sorted(samplers.FLOW_SAMPLERS))
def test_flow_with_other_noise_levels_ends_in_numbers(sampler: str, sigmas: str) -> None:
    """What is refused is refused before it is sampled."""
    try:
        assert sample("flow", sampler=sampler, sigmas=sigmas, steps=3).latent.tensor().isfinite().all()
    except Invalid as refused:
        assert refused.port == "sigmas"  # noqa: PT017


LOST = [("heun", "default"), ("dpm2_ancestral", "default"), ("dpm2_ancestral", "karras"), ("lms", "beta"), ("unipc", "beta")]
FOUND = [("heun", "karras"), ("heun", "exponential"), ("dpm2", "default"), ("dpm2", "karras"), ("dpm2", "exponential"), ("lms", "karras")]


@pytest.mark.parametrize(("sampler", "sigmas"), LOST + FOUND)
def test_pictures_that_begin_at_much_noise(sampler: str, sigmas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused would be far from the picture of ddim, which begins there with an exact step; what is not comes near it."""
    options = {"sampler": sampler, "sigmas": sigmas, "steps": 20}
    wanted = sample("tiny-sd", sampler="ddim", steps=20).latent.tensor()
    if (sampler, sigmas) in LOST:
        with pytest.raises(Invalid, match="the noise levels of this model begin at 20,291"):
            sample("tiny-sd", **options)
        monkeypatch.setattr(samplers, "noise_problem", lambda *args, **more: None)
    distance = (sample("tiny-sd", **options).latent.tensor() - wanted).std() / wanted.std()
    assert distance > 0.35 if (sampler, sigmas) in LOST else distance < 0.25


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++", "sde-dpmsolver"])
def test_deis_is_itself_whatever_algorithm_the_model_has(algorithm: str) -> None:
    config = {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": algorithm, "final_sigmas_type": "sigma_min"}
    made = schedulers.make_scheduler(config, "deis")
    assert (made.config.algorithm_type, made.config.solver_type) == ("deis", "logrho")
    assert schedulers.make_scheduler(config, "dpm++_2m").config.algorithm_type == "dpmsolver++"


def test_what_a_scheduler_cannot_work_out_is_refused() -> None:
    """Three steps of the third order, geometric: UniPC has no coefficients for the last one."""
    options = {"solver_type": "bh1", "solver_order": 3, "lower_order_final": False, "use_exponential_sigmas": True}
    config = {"_class_name": "UniPCMultistepScheduler", "beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, **options}
    scheduler = schedulers.make_scheduler(config)
    schedulers.set_timesteps(scheduler, 3)

    def steps() -> None:
        sample = torch.zeros(1, 4, 8, 8)
        for timestep in scheduler.timesteps:
            sample, _ = schedulers.step(scheduler, torch.ones_like(sample), timestep, sample, {})

    with pytest.raises(Invalid, match=r"the scheduler refuses: .*singular"):
        steps()


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {"default"}))
def test_a_predicted_variance_is_left_to_those_who_take_it(sampler: str) -> None:
    """DPM-Solver would cut a mean of eight channels to three, as for DeepFloyd's."""
    config = {"_class_name": "UnCLIPScheduler", "variance_type": "learned_range", "clip_sample": False}
    scheduler = schedulers.make_scheduler(config, sampler)
    schedulers.set_timesteps(scheduler, 4)
    schedulers.begin_at(scheduler, 0)
    generators = [torch.Generator().manual_seed(0)]
    schedulers.seed_brownian_motion(scheduler, generators)
    channels = 16 if schedulers.takes_variance(scheduler) else 8
    options = schedulers.step_options(scheduler, 0.0, generators)
    noisy, prediction = torch.ones(1, 8, 2, 2), torch.full((1, channels, 2, 2), 0.5)
    stepped, _ = schedulers.step(scheduler, prediction, scheduler.timesteps[0], noisy, options)
    assert stepped.shape == noisy.shape


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {*samplers.NO_SAMPLE_PREDICTION}))
def test_models_that_predict_the_clean_sample(sampler: str) -> None:
    assert bool(sample("clean", sampler=sampler).latent.tensor().isfinite().all())


@pytest.mark.parametrize("sampler", sorted(samplers.FLOW_SAMPLERS))
def test_flow_matching(sampler: str) -> None:
    """Where all flows point to one picture, every sampler arrives there."""
    scheduler = schedulers.make_scheduler({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, sampler)
    schedulers.set_timesteps(scheduler, 8)
    clean, latents = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0)
    options = schedulers.step_options(scheduler, 0.0, [torch.Generator()])
    for timestep in scheduler.timesteps:
        velocity = (latents - clean) / (timestep / 1000)
        latents, _ = schedulers.step(scheduler, velocity, timestep, latents, options)
    assert torch.allclose(latents, clean, atol=1e-2)
    assert bool(sample("flow", sampler=sampler).latent.tensor().isfinite().all())


# --- seeds and purity ------------------------------------------------------------------------


def test_same_inputs_same_bytes_and_inputs_stay_as_they_are() -> None:
    model, positive, negative = load()
    latent = nodes.encode_image(model.vae, picture(2), 4, run=RUN).latent
    before = [content(value) for value in (latent, positive, negative)]
    for sampler in SAMPLERS:
        first, second = (sample(latent=latent, seed=9, sampler=sampler, strength=0.5, eta=0.5) for _ in range(2))
        assert content(first.latent) == content(second.latent)
        assert first.rng == second.rng
    assert [content(value) for value in (latent, positive, negative)] == before


@pytest.mark.parametrize("sampler", sorted({"ddim", "euler_ancestral", "dpm++_2m", "dpm++_sde"} & {*SAMPLERS}))
def test_a_picture_of_a_batch_is_the_picture_of_its_seed(sampler: str) -> None:
    """Alone and in a batch they differ in the last bits only."""
    model, _, _ = load()
    batch = sample(latent=nodes.empty_latent(model.denoiser, batch=3), seed=6, sampler=sampler).latent.tensor()
    for index in range(3):
        alone = sample(seed=6 + index, sampler=sampler).latent.tensor()
        assert (batch[index] - alone[0]).abs().max() < 1e-4 * alone.abs().max()
    listed = sample(latent=nodes.empty_latent(model.denoiser, batch=3), seed=[6, 7, 8], sampler=sampler)
    assert torch.equal(listed.latent.tensor(), batch)


def test_rng_goes_on_where_it_was() -> None:
    model, _, _ = load()
    encoded = nodes.encode_image(model.vae, picture(), 4, run=RUN)
    assert encoded.rng != Rng.seeded(4)
    handed_on = sample(latent=encoded.latent, seed=encoded.rng, strength=0.5)
    assert content(handed_on.latent) != content(sample(latent=encoded.latent, seed=4, strength=0.5).latent)


def test_one_conditioning_serves_a_batch() -> None:
    model, positive, negative = load()
    latent = nodes.empty_latent(model.denoiser, batch=2)
    thrice = [Conditioning({"states": given.tensor("states").repeat(2, 1, 1)}) for given in (positive, negative)]
    assert content(sample(latent=latent).latent) == content(sample(latent=latent, positive=thrice[0], negative=thrice[1]).latent)


def test_conditionings_of_different_lengths_go_together() -> None:
    """A short one stands several times, which changes nothing for attention."""
    model, positive, _ = load()
    long = nodes.encode_text(model.encoder, "a red circle and " * 12, run=RUN)
    chunks = long.tensor("states").shape[1] // 16
    assert chunks > 1
    repeated = Conditioning({"states": positive.tensor("states").repeat(1, chunks, 1)})
    short, same = (sample(positive=long, negative=negative).latent.tensor() for negative in (positive, repeated))
    assert torch.equal(short, same)
    once, more = (sample(positive=given, guidance=1.0).latent.tensor() for given in (positive, repeated))
    assert torch.allclose(once, more, atol=1e-4)


# --- splitting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SINGLE_STEP)
def test_a_sampling_in_two_is_the_whole(sampler: str) -> None:
    options = {"sampler": sampler, "steps": 5, "eta": 0.5}
    whole = sample(seed=2, **options)
    first = sample(seed=2, end=2, **options)
    second = sample(latent=first.latent, seed=first.rng, start=2, add_noise=False, **options)
    assert content(second.latent) == content(whole.latent)
    assert second.rng == whole.rng


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {*SINGLE_STEP, "default"}))
def test_samplers_with_a_history_begin_it_anew(sampler: str) -> None:
    options = {"sampler": sampler, "steps": 6}
    whole = sample(seed=2, **options)
    first = sample(seed=2, end=3, **options)
    second = sample(latent=first.latent, seed=first.rng, start=3, add_noise=False, **options)
    assert content(second.latent) != content(whole.latent)
    assert bool(second.latent.tensor().isfinite().all())


@pytest.mark.parametrize("kind", ["sd1", "inpaint"])
@pytest.mark.parametrize("strength", [1.0, 0.8])
def test_an_inpainting_in_two_is_the_whole(kind: str, strength: float) -> None:
    encoded = inpainting(kind, strength)
    options = {"kind": kind, "sampler": "euler_ancestral", "steps": 5}
    whole = sample(latent=encoded.latent, seed=encoded.rng, strength=strength, **options)
    first = sample(latent=encoded.latent, seed=encoded.rng, strength=strength, end=3, **options)
    second = sample(latent=first.latent, seed=first.rng, start=3, add_noise=False, **options)
    assert content(second.latent) == content(whole.latent)
    assert not whole.latent.extras
    assert {"noise", "mask", "masked"} <= set(first.latent.extras)


def test_inpainting_keeps_what_is_outside_of_the_mask() -> None:
    encoded = inpainting("sd1")
    result = sample(latent=encoded.latent, seed=encoded.rng).latent.tensor()
    changed = (result - encoded.latent.tensor()).abs().amax(1)[0] > 0
    assert torch.equal(changed, encoded.latent.extra("mask")[0, 0] > 0)


def test_a_mask_of_another_size_is_scaled() -> None:
    model, _, _ = load()
    small = Mask(torch.nn.functional.max_pool2d(centre().tensor(), 4))
    given = [nodes.encode_inpaint(model.denoiser, model.vae, picture(2), mask, 5, run=RUN) for mask in (small, centre())]
    assert content(given[0].latent) == content(given[1].latent)


# --- progress ------------------------------------------------------------------------------------


def test_progress_with_a_preview_each_step() -> None:
    run = FolderRun()
    run.paths, run.lent = RUN.paths, RUN.lent
    sample(run=run, sampler="heun")
    assert [(step, total) for step, total, _ in run.reports] == [(step, 7) for step in range(1, 8)]
    preview = run.reports[-1][2]
    assert preview is not None
    assert preview.shape == (1, 3, 8, 8)
    assert 0 <= preview.tensor().min() <= preview.tensor().max() <= 1


def test_previews_know_the_colours_of_stable_diffusion() -> None:
    orange = torch.linalg.pinv(torch.tensor(previews.RGB["kl-f8-c4-0.18215"]).T) @ torch.tensor([0.8, 0.0, -0.8])
    picture = previews.preview(orange[None, :, None, None].expand(1, 4, 2, 2), "kl-f8-c4-0.18215").tensor()
    assert torch.allclose(picture[0, :, 0, 0], torch.tensor([0.9, 0.5, 0.1]), atol=1e-3)


def test_cancel_takes_effect_within_a_step() -> None:
    class Cancelling(FolderRun):
        def progress(self, step: int, total: int, text: str = "", preview: Any = None) -> None:
            super().progress(step, total, text, preview)
            if step == 2:
                raise Cancelled("stopped")

    run = Cancelling()
    run.paths, run.lent = RUN.paths, RUN.lent
    with pytest.raises(Cancelled):
        sample(run=run, steps=10)
    assert len(run.reports) == 2


# --- what is refused -------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"negative": None}, "negative", "guidance 4 needs a negative conditioning"),
    ({"positive": Conditioning({"states": torch.zeros(1, 16, 64)})}, "positive", "64 wide, but this denoiser takes 32"),
    ({"positive": Conditioning({"states": torch.zeros(2, 16, 32)})}, "positive", "of 2 texts or pictures cannot go with 1 latent"),
    ({"positive": Conditioning({"pooled": torch.zeros(1, 32)})}, "positive", "has no text states"),
    ({"latent": Latent(torch.ones(1, 3, 8, 8))}, "latent", "has 3 channels, but this denoiser takes 4"),
    ({"latent": Latent(torch.ones(1, 4, 8, 8), "kl-f8-c4-0.13025")}, "latent", "works in 'kl-f4-c4-0.18215'"),
    ({"latent": Latent(torch.ones(1, 4, 8, 8), extras={"mask": torch.ones(1, 1, 8, 8)})}, "latent", "not the picture around it"),
    ({"strength": 0.5}, "latent", "no picture to start from at step 2 of 4"),
    ({"add_noise": False}, "latent", "no picture to go on from"),
    ({"strength": 0.5, "start": 1}, "start", "both say where to begin"),
    ({"strength": 0.1}, "strength", "strength 0.1 of 4 steps is not one step"),
    ({"end": 9}, "end", "end 9 is after the last of 4 steps"),
    ({"start": 4}, "start", "there is no step from 4 to 4"),
    ({"start": 3, "end": 2}, "start", "there is no step from 3 to 2"),
    ({"seed": [1, 2]}, "seed", "a batch of 1 takes a seed for each picture, but 2 were given"),
    ({"sampler": "lcm", "steps": 999}, "steps", "takes at most 50 steps"),
    ({"sampler": "ddim", "sigmas": "karras"}, "sigmas", "'ddim' has its own noise levels"),
    ({"sigmas": "beta"}, "sigmas", "DDIMScheduler has its own noise levels"),
    ({"kind": "flow", "sampler": "ddim"}, "sampler", "cannot integrate a flow-matching model"),
    ({"kind": "clean", "sampler": "pndm"}, "sampler", "predicts the clean sample"),
    ({"kind": "learned"}, "sampler", "takes a variance beside the prediction, which its denoiser does not predict"),
    ({"kind": "outdated-pndm", "steps": 3}, "steps", "begins with Runge-Kutta steps, for which it takes 4 timesteps"),
    ({"kind": "inpaint"}, "latent", "this denoiser is for inpainting: it takes 9 channels"),
]


@pytest.mark.parametrize(("inputs", "port", "text"), WRONG)
def test_refused(inputs: dict[str, Any], port: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        sample(**inputs)
    assert text in str(caught.value)
    assert caught.value.port == port


def test_runge_kutta_steps_that_are_refused_are_no_more_than_that() -> None:
    """Four steps are enough, and neither the sampler pndm nor the pipeline for inpainting begins with such steps."""
    assert bool(sample("outdated-pndm", steps=4).latent.tensor().isfinite().all())
    assert bool(sample("outdated-pndm", steps=3, sampler="pndm").latent.tensor().isfinite().all())
    encoded = inpainting("outdated-pndm")
    assert bool(sample("outdated-pndm", encoded.latent, encoded.rng, steps=3).latent.tensor().isfinite().all())


def test_an_inpainting_denoiser_needs_the_picture_where_steps_are_left_out() -> None:
    encoded = inpainting("inpaint", strength=1.0)
    with pytest.raises(Invalid, match="an empty latent") as caught:
        sample("inpaint", latent=encoded.latent, seed=encoded.rng, strength=0.5)
    assert "encode_inpaint with the same strength" in caught.value.fix


@pytest.mark.parametrize(
    ("size", "port", "text"),
    [
        ({"width": 30}, "width", "30×32 is not in multiples of 4, the pixels of one latent cell of this model"),
        ({"width": 32, "height": 33}, "height", "32×33 is not in multiples of 4"),
    ],
)
def test_empty_latent_sizes(size: dict[str, int], port: str, text: str) -> None:
    with pytest.raises(Invalid, match=text) as caught:
        nodes.empty_latent(load()[0].denoiser, **size)
    assert caught.value.port == port
    assert caught.value.fix == "use 32×32, the nearest size"


def test_empty_latent_has_the_models_size_unless_told() -> None:
    model, _, _ = load()
    assert nodes.empty_latent(model.denoiser).shape == (1, 4, 8, 8)
    latent = nodes.empty_latent(model.denoiser, width=48, height=16, batch=2)
    assert (latent.shape, latent.space) == ((2, 4, 4, 12), "kl-f4-c4-0.18215")
    assert sample(latent=latent).latent.shape == (2, 4, 4, 12)


def test_pictures_must_fit_the_vae() -> None:
    model, _, _ = load()
    odd = Image(torch.rand(1, 3, 30, 32))
    with pytest.raises(Invalid, match="32×30 is not in multiples of 4") as caught:
        nodes.encode_image(model.vae, odd, run=RUN)
    assert caught.value.port == "image"
    with pytest.raises(Invalid, match="3 masks cannot go with 2 pictures"):
        nodes.encode_inpaint(model.denoiser, model.vae, picture(2), Mask(torch.ones(3, 1, 32, 32)), run=RUN)


def test_decoding_needs_the_latents_own_vae() -> None:
    model, _, _ = load()
    with pytest.raises(Invalid, match="'kl-f8-c16' with 16 channels, but this VAE decodes 'kl-f4-c4"):
        nodes.decode_latent(model.vae, Latent(torch.zeros(1, 16, 8, 8), "kl-f8-c16"), run=RUN)


def test_a_sampler_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("DPMSolverSDEScheduler requires the torchsde library")

    monkeypatch.setattr("diffusers.DPMSolverSDEScheduler.from_config", missing)
    with pytest.raises(Invalid, match="needs a library that is not installed") as caught:
        sample(sampler="dpm++_sde")
    assert (caught.value.fix, caught.value.port) == ("pip install torchsde", "sampler")
