"""The unCLIP workflows on the weights of tiny-unclip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from nodegraph import Engine, Image
from training import edits
from training.icons import Icons, draw_scene
from training.unclip.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
MODELS = ROOT / "nodes" / "diffusion" / "models"
PROMPTS = ["a red apple, fluent style", "a large anchor, noto style, at the top on a cyan background", "a rose, noto style"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(cache=tmp_path_factory.mktemp("cache"), device="cpu") as made:
        yield made


@pytest.fixture(scope="module")
def painted(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of PROMPTS by unclip at its defaults, as files."""
    folder = tmp_path_factory.mktemp("painted")
    paths = [folder / f"{place}.png" for place in range(len(PROMPTS))]
    for path, prompt in zip(paths, PROMPTS, strict=True):
        image(engine, "unclip", prompt=prompt, seed=1).pil()[0].save(path)
    return paths


def image(engine: Engine, name: str, **inputs: Any) -> Image:
    return engine.run(WORKFLOWS / f"{name}.json", **inputs).outputs["image"]


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


def reconstructed(engine: Engine, path: Path) -> torch.Tensor:
    """A picture through the autoencoder alone."""
    nodes = {
        "model": {"use": "load_unclip", "with": {"name": "tiny-unclip"}},
        "picture": {"use": "load_image", "with": {"file": str(path)}},
        "encode": {"use": "encode_image", "from": {"vae": "model.vae", "image": "picture.image"}},
        "decode": {"use": "decode_latent", "from": {"vae": "model.vae", "latent": "encode.latent"}},
    }
    return engine.run({"nodes": nodes, "outputs": {"image": "decode.image"}}).outputs["image"].tensor()


def test_pictures_are_nearest_to_their_own_prompts(engine: Engine, painted: list[Path]) -> None:
    """By the model's own CLIP, of all the prompts."""
    nodes: dict[str, Any] = {
        "model": {"use": "load_unclip", "with": {"name": "tiny-unclip"}},
        "pictures": {"use": "load_image", "each": {"file": [str(path) for path in painted]}},
        "batch": {"use": "batch", "from": {"images": "pictures.image"}},
        "texts": {"use": "encode_clip_text", "from": {"encoder": "model.encoder"}, "with": {"text": PROMPTS}},
        "seen": {"use": "encode_clip_image", "from": {"encoder": "model.image_encoder", "image": "batch.image"}},
    }
    outputs = {"texts": "texts.embedding", "pictures": "seen.embedding"}
    found = engine.run({"nodes": nodes, "outputs": outputs}).outputs
    texts, pictures = (torch.nn.functional.normalize(found[name].tensor(), dim=1) for name in ("texts", "pictures"))
    assert (pictures @ texts.T).argmax(dim=1).tolist() == [0, 1, 2]


def test_no_strength_gives_the_picture_back(engine: Engine, painted: list[Path], tmp_path: Path) -> None:
    """Through the whole inversion: what is lost is what the autoencoder loses. Also a picture that no caption says."""
    mixed = PIL.Image.open(painted[0])
    mixed.paste(PIL.Image.open(painted[1]).crop((0, 0, 32, 16)), (0, 16))
    mixed.save(tmp_path / "mixed.png")
    for path in (*painted[:2], tmp_path / "mixed.png"):
        picture = reconstructed(engine, path)
        assert psnr(image(engine, "variations", image=path, strength=0.0, count=1).tensor(), picture) >= 35
    varied = image(engine, "variations", image=tmp_path / "mixed.png", strength=1.0, count=2).tensor()
    assert psnr(varied[:1], reconstructed(engine, tmp_path / "mixed.png")) < 30
    assert psnr(varied[:1], varied[1:]) < 40


def test_drawn_pictures_come_back(engine: Engine, tmp_path: Path) -> None:
    """True drawings, which no model painted, at 30 dB and better."""
    icons, rng = Icons.load(ROOT / "tests" / "data" / "icons.npz", Recipe.concepts), np.random.default_rng(1)
    for number in range(6):
        drawn = edits.picture(icons, draw_scene(icons, rng))
        PIL.Image.fromarray(drawn.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
        again = image(engine, "variations", image=tmp_path / f"{number}.png", strength=0.0, count=1).tensor()
        assert psnr(again, drawn[None].float() / 255) >= 30


def test_a_text_diff_begins_at_the_picture_and_leaves_it(engine: Engine, painted: list[Path]) -> None:
    given = {"image": painted[0], "source": PROMPTS[0], "target": PROMPTS[1], "amounts": [0.0, 0.6]}
    images = [one.tensor() for one in engine.run(WORKFLOWS / "text_diff.json", **given).outputs["images"]]
    assert psnr(images[0], reconstructed(engine, painted[0])) >= 35
    assert psnr(images[1], images[0]) < 25


def test_every_way_paints(engine: Engine, painted: list[Path]) -> None:
    for name in ("unclip_text_embedding", "unclip_caption_only"):
        assert image(engine, name, prompt=PROMPTS[0], steps=6).shape == (1, 3, 32, 32)
    assert image(engine, "imagine", prompt=PROMPTS[0], steps=6).shape == (1, 3, 70, 70)
    assert image(engine, "imagine", prompt=PROMPTS[0], steps=6, action="upscale", pick=3).shape == (1, 3, 128, 128)
    assert image(engine, "interpolate", first=painted[0], second=painted[1], amounts=[0.5], steps=6).shape == (1, 3, 36, 36)
    assert image(engine, "interpolate_prompts", first="an owl", second="a rose", amounts=[0.5], steps=6).shape == (1, 3, 36, 36)
    assert image(engine, "rerank", prompt="a red circle", count=3, steps=6).shape == (1, 3, 32, 32)


def test_the_classifier_knows_the_latents_of_the_model() -> None:
    space = json.loads((MODELS / "tiny-unclip-styles" / "config.json").read_text())["space"]
    with Engine(cache=False, device="cpu") as made:
        assert made.check(WORKFLOWS / "classifier_guidance.json") == []
    scale = json.loads((MODELS / "tiny-unclip" / "vae" / "config.json").read_text())["scaling_factor"]
    assert space == f"kl-f4-c8-{scale:g}"


def test_a_classifier_makes_its_style_likelier(engine: Engine) -> None:
    given = {"prompt": "an owl", "batch": 2, "steps": 10}
    noto, fluent = (image(engine, "classifier_guidance", **given, label=label, scale=60.0).tensor() for label in ("noto", "fluent"))
    assert float((noto - fluent).abs().mean()) > 1e-3


@pytest.mark.parametrize("prompt", ["", "🐙", "красная роза", "赤い円", "a red circle " * 800], ids=lambda text: repr(text[:10]))
def test_any_prompt_is_painted(prompt: str, engine: Engine) -> None:
    assert image(engine, "unclip", prompt=prompt, steps=3, prior_steps=3, draws=1).shape == (1, 3, 32, 32)


def test_other_words_are_resolved(engine: Engine) -> None:
    found = engine.run(
        WORKFLOWS / "unclip_resolved.json", prompt="an ocean animal with tentacles, noto style, on a pink background"
    ).outputs
    assert found["prompt"] == "an octopus, noto style, on a pink background"
    known = image(engine, "unclip", prompt=found["prompt"])
    assert torch.equal(found["image"].tensor(), known.tensor())
