"""Edits: by instruction, bit for bit as diffusers does, and by DDIM inversion, on tiny random models and on tiny-sd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy
import pytest
import torch

from nodegraph import Image, Invalid, Latent, Mask
from nodes.diffusion import editing, nodes
from nodes.diffusion.inversion import reachable
from tests.cpu.tiny_models import FolderRun, model_folder
from training.shapes import draw_captions, lay_out, parse, render, to_text

TINY_SD = Path(__file__).resolve().parents[2] / "nodes" / "diffusion" / "models" / "tiny-sd"
PROMPTS = ["make it red", "a blue square", "on white"]
SEEDS = [3, 11, 5]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("guidance", "image_guidance"), [(6.0, 1.5), (1.0, 1.5), (6.0, 0.5)])
@pytest.mark.parametrize("sampler", ["default", "euler_ancestral"])
def test_instruct_pix2pix(sampler: str, guidance: float, image_guidance: float, batch: int, monkeypatch: Any) -> None:
    """StableDiffusionInstructPix2PixPipeline: three rows of guidance, or one."""
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(model_folder("edit"), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if sampler != "default":
        pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    image = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS[:batch]]
    options = {"num_inference_steps": 4, "guidance_scale": guidance, "image_guidance_scale": image_guidance}
    given = {"image": image, "negative_prompt": ["bad"] * batch, "generator": generators, "output_type": "pt"}
    expected = pipe(PROMPTS[:batch], **given, **options).images
    monkeypatch.setattr(type(pipe), "__call__", None)
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("edit")), run=run)
    done = nodes.sample_latent(
        model.denoiser,
        nodes.encode_text(model.encoder, PROMPTS[:batch], run=run),
        editing.encode_edit(model.vae, Image(image), run=run),
        nodes.encode_text(model.encoder, ["bad"] * batch, run=run),
        SEEDS[:batch],
        steps=4,
        guidance=guidance,
        image_guidance=image_guidance,
        sampler=sampler,
        run=run,
    )
    assert torch.equal(nodes.decode_latent(model.vae, done.latent, run=run).tensor(), expected)


def test_an_edit_in_two_nodes_is_one_edit() -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("edit")), run=run)
    latent = editing.encode_edit(model.vae, Image(torch.rand(1, 3, 32, 32)), run=run)
    told = [nodes.encode_text(model.encoder, text, run=run) for text in ("make it red", "")]

    def sampled(latent: Latent, seed: Any, **options: Any) -> nodes.Drawn:
        return nodes.sample_latent(model.denoiser, told[0], latent, told[1], seed, steps=4, sampler="euler", run=run, **options)

    first = sampled(latent, 1, end=2)
    second = sampled(first.latent, first.rng, start=2, add_noise=False)
    assert torch.equal(second.latent.tensor(), sampled(latent, 1).latent.tensor())


def test_a_denoiser_that_edits_wants_a_picture() -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("edit")), run=run)
    text = nodes.encode_text(model.encoder, "x", run=run)
    with pytest.raises(Invalid, match="this denoiser edits pictures: it takes 8 channels, a latent of 4 and an encoded picture"):
        nodes.sample_latent(model.denoiser, text, nodes.empty_latent(model.denoiser), text, run=run)


# --- inversion -----------------------------------------------------------------------------


def pictures_of(captions: list[str]) -> Image:
    rng = numpy.random.default_rng(0)
    pixels = numpy.stack([render(lay_out(parse(caption), rng)) for caption in captions])
    return Image(torch.from_numpy(pixels.astype(numpy.float32) / 255).permute(0, 3, 1, 2).contiguous())


def psnr(first: torch.Tensor, second: torch.Tensor) -> list[float]:
    return [float(value) for value in -10 * torch.log10((first - second).square().mean(dim=(1, 2, 3)))]


@pytest.mark.parametrize(("guidance", "strength"), [(1.0, 1.0), (3.0, 1.0), (3.0, 0.8)])
def test_a_picture_comes_back_through_its_noise(guidance: float, strength: float) -> None:
    """On the real weights of tiny-sd, with no special case for changing nothing; and fresh noise does change it."""
    captions = [to_text(caption) for caption in draw_captions(4, 5, 1)]
    run = FolderRun()
    model = nodes.load_model(run.model(TINY_SD), run=run)
    told, empty = nodes.encode_text(model.encoder, captions, run=run), nodes.encode_text(model.encoder, "", run=run)
    pictures = pictures_of(captions)
    latent = nodes.encode_image(model.vae, pictures, 0, run=run).latent
    options: dict[str, Any] = {"steps": 20, "guidance": guidance, "strength": strength, "run": run}
    found = editing.invert_ddim(model.denoiser, told, latent, empty, **options)
    assert 0.8 < float(found.latent.tensor().std()) < (2.5 if guidance == 1 else 4), "it is noise, more of it where guidance is undone"
    assert found.error < 0.02

    def back(eta: float) -> torch.Tensor:
        start = {"latent": found.latent, "sampler": "ddim", "add_noise": False, "eta": eta}
        sampled = nodes.sample_latent(model.denoiser, told, negative=empty, seed=1, **start, **options)
        return nodes.decode_latent(model.vae, sampled.latent, run=run).tensor()

    assert min(psnr(back(0.0), pictures.tensor())) >= 35
    assert min(psnr(back(1.0), pictures.tensor())) < 28


@pytest.mark.parametrize("kind", ["sd1", "sd2", "clean"])
def test_more_turns_invert_more_exactly(kind: str) -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder(kind)), run=run)
    image = Image(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    latent = nodes.encode_image(model.vae, image, 0, run=run).latent
    told = nodes.encode_text(model.encoder, "a red circle", run=run)
    errors = [editing.invert_ddim(model.denoiser, told, latent, steps=10, turns=turns, run=run).error for turns in (1, 4, 16)]
    assert errors[0] > errors[1] > errors[2]


def test_what_clipping_cannot_reach_is_clipped_before() -> None:
    """The step back starts from the nearest latents that the sampler can end with: one number beyond grew without end."""
    beyond = torch.tensor([[[[0.5, 1.2], [-3.0, -1.0]]]])
    clipping = diffusers.DDIMScheduler(clip_sample=True, clip_sample_range=1.0)
    assert torch.equal(reachable(clipping, beyond), torch.tensor([[[[0.5, 1.0], [-1.0, -1.0]]]]))
    assert torch.equal(reachable(diffusers.DDIMScheduler(clip_sample=False), beyond), beyond)


def test_nothing_is_left_to_invert_of_a_tiny_strength() -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("sd1")), run=run)
    text = nodes.encode_text(model.encoder, "x", run=run)
    with pytest.raises(Invalid, match=r"strength 0\.01 of 20 steps is not one step"):
        editing.invert_ddim(model.denoiser, text, nodes.empty_latent(model.denoiser), strength=0.01, run=run)


@pytest.mark.parametrize(
    ("kind", "port", "text"),
    [
        ("sd1", "latent", "the latent has a mask or a picture beside it"),
        ("inpaint", "model", "takes 9 channels, a latent of 4 and a picture beside it"),
        ("flow", "model", "the model's noise levels are not those of DDIM"),
    ],
)
def test_what_cannot_be_inverted(kind: str, port: str, text: str) -> None:
    """A mask would be lost on the way, in silence for a denoiser that takes none."""
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder(kind)), run=run)
    told = nodes.encode_text(model.encoder, "x", run=run)
    painted = nodes.encode_inpaint(
        model.denoiser, model.vae, Image(torch.rand(1, 3, 32, 32)), Mask(torch.ones(1, 1, 8, 8)), 0, 0.5, run=run
    )
    with pytest.raises(Invalid, match=text) as caught:
        editing.invert_ddim(model.denoiser, told, painted.latent, steps=2, run=run)
    assert caught.value.port == port
