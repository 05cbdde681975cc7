"""How benchmarks/enlarging.py measures nearness, and that the built-in upsampler comes nearer than interpolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.enlarging import MEASURES, draw_pairs, enlarged, gmsd, psnr
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


def test_the_upsampler_beats_interpolation() -> None:
    with Engine(cache=False, device="cpu") as engine:
        found = enlarged(engine, "tiny-unclip", shapes(8, 32), steps=2)
    truth = shapes(8, 128)
    assert psnr(found["diffusion"], truth).mean() > psnr(found["bicubic"], truth).mean() + 0.5
    assert gmsd(found["diffusion"], truth).mean() < 0.8 * gmsd(found["bicubic"], truth).mean()


def test_the_upsampler_takes_any_size() -> None:
    workflow = {
        "inputs": {"image": {"type": "image"}},
        "nodes": {
            "parts": {"use": "load_unclip", "with": {"name": "tiny-unclip"}},
            "large": {"use": "upsample_diffusion", "from": {"upsampler": "parts.upsampler", "image": "inputs.image"}, "with": {"steps": 2}},
        },
        "outputs": {"image": "large.image"},
    }
    with Engine(cache=False, device="cpu") as engine:
        large = engine.run(workflow, {"image": Image(torch.rand(1, 3, 24, 41))}).outputs["image"]
    assert (large.height, large.width) == (96, 164)
