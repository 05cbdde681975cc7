"""The smaller variants of nodes, for when memory is short: as good as the whole, and reached through the engine's ladder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from nodegraph import Embedding, Engine, Image, Latent, OutOfMemory
from nodes.diffusion import editing, nodes, unclip
from nodes.upscale import tiles
from nodes.upscale import upscale as upscaling
from tests.cpu.tiny_models import FolderRun, model_folder
from tests.cpu.tiny_unclip import unclip_folder

ROOT = Path(__file__).resolve().parents[2]


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


@contextmanager
def noted_forwards() -> Iterator[list[int]]:
    """Notes the rows of each forward of a denoiser."""
    rows: list[int] = []
    forward = UNet2DConditionModel.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            UNet2DConditionModel,
            "forward",
            lambda self, sample, *rest, **more: rows.append(len(sample)) or forward(self, sample, *rest, **more),
        )
        yield rows


def sampled(kind: str, smaller: int) -> torch.Tensor:
    """Three latents of a model, with guidance."""
    run = ShortRun(smaller)
    model = nodes.load_model(run.model(model_folder(kind)), run=run)
    positive, negative = (nodes.encode_text(model.encoder, text, run=run) for text in ("a red circle", ""))
    latent = nodes.empty_latent(model.denoiser, 32, 32, 3)
    if kind == "edit":
        picture = Image(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(4)))
        latent = editing.encode_edit(model.vae, picture, run=run)
    options = {"seed": [5, 6, 7], "steps": 3, "guidance": 4.0, "sampler": "euler_ancestral"}
    return nodes.sample_latent(model.denoiser, positive, latent, negative, run=run, **options).latent.tensor()


def decoded_embedding(kind: str, smaller: int) -> torch.Tensor:
    """Two latents or pictures of a decoder of image embeddings, with guidance."""
    run = ShortRun(smaller)
    model = unclip.load_unclip(run.model(unclip_folder(kind)), run=run)
    embedding, other = (Embedding(torch.randn(2, 32, generator=torch.Generator().manual_seed(seed))) for seed in (2, 3))
    told = {"negative_embedding": other}
    if kind == "karlo":
        caption, empty = (unclip.encode_clip_text(model.encoder, [text] * 2, run=run).conditioning for text in ("a red circle", ""))
        told = {"caption": caption, "negative": empty}
    made = unclip.condition_decoder(model.decoder, embedding, seed=[5, 6], run=run, **told)
    latent = nodes.empty_latent(model.decoder, batch=2)
    done = nodes.sample_latent(model.decoder, made.positive, latent, made.negative, made.rng, 3, 4.0, run=run)
    return done.latent.tensor()


@pytest.mark.parametrize(
    ("draw", "kind", "rows"),
    [(sampled, "sd1", 6), (sampled, "edit", 9), (decoded_embedding, "karlo", 4), (decoded_embedding, "kandinsky_decoder", 4)],
)
def test_a_denoiser_that_sees_one_picture_after_another_gives_the_same_up_to_rounding(draw, kind, rows):
    with noted_forwards() as whole:
        expected = draw(kind, 0)
    with noted_forwards() as single:
        given = draw(kind, 1)
    assert whole == [rows] * 3
    assert single == [1] * 3 * rows
    assert expected.std() > 0.01
    assert (given - expected).abs().max() < 1e-4 * expected.abs().max()


SHORT = """
import json, re, resource, sys
from nodegraph import Engine

def data():
    return int(re.search(r"VmData:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

paint = {"prompt": "a large red circle on the left on a white background", "steps": 1}
with Engine(cache=False, threads=2) as engine:
    whole = engine.run(sys.argv[1], **paint, batch=12)  # with its imports, weights and threads there
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data() + (100 << 20), most))
    short = engine.run(sys.argv[1], **paint, batch=12, width=128, height=128)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    wide = engine.run(sys.argv[1], **paint, batch=12, width=128, height=128)
difference = (short.outputs["image"].tensor() - wide.outputs["image"].tensor()).abs().max()
print(json.dumps({"smaller": [short.smaller, wide.smaller], "difference": float(difference)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limits and accounts are Linux's")
def test_pictures_are_painted_where_the_system_has_no_memory_for_all_at_once():
    """A process whose memory the kernel limits: the allocations fail in truth."""
    command = [sys.executable, "-c", SHORT, str(ROOT / "workflows" / "txt2img.json")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other take minutes where the machine is busy
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["smaller"][0]["image"]["sample"] == 1
    assert told["smaller"][1] == {}
    assert told["difference"] < 1e-3


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
    declared = {"decode_latent": 2, "sample_latent": 1, "invert_ddim": 1, "upscale": 3, "upscale_to": 3}
    with Engine(cache=False) as engine:
        assert {name: engine.registry.get(name).smaller for name in declared} == declared
