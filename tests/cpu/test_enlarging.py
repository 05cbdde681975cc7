"""How benchmarks/enlarging.py measures nearness, and that the built-in upsamplers come nearer than interpolation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.enlarging import MEASURES, draw_pairs, enlarged, gmsd, psnr, worn
from nodegraph import Engine, Image
from training.icons import Icons
from training.shapes import draw_caption, lay_out, render

ROOT = Path(__file__).resolve().parents[2]


def shapes(count: int, side: int) -> torch.Tensor:
    """Pictures of coloured shapes at any size, float [n, 3, side, side] in 0..1: no upsampler saw one."""
    scenes = [lay_out(draw_caption(np.random.default_rng([3, number])), np.random.default_rng([4, number])) for number in range(count)]
    return torch.from_numpy(np.stack([render(scene, side) for scene in scenes])).permute(0, 3, 1, 2).float() / 255


def test_gmsd_is_that_of_the_paper() -> None:
    """Against scipy's own convolution, after the formulas (Xue et al. 2014, eq. 3-6)."""
    draw = np.random.default_rng(0)
    truth, image = draw.random((3, 32, 40)), draw.random((3, 32, 40))

    def gradients(picture: np.ndarray) -> np.ndarray:
        gray = np.tensordot([0.299, 0.587, 0.114], picture, 1).reshape(16, 2, 20, 2).mean((1, 3))
        return np.hypot(*(ndimage.prewitt(gray, axis)[1:-1, 1:-1] / 3 for axis in (0, 1)))

    one, other = gradients(image), gradients(truth)
    wanted = ((2 * one * other + 0.0026) / (one**2 + other**2 + 0.0026)).std()
    given = (torch.from_numpy(picture)[None].float() for picture in (image, truth))
    assert gmsd(*given).item() == pytest.approx(wanted, abs=1e-5)


def test_measures_tell_near_from_far() -> None:
    truth = shapes(3, 64)
    near, far = (truth + deviation * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)) for deviation in (0.01, 0.1))
    for name, measure in MEASURES.items():
        sign = -1 if name == "GMSD" else 1
        assert (sign * measure(near, truth) > sign * measure(far, truth)).all()
    assert gmsd(truth, truth).abs().max() < 1e-6


def test_pairs_are_one_picture_at_two_sizes() -> None:
    icons = Icons.load(ROOT / "tests/data/icons.npz", 20)
    small, large = draw_pairs(icons, 10, 6, 32)
    assert (small.shape, large.shape) == ((6, 3, 32, 32), (6, 3, 128, 128))
    assert psnr(torch.nn.functional.avg_pool2d(large, 4), small).min() > 25
    assert not torch.equal(draw_pairs(icons, 0, 6, 32)[0], small)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(cache=False, device="cpu") as made:
        yield made


@pytest.mark.parametrize("side", [32, 64, 128])
def test_the_first_upsampler_beats_interpolation_at_any_size(engine: Engine, side: int) -> None:
    found, truth = enlarged(engine, "tiny-unclip", shapes(4, side), steps=2), shapes(4, 4 * side)
    assert psnr(found["diffusion"], truth).mean() > psnr(found["bicubic"], truth).mean() + 2
    assert gmsd(found["diffusion"], truth).mean() < 0.8 * gmsd(found["bicubic"], truth).mean()


def test_the_second_upsampler_mends_what_is_worn(engine: Engine) -> None:
    truth = shapes(6, 256)
    found = enlarged(engine, "tiny-unclip-upsampler", worn(truth), steps=2)
    for baseline in ("bicubic", "realesr_animevideo_x4"):
        assert psnr(found["diffusion"], truth).mean() > psnr(found[baseline], truth).mean() + 1
    assert gmsd(found["diffusion"], truth).mean() < 0.8 * gmsd(found["bicubic"], truth).mean()


@pytest.mark.parametrize(("model", "bound"), [("tiny-unclip", 0.02), ("tiny-unclip-upsampler", 0.05)])
def test_plain_areas_keep_their_colour(engine: Engine, model: str, bound: float) -> None:
    """However much of a large picture they are: the networks learned on crops."""
    small = torch.tensor([0.2, 0.6, 0.9])[None, :, None, None].repeat(1, 1, 96, 160)
    small[:, :, 40:48, 70:78] = 0.0
    large = enlarged(engine, model, small, steps=2)["diffusion"]
    assert (large[:, :, :100] - small[:, :, :1, :1]).abs().mean() < bound


def test_the_upsampler_takes_any_size(engine: Engine) -> None:
    workflow = {
        "inputs": {"image": {"type": "image"}},
        "nodes": {
            "parts": {"use": "load_unclip", "with": {"name": "tiny-unclip"}},
            "large": {"use": "upsample_diffusion", "from": {"upsampler": "parts.upsampler", "image": "inputs.image"}, "with": {"steps": 2}},
        },
        "outputs": {"image": "large.image"},
    }
    large = engine.run(workflow, {"image": Image(torch.rand(1, 3, 24, 41))}).outputs["image"]
    assert (large.height, large.width) == (96, 164)
