"""Tiles of the upscale pack: the picture they make is that of the whole, whatever its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Files
from nodes.upscale import networks
from nodes.upscale.networks import RRDBNet, SRVGGNetCompact, UpConv7
from nodes.upscale.tiles import boxes, count, enlarge, extended
from nodes.upscale.weights import load_network

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "nodes" / "upscale" / "models"
SIDES = st.integers(1, 40)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def random_network(network, seed=0):
    """With weights so large that everything a pixel can see matters."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
    return network.eval()


SMALL = {
    "upconv7": UpConv7(),
    "srvgg-x1": SRVGGNetCompact(6, 1, 1),
    "srvgg-x3": SRVGGNetCompact(6, 3, 3),
    "rrdbnet-x2": RRDBNet(6, 3, 1, 1, 1),
    "rrdbnet-x4": RRDBNet(6, 3, 1, 2, 1),
    "rrdbnet-x8": RRDBNet(4, 2, 1, 3, 1),
    "rrdbnet-folded-x2": RRDBNet(6, 3, 1, 2, 2),
    "rrdbnet-folded-x1": RRDBNet(6, 3, 1, 2, 4),
}
every_network = pytest.mark.parametrize("name", SMALL)


def difference(network, pixels, tile):
    """The greatest difference between tiles and whole. Random networks leave 0..1, so both are brought there."""
    whole = enlarge(network, pixels, 0, lambda: None)
    return (enlarge(network, pixels, tile, lambda: None) - whole).abs().max().item()


@every_network
@settings(max_examples=12, deadline=None, derandomize=True)
@given(height=SIDES, width=SIDES, tile=st.integers(5, 24))
def test_tiles_are_the_whole(name, height, width, tile):
    assert difference(random_network(SMALL[name]), picture(height, width), tile) < 1e-5


@pytest.mark.parametrize("name", ["waifu2x-photo-x2", "realesr-animevideo-x4", "realesrgan-anime-x4"])
@pytest.mark.parametrize(("height", "width", "tile"), [(1, 1, 1), (3, 5, 2), (7, 8, 4), (9, 233, 40), (65, 31, 16)])
def test_tiles_of_the_shipped_networks_are_the_whole(name, height, width, tile):
    network = load_network(Files({"model.safetensors": MODELS / f"{name}.safetensors"}), "cpu", "float32")
    assert difference(network, picture(height, width), tile) < 1e-5


@every_network
def test_context_is_what_a_pixel_sees(name):
    """Exactly: where the input has an influence at all, found by gradients through positive weights."""
    network = SMALL[name].double()
    for parameter in network.parameters():
        parameter.data.fill_(0.1 if parameter.ndim > 1 else 0.25)
    size = 2 * network.context + 3 * network.multiple
    start = (network.context // network.multiple + 1) * network.multiple
    seen = torch.rand(1, 3, 2 * network.margin + network.multiple, size, dtype=torch.double, requires_grad=True)
    columns = slice((start - network.margin) * network.scale, (start + network.multiple - network.margin) * network.scale)
    network(seen)[..., columns].sum().backward()
    touched = seen.grad.abs().sum((0, 1, 2)).nonzero()
    network.float()
    assert start - touched.min().item() == network.context
    assert touched.max().item() - (start + network.multiple - 1) == network.context


@pytest.mark.parametrize("name", [name for name in SMALL if name.startswith("rrdbnet")])
def test_bands_are_the_whole(name, monkeypatch):
    network, pixels = random_network(SMALL[name]), picture(68, 8)
    results = []
    for band in (1, 5, 1000):
        monkeypatch.setattr(networks, "BAND", band)
        with torch.no_grad():
            results.append(network(pixels))
    assert all(torch.allclose(one, results[-1], rtol=1e-5, atol=1e-5) for one in results)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows=st.integers(1, 60), columns=st.integers(1, 60), tile=st.integers(0, 70), multiple=st.sampled_from([1, 2, 4]))
def test_boxes_cover_every_pixel_once(rows, columns, tile, multiple):
    height, width = rows * multiple, columns * multiple
    covered = np.zeros((height, width), int)
    made = boxes(height, width, tile, multiple)
    for box in made:
        covered[box.top : box.bottom, box.left : box.right] += 1
        assert all(corner % multiple == 0 for corner in box)
        assert tile == 0 or max(box.bottom - box.top, box.right - box.left) < tile + multiple
    assert (covered == 1).all()
    assert made == sorted(made)


def test_tiles_are_even():
    assert [box.right - box.left for box in boxes(8, 513, 512)] == [256, 257]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(height=st.integers(1, 20), width=st.integers(1, 20), margin=st.integers(0, 9), multiple=st.sampled_from([1, 2, 4]))
def test_extended_mirrors_like_numpy(height, width, margin, multiple):
    pixels = picture(height, width)
    after = margin + -height % multiple, margin + -width % multiple
    expected = np.pad(pixels[0].numpy(), ((0, 0), (margin, after[0]), (margin, after[1])), mode="reflect")
    assert np.array_equal(extended(pixels, margin, multiple)[0].numpy(), expected)


def test_progress_counts_the_tiles_of_every_picture():
    calls = []
    enlarge(random_network(SMALL["rrdbnet-folded-x2"]), torch.rand(3, 3, 9, 17), 4, lambda: calls.append(None))
    assert len(calls) == 3 * count(9, 17, 4, 2) == 3 * 3 * 5


def test_a_picture_does_not_depend_on_its_batch():
    network = random_network(SMALL["srvgg-x3"])
    batch = torch.rand(3, 3, 20, 14, generator=torch.Generator().manual_seed(1))
    together = enlarge(network, batch, 8, lambda: None)
    alone = [enlarge(network, one, 8, lambda: None) for one in batch.split(1)]
    assert torch.equal(together, torch.cat(alone))
