"""unCLIP graphs against diffusers' own pipelines: the same embeddings and pixels, bit for bit, on tiny random models."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy
import PIL.Image
import pytest
import torch

from nodegraph import Embedding, Image, Latent, Mask
from nodes.diffusion import nodes, unclip
from tests.cpu.tiny_models import FolderRun
from tests.cpu.tiny_unclip import KINDS, pipeline, unclip_folder

PROMPTS = ["a red circle", "a blue square on white", "the green triangle above a circle"]
SEEDS = [3, 11, 5]
BATCHES = pytest.mark.parametrize("batch", [1, 3])


def generators(batch: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS[:batch]]


def pictures(batch: int, side: int = 40) -> list[PIL.Image.Image]:
    values = numpy.random.default_rng(7).integers(0, 256, (batch, side, side, 3), numpy.uint8)
    return [PIL.Image.fromarray(one) for one in values]


def channels_first(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.fixture
def no_pipelines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it after the reference: from then on no pipeline can run or be loaded."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a graph called a diffusers pipeline")

    def forbid() -> None:
        for name in [*(name for name, _ in KINDS.values()), "KandinskyV22Img2ImgPipeline"]:
            monkeypatch.setattr(getattr(diffusers, name), "__call__", forbidden)
        monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", forbidden)

    return forbid


@pytest.fixture(scope="module")
def run() -> FolderRun:
    return FolderRun()


def parts(run: FolderRun, kind: str) -> unclip.Unclip:
    return unclip.load_unclip(run.model(unclip_folder(kind)), run=run)


def assert_identical(given: torch.Tensor, wanted: torch.Tensor) -> None:
    assert bool(wanted.isfinite().all())
    assert wanted.std() > 0.01, "nothing can be seen"
    assert torch.equal(given, wanted), f"differs by up to {(given - wanted).abs().max():.3g}"


def drawn(run: FolderRun, model: unclip.Unclip, batch: int, steps: int, guidance: float, draws: int = 1) -> unclip.DrawnEmbedding:
    positive = unclip.encode_clip_text(model.encoder, PROMPTS[:batch], run=run)
    negative = unclip.encode_clip_text(model.encoder, [""] * batch, run=run)
    return unclip.sample_prior(
        model.prior, positive.conditioning, negative.conditioning, SEEDS[:batch], draws=draws, steps=steps, guidance=guidance, run=run
    )


def painted(run: FolderRun, model: Any, told: unclip.DecoderConditioning, batch: int, **options: Any) -> nodes.Drawn:
    latent = options.pop("latent", None) or nodes.empty_latent(model.decoder, batch=batch)
    return nodes.sample_latent(model.decoder, told.positive, latent, told.negative, options.pop("seed", told.rng), run=run, **options)


# --- Karlo -------------------------------------------------------------------------------


@BATCHES
def test_unclip(batch: int, run: FolderRun, no_pipelines: Any) -> None:
    """UnCLIPPipeline: prior, projection, pixels with a learned variance, and the upsampler whose last step has its own network."""
    steps = {"prior_num_inference_steps": 3, "decoder_num_inference_steps": 4, "super_res_num_inference_steps": 3}
    given = generators(batch)
    expected = channels_first(pipeline("karlo")(PROMPTS[:batch], generator=given, **steps, output_type="np").images)
    no_pipelines()
    model = parts(run, "karlo")
    caption = unclip.encode_clip_text(model.encoder, PROMPTS[:batch], run=run).conditioning
    negative = unclip.encode_clip_text(model.encoder, [""] * batch, run=run).conditioning
    prior = drawn(run, model, batch, 3, 4.0)
    told = unclip.condition_decoder(model.decoder, prior.embedding, caption, negative, seed=prior.rng, run=run)
    small = painted(run, model, told, batch, steps=4, guidance=8.0)
    large = unclip.upsample_diffusion(model.upsampler, small.latent, small.rng, steps=3, run=run)
    assert large.image.shape == (batch, 3, 64, 64)
    assert_identical(large.image.tensor(), expected)
    assert large.rng == type(large.rng).of(given), "the pipeline drew as often"


@BATCHES
@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_unclip_variations(batch: int, guidance: float, run: FolderRun, no_pipelines: Any) -> None:
    """UnCLIPImageVariationPipeline, with the model's own preparation of pictures for its encoder."""
    options = {"decoder_num_inference_steps": 4, "super_res_num_inference_steps": 3, "decoder_guidance_scale": guidance}
    reference = pipeline("karlo_variations")
    expected = channels_first(reference(pictures(batch), generator=generators(batch), **options, output_type="np").images)
    no_pipelines()
    model = parts(run, "karlo_variations")
    empty = unclip.encode_clip_text(model.encoder, [""] * batch, run=run).conditioning
    embedding = unclip.encode_clip_image(model.image_encoder, Image.from_pil(pictures(batch)), run=run)
    told = unclip.condition_decoder(model.decoder, embedding, empty, empty if guidance > 1 else None, seed=SEEDS[:batch], run=run)
    small = painted(run, model, told, batch, steps=4, guidance=guidance)
    large = unclip.upsample_diffusion(model.upsampler, small.latent, small.rng, steps=3, run=run)
    assert_identical(large.image.tensor(), expected)


