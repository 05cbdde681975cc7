"""The smaller variants of nodes, for when memory is short: as good as the whole, and reached through the engine's ladder."""

from __future__ import annotations

import sys

import pytest
import torch

from nodegraph import Engine, Image, Latent, OutOfMemory
from nodes.diffusion import nodes
from nodes.upscale import tiles
from nodes.upscale import upscale as upscaling
from tests.cpu.tiny_models import FolderRun, model_folder


class ShortRun(FolderRun):
    """A run whose memory is short."""

    def __init__(self, smaller: int):
        super().__init__()
        self.smaller = smaller


def decoded(smaller: int, latent: Latent) -> torch.Tensor:
    run = ShortRun(smaller)
    model = nodes.load_model(run.model(model_folder("sd1")), run=run)
    return nodes.decode_latent(model.vae, latent, run=run).tensor()


def test_one_picture_after_another_is_the_same_up_to_rounding():
    latent = Latent(torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2)))
    assert (decoded(1, latent) - decoded(0, latent)).abs().max() < 1e-5


def test_tiles_cover_the_whole_picture():
    latent = Latent(torch.randn(1, 4, 64, 48, generator=torch.Generator().manual_seed(2)))
    whole, tiled = decoded(0, latent), decoded(2, latent)
    assert tiled.shape == whole.shape
    assert torch.isfinite(tiled).all()
    assert (tiled - whole).abs().mean() < 0.1, "random weights have no locality; real ones differ at the seams only"


@pytest.mark.parametrize("smaller", [1, 2, 3])
def test_the_ladder_reaches_smaller_tiles(monkeypatch, tmp_path, smaller):
    """An upscaler that runs out of memory above a tile size gives the same picture with smaller tiles."""
    picture = Image(torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(1)))
    workflow = {
        "nodegraph": 1,
        "inputs": {"image": {"type": "image"}},
        "nodes": {
            "model": {"use": "load_upscaler", "with": {"name": "waifu2x-photo-x2"}},
            "up": {"use": "upscale", "from": {"model": "model.upscaler", "image": "inputs.image"}, "with": {"tile": 0}},
        },
        "outputs": {"image": "up.image"},
    }
    with Engine(cache=False) as engine:
        whole = engine.run(workflow, image=picture).outputs["image"].tensor()
    limit, used = max(120 >> smaller, upscaling.MIN_TILE), []
    enlarge = tiles.enlarge

    def short_of_memory(network, pictures, tile, done):
        used.append(tile)
        if not 0 < tile <= limit:
            raise OutOfMemory(f"tiles of {tile} do not fit")
        return enlarge(network, pictures, tile, done)

    for name, module in list(sys.modules.items()):
        if name.endswith("upscale.tiles"):  # the pack's own copy, which the engine has imported under a private name
            monkeypatch.setattr(module, "enlarge", short_of_memory)
    with Engine(cache=False) as engine:
        small = engine.run(workflow, image=picture).outputs["image"].tensor()
    assert used[-1] == limit
    assert (small - whole).abs().max() < 1e-5


def test_smaller_is_declared():
    with Engine(cache=False) as engine:
        assert {name: engine.registry.get(name).smaller for name in ("decode_latent", "upscale", "upscale_to")} == {
            "decode_latent": 2,
            "upscale": 3,
            "upscale_to": 3,
        }
