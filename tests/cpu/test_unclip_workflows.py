"""The unCLIP workflows, run by an engine on random weights: what each must show whatever the weights are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

from nodegraph import Engine, Image, RunFailed, WorkflowInvalid
from nodes.diffusion.noisy_classifier import NoisyClassifier
from tests.cpu.tiny_models import model_folder, root
from tests.cpu.tiny_unclip import pipeline, unclip_folder

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
QUICK: dict[str, Any] = {"prompt": "a red circle", "seed": 3, "steps": 4}
PRIOR: dict[str, Any] = {"prior_steps": 3}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    for kind in ("whole", "karlo", "kandinsky_prior"):
        unclip_folder(kind)
    for kind in ("sd1", "edit"):
        model_folder(kind)
    with Engine(models=[root()], cache=tmp_path_factory.mktemp("cache"), device="cpu") as made:
        yield made


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), numpy.random.default_rng(0)
    paths = [folder / "first.png", folder / "second.png"]
    for path in paths:
        PIL.Image.fromarray(rng.integers(0, 256, (32, 32, 3), numpy.uint8)).save(path)
    return paths


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(numpy.asarray(PIL.Image.open(path), numpy.float32) / 255).permute(2, 0, 1)[None]


def outputs(engine: Engine, name: str, model: str = "whole", **inputs: Any) -> dict[str, Any]:
    return engine.run(WORKFLOWS / f"{name}.json", model=model, **inputs).outputs


def picture(engine: Engine, name: str, model: str = "whole", **inputs: Any) -> torch.Tensor:
    return outputs(engine, name, model, **inputs)["image"].tensor()


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """The mean difference: noise on single last bits, which clamping can make large at single pixels, counts little."""
    return float((first - second).abs().mean())


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


# --- from a prompt ---------------------------------------------------------------------------


def test_unclip_is_the_pipeline(engine: Engine) -> None:
    """Up to the rounding of pixels between -1..1 and 0..1 on the way to the upsampler."""
    options = {"prior_num_inference_steps": 3, "decoder_num_inference_steps": 4, "super_res_num_inference_steps": 2}
    generator = torch.Generator().manual_seed(3)
    expected = pipeline("karlo")("a red circle", generator=generator, **options, output_type="np").images
    given = {**QUICK, **PRIOR, "draws": 1, "prior_guidance": 4.0, "guidance": 8.0, "upsampler_steps": 2}
    found = outputs(engine, "unclip_large", "karlo", **given)
    assert found["small"].shape == (1, 3, 16, 16)
    assert distance(found["image"].tensor(), torch.from_numpy(expected).permute(0, 3, 1, 2)) < 1e-3


def test_the_second_upsampler_goes_on_from_the_first(engine: Engine) -> None:
    given = {**QUICK, **PRIOR, "upsampler_steps": 2}
    huge = outputs(engine, "unclip_huge", "karlo", upsampler="karlo", **given)
    large = outputs(engine, "unclip_large", "karlo", **given)
    assert torch.equal(huge["large"].tensor(), large["image"].tensor())
    factor = huge["large"].shape[-1] // huge["small"].shape[-1]
    assert huge["image"].shape[-1] == factor * huge["large"].shape[-1]


def test_every_way_from_a_prompt_paints_another_picture(engine: Engine) -> None:
    """Both priors, the embedding of the text, and the caption alone; the same again gives the same."""
    small = [picture(engine, "unclip", **QUICK, **PRIOR, prior=prior) for prior in ("diffusion", "autoregressive")]
    small += [picture(engine, name, **QUICK) for name in ("unclip_text_embedding", "unclip_caption_only")]
    for place, one in enumerate(small):
        assert one.shape == (1, 3, 32, 32)
        assert all(not torch.allclose(one, other, atol=1e-3) for other in small[:place])
    again = picture(engine, "unclip", **QUICK, **PRIOR, prior="autoregressive")
    assert torch.equal(again, small[1])


def test_a_batch_of_a_prompt_differs_picture_by_picture(engine: Engine) -> None:
    found = picture(engine, "unclip", **QUICK, **PRIOR, batch=3)
    assert found.shape == (3, 3, 32, 32)
    assert not torch.allclose(found[0], found[1], atol=1e-2)
    alone = picture(engine, "unclip", **{**QUICK, "seed": 4}, **PRIOR)
    assert distance(found[1:2], alone) < 1e-3 < distance(found[:1], alone), "the second picture is that of seed + 1"


def test_imagine_picks_of_the_four(engine: Engine) -> None:
    given = {**QUICK, **PRIOR}
    grid = picture(engine, "imagine", **given)
    assert grid.shape == (1, 3, 70, 70)
    large = picture(engine, "imagine", **given, action="upscale", pick=4)
    assert large.shape == (1, 3, 128, 128)
    job = engine.submit(WORKFLOWS / "imagine.json", model="whole", **given, action="vary", pick=2, strength=0.5)
    ran = {event.node for event in job.events() if event.kind == "finished"}
    varied = job.result().outputs["image"].tensor()
    assert varied.shape == (1, 3, 70, 70)
    assert not any(node.startswith(("paint", "embed", "large", "upscaler")) for node in ran), "the four are there already"
    small = torch.nn.functional.interpolate(large, size=(32, 32), mode="area")
    assert psnr(small, grid[:, :, 36:68, 36:68]) > 10, "the fourth is at the bottom right"


# --- from pictures ---------------------------------------------------------------------------


def test_variations_of_no_strength_are_the_picture(engine: Engine, photos: list[Path]) -> None:
    """Through the whole inversion; a random VAE cannot give a photo back, so it is its reconstruction that returns."""
    same = picture(engine, "variations", image=photos[0], strength=0.0, count=2, steps=10)
    encode = {
        "model": {"use": "load_unclip", "with": {"name": "whole"}},
        "picture": {"use": "load_image", "with": {"file": str(photos[0])}},
        "encode": {"use": "encode_image", "from": {"vae": "model.vae", "image": "picture.image"}},
        "decode": {"use": "decode_latent", "from": {"vae": "model.vae", "latent": "encode.latent"}},
    }
    wanted = engine.run({"nodes": encode, "outputs": {"image": "decode.image"}}).outputs["image"].tensor()
    assert same.shape == (2, 3, 32, 32)
    assert psnr(same, wanted) >= 30
    varied = picture(engine, "variations", image=photos[0], strength=1.0, count=2, steps=10)
    assert psnr(varied, wanted) < 30
    assert not torch.allclose(varied[0], varied[1], atol=1e-2)


def test_a_batch_of_pictures_is_varied_one_by_one_as_the_refusal_says(
    engine: Engine, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(WORKFLOWS)
    pictures = Image(torch.cat([pixels(path) for path in photos]))
    with pytest.raises(RunFailed, match="of 2 texts or pictures cannot go with 4 latents") as refused:
        outputs(engine, "vary_image", image=pictures, count=2, steps=2)
    assert "link unbatch, and map over its images with each" in str(refused.value)
    nodes = {
        "one": {"use": "unbatch", "from": {"image": "inputs.image"}},
        "vary": {"use": "./vary_image.json", "each": {"image": "one.images"}, "with": {"model": "whole", "count": 2, "steps": 2}},
    }
    workflow = {"inputs": {"image": {"type": "image"}}, "nodes": nodes, "outputs": {"image": "vary.image"}}
    assert [one.shape for one in engine.run(workflow, image=pictures).outputs["image"]] == [(2, 3, 32, 32)] * 2


def test_interpolations_end_at_their_pictures(engine: Engine, photos: list[Path]) -> None:
    found = outputs(engine, "interpolate", first=photos[0], second=photos[1], amounts=[0.0, 0.5, 1.0], steps=4)
    images = [one.tensor() for one in found["images"]]
    assert found["image"].shape == (1, 3, 36, 104)
    back = outputs(engine, "interpolate", first=photos[1], second=photos[0], amounts=[1.0, 0.0], steps=4)["images"]
    assert torch.allclose(images[0], back[0].tensor(), atol=1e-3)
    assert torch.allclose(images[2], back[1].tensor(), atol=1e-3)
    assert not torch.allclose(images[0], images[1], atol=1e-3)


def test_interpolations_between_prompts(engine: Engine) -> None:
    given = {"first": "a red circle", "second": "a blue square", "steps": 4, "amounts": [0.0, 1.0]}
    images = [one.tensor() for one in outputs(engine, "interpolate_prompts", **given)["images"]]
    assert not torch.allclose(images[0], images[1], atol=1e-3)


def test_a_text_diff_begins_at_the_picture(engine: Engine, photos: list[Path]) -> None:
    given = {"image": photos[0], "source": "a red circle", "target": "a blue square", "steps": 10}
    images = [one.tensor() for one in outputs(engine, "text_diff", **given, amounts=[0.0, 0.9])["images"]]
    same = picture(engine, "variations", image=photos[0], strength=0.0, count=1, steps=10)
    assert psnr(images[0], same) > 40
    assert psnr(images[1], same) < psnr(images[0], same) - 3


def test_upscale_diffusion_takes_any_size(engine: Engine, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (24, 40), "orange").save(tmp_path / "small.png")
    assert picture(engine, "upscale_diffusion", image=tmp_path / "small.png", steps=2).shape == (1, 3, 160, 96)


def test_rerank_keeps_the_nearest(engine: Engine) -> None:
    found = engine.run(WORKFLOWS / "rerank.json", model="sd1", clip="whole", **QUICK, count=4, keep=3).outputs
    similarities = found["similarities"]
    assert similarities == sorted(similarities, reverse=True)
    assert found["image"].shape == (3, 3, 32, 32)
    best = engine.run(WORKFLOWS / "rerank.json", model="sd1", clip="whole", **QUICK, count=4).outputs["image"]
    assert torch.equal(best.tensor(), found["image"].tensor()[:1])


def test_instruct_edit(engine: Engine, photos: list[Path]) -> None:
    given = {"image": photos[0], "instruction": "make it red", "steps": 3}
    near, far = (picture(engine, "instruct_edit", "edit", **given, image_guidance=scale) for scale in (1.0, 4.0))
    assert near.shape == (1, 3, 32, 32)
    assert not torch.allclose(near, far, atol=1e-3)


def test_classifier_guidance(engine: Engine) -> None:
    """With a random classifier of the same latents; no scale is no guidance."""
    folder = root() / "two-classes"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    module = NoisyClassifier(4, ["noto", "fluent"], "kl-f4-c4-0.18215", (16, 16))
    save_file(module.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    config = {name: value for name, value in module.config.items() if not name.startswith("_")}
    (folder / "config.json").write_text(json.dumps({"nodegraph_kind": "classifier", **config}))
    given = {**QUICK, "classifier": "two-classes"}
    none, noto, fluent = (
        picture(engine, "classifier_guidance", **given, label=label, scale=scale)
        for label, scale in (("noto", 0.0), ("noto", 50.0), ("fluent", 50.0))
    )
    assert torch.equal(none, picture(engine, "unclip_caption_only", **QUICK))
    assert distance(noto, none) > 1e-4
    assert distance(noto, fluent) > distance(noto, none)


# --- on tiny-sd --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with the built-in models."""
    with Engine(cache=False, device="cpu") as made:
        yield made