# --- Kandinsky 2.2 -------------------------------------------------------------------------


@BATCHES
def test_kandinsky_prior(batch: int, run: FolderRun, no_pipelines: Any) -> None:
    expected = pipeline("kandinsky_prior")(PROMPTS[:batch], num_inference_steps=4, guidance_scale=4.0, generator=generators(batch))
    no_pipelines()
    model = parts(run, "kandinsky_prior")
    assert_identical(drawn(run, model, batch, 4, 4.0).embedding.tensor(), expected.image_embeds)
    nothing = unclip.encode_clip_image(model.image_encoder, run=run)
    assert_identical(nothing.tensor().repeat(batch, 1), expected.negative_image_embeds)


@BATCHES
def test_kandinsky_prior_with_a_negative_prompt(batch: int, run: FolderRun, no_pipelines: Any) -> None:
    """The pipeline draws the negative embedding with the others: that of the negative prompt, away from itself."""
    negatives, seeds = ["black", "a photo", "white"][:batch], [*SEEDS[:batch], *range(batch)]
    given = [torch.Generator().manual_seed(seed) for seed in seeds]
    options = {"num_inference_steps": 4, "guidance_scale": 4.0, "generator": given}
    expected = pipeline("kandinsky_prior")(PROMPTS[:batch], negative_prompt=negatives, **options)
    no_pipelines()
    model = parts(run, "kandinsky_prior")
    positive = unclip.encode_clip_text(model.encoder, [*PROMPTS[:batch], *negatives], run=run).conditioning
    negative = unclip.encode_clip_text(model.encoder, [*negatives, *negatives], run=run).conditioning
    done = unclip.sample_prior(model.prior, positive, negative, seeds, draws=1, steps=4, guidance=4.0, run=run)
    assert done.rng == type(done.rng).of(given)
    assert_identical(done.embedding.tensor(), torch.cat([expected.image_embeds, expected.negative_image_embeds]))


@BATCHES
@pytest.mark.parametrize("strength", [None, 0.6])
def test_kandinsky(batch: int, strength: float | None, run: FolderRun, no_pipelines: Any) -> None:
    """KandinskyV22Pipeline and, with a strength, KandinskyV22Img2ImgPipeline, both behind the prior."""
    given = generators(batch)
    prior = pipeline("kandinsky_prior")(PROMPTS[:batch], num_inference_steps=3, guidance_scale=4.0, generator=given)
    name = "KandinskyV22Img2ImgPipeline" if strength else "KandinskyV22Pipeline"
    start = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    extra = {"image": start * 2 - 1, "strength": strength} if strength else {}
    pixels = pipeline("kandinsky_decoder", name)(
        image_embeds=prior.image_embeds,
        negative_image_embeds=prior.negative_image_embeds,
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=given,
        output_type="np",
        **extra,
    ).images
    no_pipelines()
    first, second = parts(run, "kandinsky_prior"), parts(run, "kandinsky_decoder")
    embedding, rng = drawn(run, first, batch, 3, 4.0)
    nothing = unclip.encode_clip_image(first.image_encoder, run=run)
    told = unclip.condition_decoder(second.decoder, embedding, negative_embedding=nothing, seed=rng, run=run)
    latent = nodes.encode_image(second.vae, Image(start), told.rng, run=run).latent if strength else None
    done = painted(run, second, told, batch, latent=latent, steps=5, guidance=4.0, strength=strength or 1.0)
    assert done.rng == type(done.rng).of(given)
    assert_identical(nodes.decode_latent(second.vae, done.latent, run=run).tensor(), channels_first(pixels))


