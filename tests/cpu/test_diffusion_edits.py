"""Edits: by instruction, bit for bit as diffusers does, on tiny random models."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from nodegraph import Image, Invalid, Latent
from nodes.diffusion import editing, nodes
from tests.cpu.tiny_models import FolderRun, model_folder

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