def test_outpaint_keeps_the_picture_and_paints_around_it(shipped: Engine, photos: list[Path], tmp_path: Path) -> None:
    PIL.Image.new("RGB", (32, 32), (250, 250, 250)).save(tmp_path / "white.png")
    given = {"image": tmp_path / "white.png", "prompt": "a large red circle on the right on a white background", "steps": 8}
    found = shipped.run(WORKFLOWS / "outpaint.json", **given, left=0, right=32, guidance=4.0).outputs["image"].tensor()
    assert found.shape == (1, 3, 32, 64)
    assert torch.equal(found[..., :32], pixels(tmp_path / "white.png"))
    new = found[..., 32:]
    assert float(((new[:, 0] > 0.7) & (new[:, 1] < 0.4)).float().mean()) > 0.02, "there is red"


def test_hires_is_the_small_picture_in_large(shipped: Engine) -> None:
    prompt = "a large blue square in the center on a pink background"
    found = shipped.run(WORKFLOWS / "hires.json", prompt=prompt, seed=1, guidance=4.0).outputs
    large, small = found["image"].tensor(), found["small"].tensor()
    assert (large.shape, small.shape) == ((1, 3, 64, 64), (1, 3, 32, 32))
    assert psnr(torch.nn.functional.interpolate(large, size=(32, 32), mode="area"), small) > 15


# --- what a model lacks -----------------------------------------------------------------------


def test_what_a_model_lacks_is_said_before_anything_is_read(engine: Engine, photos: list[Path]) -> None:
    """Karlo has neither an image encoder nor an autoregressive prior; Kandinsky's prior has no decoder."""
    for name, model, lacking in (
        ("variations", "karlo", "image encoder"),
        ("unclip_caption_only", "kandinsky_prior", "decoder"),
    ):
        inputs = {"image": photos[0]} if name == "variations" else {"prompt": "x"}
        with pytest.raises(WorkflowInvalid) as caught:
            engine.run(WORKFLOWS / f"{name}.json", model=model, **inputs)
        assert f"the model has no {lacking}" in str(caught.value)