def test_kandinsky_inpaint(run: FolderRun, no_pipelines: Any) -> None:
    """KandinskyV22InpaintPipeline, alone: in a batch it puts the first picture back around every mask.

    Its latents: its decoding gets them in another memory layout than values here have, which changes last bits.
    """
    embedding, nothing = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(2))
    start = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 6:22, 9:27] = 1
    given = generators(1)
    expected = pipeline("kandinsky_inpaint")(
        image_embeds=embedding,
        negative_image_embeds=nothing,
        image=start * 2 - 1,
        mask_image=mask.clone(),
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=given,
        output_type="latent",
    ).images
    no_pipelines()
    model = parts(run, "kandinsky_inpaint")
    told = unclip.condition_decoder(model.decoder, Embedding(embedding), negative_embedding=Embedding(nothing), run=run)
    encoded = nodes.encode_inpaint(model.decoder, model.vae, Image(start), Mask(mask), SEEDS[:1], run=run)
    done = painted(run, model, told, 1, latent=encoded.latent, seed=encoded.rng, steps=5, guidance=4.0)
    assert done.rng == type(done.rng).of(given)
    assert_identical(done.latent.tensor(), expected)


# --- Stable unCLIP -------------------------------------------------------------------------


@BATCHES
def test_stable_unclip(batch: int, run: FolderRun, no_pipelines: Any) -> None:
    """StableUnCLIPPipeline: noise on the embedding, its level beside it, both as class labels."""
    options = {"prior_num_inference_steps": 3, "num_inference_steps": 4, "noise_level": 100, "guidance_scale": 5.0}
    negatives = ["black", "", "a photo"][:batch]
    given = generators(batch)
    expected = pipeline("stable_unclip")(PROMPTS[:batch], negative_prompt=negatives, generator=given, **options, output_type="pt").images
    no_pipelines()
    model, latent_model = parts(run, "stable_unclip"), nodes.load_model(run.model(unclip_folder("stable_unclip")), run=run)
    prior = drawn(run, model, batch, 3, 4.0)
    caption = nodes.encode_text(latent_model.encoder, PROMPTS[:batch], run=run)
    negative = nodes.encode_text(latent_model.encoder, negatives, run=run)
    told = unclip.condition_decoder(model.decoder, prior.embedding, caption, negative, noise_level=100, seed=prior.rng, run=run)
    done = painted(run, model, told, batch, steps=4, guidance=5.0)
    assert done.rng == type(done.rng).of(given)
    assert_identical(nodes.decode_latent(model.vae, done.latent, run=run).tensor(), expected)


@BATCHES
def test_stable_unclip_img2img(batch: int, run: FolderRun, no_pipelines: Any) -> None:
    """StableUnCLIPImg2ImgPipeline: the embedding is that of a picture."""
    options = {"num_inference_steps": 4, "noise_level": 30, "guidance_scale": 5.0}
    expected = pipeline("stable_unclip_img2img")(
        pictures(batch), PROMPTS[:batch], negative_prompt=[""] * batch, generator=generators(batch), **options, output_type="pt"
    ).images
    no_pipelines()
    model = parts(run, "stable_unclip_img2img")
    latent_model = nodes.load_model(run.model(unclip_folder("stable_unclip_img2img")), run=run)
    embedding = unclip.encode_clip_image(model.image_encoder, Image.from_pil(pictures(batch)), run=run)
    caption = nodes.encode_text(latent_model.encoder, PROMPTS[:batch], run=run)
    negative = nodes.encode_text(latent_model.encoder, [""] * batch, run=run)
    told = unclip.condition_decoder(model.decoder, embedding, caption, negative, noise_level=30, seed=SEEDS[:batch], run=run)
    done = painted(run, model, told, batch, steps=4, guidance=5.0)
    assert_identical(nodes.decode_latent(model.vae, done.latent, run=run).tensor(), expected)


# --- the control -----------------------------------------------------------------------------


def test_pixels_through_a_picture_are_not_identical(run: FolderRun) -> None:
    """The comparison is strict: a picture of 0..1 on the way to the upsampler costs last bits, its latent does not."""
    model = parts(run, "karlo")
    exact = Latent(torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1), "pixels")
    rounded = nodes.decode_latent(model.vae, exact, run=run)
    first, second = (unclip.upsample_diffusion(model.upsampler, one, 1, steps=3, run=run).image.tensor() for one in (exact, rounded))
    assert not torch.equal(first, second)
    assert torch.allclose(first, second, atol=1e-3)
