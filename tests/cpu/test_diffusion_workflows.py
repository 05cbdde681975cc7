"""The shipped workflows, run by an engine, against diffusers' pipelines: the same pixels, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy
import PIL.Image
import pytest
import torch

from nodegraph import Engine
from tests.cpu.tiny_models import model_folder, root

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
COMMON: dict[str, Any] = {"prompt": "a red circle", "negative": "black"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    for kind, name in (("sd1", "tiny-sd"), ("sd2", ""), ("inpaint", "tiny-sd-inpainting")):
        folder = model_folder(kind)
        if name and not (root() / name).exists():
            (root() / name).symlink_to(folder)
    with Engine(models=[root()], cache=False, device="cpu") as made:
        yield made


def reference(name: str, kind: str, seeds: list[int], **inputs: Any) -> torch.Tensor:
    pipe = getattr(diffusers, name).from_pretrained(model_folder(kind), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    options = {"prompt": COMMON["prompt"], "negative_prompt": COMMON["negative"], "guidance_scale": 5.0, "num_inference_steps": 4}
    return pipe(**options, generator=generators, output_type="pt", **inputs).images


def graph(engine: Engine, name: str, kind: str, **inputs: Any) -> torch.Tensor:
    return engine.run(WORKFLOWS / f"{name}.json", model=kind, steps=4, **COMMON, **inputs).outputs["image"].tensor()


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A file, and its pixels [1,3,32,32]."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), numpy.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png", torch.from_numpy(pixels.astype(numpy.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture
def mask(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A file, and its values [1,1,32,32]."""
    values = numpy.zeros((32, 32), numpy.uint8)
    values[8:24, 4:20] = 255
    PIL.Image.fromarray(values).save(tmp_path / "mask.png")
    return tmp_path / "mask.png", torch.from_numpy(values.astype(numpy.float32) / 255)[None, None]


@pytest.mark.parametrize("name", ["txt2img", "img2img", "inpaint"])
def test_they_are_sound(engine: Engine, name: str) -> None:
    assert engine.check(WORKFLOWS / f"{name}.json") == []


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_txt2img(engine: Engine, kind: str) -> None:
    expected = reference("StableDiffusionPipeline", kind, [3, 4], num_images_per_prompt=2)
    assert torch.equal(graph(engine, "txt2img", kind, seed=3, batch=2), expected)


def test_img2img(engine: Engine, picture: tuple[Path, torch.Tensor]) -> None:
    file, pixels = picture
    expected = reference("StableDiffusionImg2ImgPipeline", "sd1", [3], image=pixels, strength=0.6)
    assert torch.equal(graph(engine, "img2img", "sd1", seed=3, image=str(file)), expected)


@pytest.mark.parametrize("kind", ["sd1", "inpaint"])
def test_inpaint(engine: Engine, kind: str, picture: tuple[Path, torch.Tensor], mask: tuple[Path, torch.Tensor]) -> None:
    (file, pixels), (mask_file, values) = picture, mask
    size = {"height": 32, "width": 32}
    expected = reference("StableDiffusionInpaintPipeline", kind, [3], image=pixels, mask_image=values, strength=1.0, **size)
    painted = graph(engine, "inpaint", kind, seed=3, image=str(file), mask=str(mask_file))
    assert torch.equal(painted, torch.where(values >= 0.5, expected, pixels))  # all around the mask is as it was
