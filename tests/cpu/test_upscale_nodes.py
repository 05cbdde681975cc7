"""The upscale pack's nodes: quality, sizes, progress, cancel, public checkpoints, and what is refused."""

import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage import data

from nodegraph import Cancelled, Files, Image, Invalid, ModelRef, Run
from nodegraph.spec import node_type
from nodes.upscale import tiles
from nodes.upscale.networks import RRDBNet, SRVGGNetCompact
from nodes.upscale.upscale import load_upscaler, upscale, upscale_to

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "nodes" / "upscale" / "models"
CROPS = {
    "astronaut": data.astronaut()[:384, 64:448],
    "coffee": data.coffee()[:384, 100:484],
    "chelsea": data.chelsea()[:, 40:424],  # 300 rows are all there are
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Lending(Run):
    """Lends weights straight from files, and records progress."""

    def __init__(self, path, cancel_at=None):
        self.files = Files({path.name: path}) if path.is_file() else Files({one.name: one for one in path.iterdir()})
        self.cancel_at, self.steps, self.loads = cancel_at, [], []

    @contextmanager
    def use(self, handle, load):
        self.loads.append(load.__name__)
        yield load(self.files, "cpu", "float32")

    def progress(self, step, total, text="", preview=None):
        self.steps.append((step, total))
        if step == self.cancel_at:
            raise Cancelled("cancelled")


def loaded(path, **options):
    run = Lending(path, **options)
    return load_upscaler(ModelRef(path.stem, ((path.name, b"digest"),)), run=run), run


def shipped(name, **options):
    return loaded(MODELS / f"{name}.safetensors", **options)


def halved(pixels, factor=2):
    return PIL.Image.fromarray(pixels).resize((pixels.shape[1] // factor, pixels.shape[0] // factor), PIL.Image.Resampling.BICUBIC)


def psnr(one, other):
    return -10 * np.log10(np.mean((one.astype(float) - other) ** 2) / 255**2)


def sharpness(pixels):
    return np.abs(np.diff(pixels.astype(float).mean(2), axis=0)).mean()


@pytest.mark.parametrize("name", CROPS)
def test_waifu2x_is_better_than_bicubic(name):
    original = CROPS[name]
    small = halved(original)
    bicubic = np.asarray(small.resize(original.shape[1::-1], PIL.Image.Resampling.BICUBIC))
    model, run = shipped("waifu2x-photo-x2")
    result = upscale(model, Image.from_pil(small), run=run).bytes_hwc()[0]
    print(f"{name}: bicubic {psnr(original, bicubic):.2f} dB, waifu2x {psnr(original, result):.2f} dB")
    assert psnr(original, result) >= psnr(original, bicubic) + 1


@pytest.mark.parametrize("name", ["realesr-animevideo-x4", "realesrgan-anime-x4"])
def test_real_esrgan_is_sharper_than_bicubic_and_true_to_the_picture(name):
    original = CROPS["astronaut"][:256, 32:288]
    small = halved(original, 4)
    bicubic = np.asarray(small.resize((256, 256), PIL.Image.Resampling.BICUBIC))
    model, run = shipped(name)
    result = upscale(model, Image.from_pil(small), run=run).bytes_hwc()[0]
    assert sharpness(result) > 1.2 * sharpness(bicubic)
    assert psnr(result, bicubic) > 20


def test_an_upscaler_knows_its_scale():
    for name, architecture, scale in (("waifu2x-photo-x2", "upconv7", 2), ("realesrgan-anime-x4", "rrdbnet", 4)):
        model, run = shipped(name)
        assert model.facts == {"architecture": architecture, "scale": scale}
        assert run.loads == ["load_facts"]


def test_the_input_is_unchanged_and_the_result_repeatable():
    image = Image.from_pil(PIL.Image.fromarray(CROPS["coffee"][:40, :50]))
    before = image.numpy().copy()
    model, run = shipped("waifu2x-photo-x2")
    first, second = (upscale(model, image, 16, run=run) for _ in range(2))
    assert np.array_equal(image.numpy(), before)
    assert np.array_equal(first.numpy(), second.numpy())
    assert first.shape == (1, 3, 80, 100)
    assert first.numpy().min() >= 0
    assert first.numpy().max() <= 1


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({"scale": 3}, (48, 60)),
        ({"scale": 2}, (32, 40)),
        ({"scale": 0.5}, (8, 10)),
        ({"width": 90}, (72, 90)),
        ({"height": 33}, (33, 41)),
        ({"width": 25, "height": 60}, (60, 25)),
        ({"scale": 1}, (16, 20)),
    ],
)
def test_upscale_to_gives_the_size(asked, size):
    model, run = shipped("waifu2x-photo-x2")
    image = Image.from_pil([PIL.Image.fromarray(CROPS["coffee"][top : top + 16, :20]) for top in (0, 100)])
    result = upscale_to(model, image, **asked, run=run)
    assert result.shape == (2, 3, *size)
    assert ("load_network" in run.loads) == (max(size[0] / 16, size[1] / 20) > 1)


def test_upscale_to_runs_as_often_as_it_takes_and_then_reduces():
    """Four times is two runs of the model; what lies between is reduced without aliasing."""
    model, run = shipped("waifu2x-photo-x2")
    image = Image.from_pil(PIL.Image.fromarray(CROPS["astronaut"][:24, :24]))
    twice = upscale(model, upscale(model, image, run=run), run=run)
    assert np.array_equal(upscale_to(model, image, scale=4, run=run).numpy(), twice.numpy())
    thrice = upscale_to(model, image, scale=3, run=run).bytes_hwc()[0]
    pillow = twice.pil()[0].resize((72, 72), PIL.Image.Resampling.BICUBIC)
    assert psnr(thrice, np.asarray(pillow)) > 45


def test_progress_is_one_line_over_all_tiles_and_passes():
    image = Image(torch.rand(2, 3, 8, 12))
    model, run = shipped("waifu2x-photo-x2")
    upscale_to(model, image, scale=4, tile=8, run=run)
    total = 2 * (1 * 2 + 2 * 3)
    assert run.steps == [(step, total) for step in range(total + 1)]


@pytest.mark.parametrize(
    ("tile", "sides"), [(512, [512, 256, 128, 64]), (0, [0, 60, 32, 32]), (40, [40, 32, 32, 32]), (16, [16, 16, 16, 16])]
)
def test_tiles_become_no_larger_where_memory_is_short(monkeypatch, tile, sides):
    used = []
    monkeypatch.setattr(tiles, "enlarge", lambda network, pictures, side, done: used.append(side) or pictures)
    model, run = shipped("waifu2x-photo-x2")
    for run.smaller in range(4):
        upscale(model, Image(torch.rand(1, 3, 90, 120)), tile, run=run)
    assert used == sides


def test_cancel_stops_between_tiles():
    model, run = shipped("waifu2x-photo-x2", cancel_at=2)
    with pytest.raises(Cancelled):
        upscale(model, Image(torch.rand(1, 3, 8, 40)), 8, run=run)
    assert run.steps == [(0, 5), (1, 5), (2, 5)]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "no size is given"),
        ({"scale": 2.0, "width": 10}, "a scale, and a width or height as well"),
        ({"width": 60_000}, "it takes a picture of 65536×262144 pixels"),
        ({"height": 10, "width": 60_000}, "it takes a picture of 65536×262144 pixels"),
    ],
)
def test_upscale_to_refuses(asked, words):
    model, run = shipped("waifu2x-photo-x2")
    with pytest.raises(Invalid, match=words):
        upscale_to(model, Image(torch.rand(1, 3, 16, 4)), **asked, run=run)


def test_upscale_refuses_what_would_be_too_large():
    model, run = shipped("realesrgan-anime-x4")
    with pytest.raises(Invalid, match="it takes a picture of 16000×16000 pixels"):
        upscale(model, Image(np.broadcast_to(np.float32(0), (1, 3, 4000, 4000))), run=run)
    assert "load_network" not in run.loads


# --- checkpoints of others ----------------------------------------------------------------------------------------------


def random_checkpoint(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in network.state_dict().items()}


def first_esrgan(name, doublings=2, blocks=1):
    """Names of the first ESRGAN release for those of BasicSR."""
    last = 3 * doublings + 4
    fixed = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}", "conv_hr": f"model.{last - 2}", "conv_last": f"model.{last}"}
    fixed |= {f"conv_up{index}": f"model.{3 * index}" for index in range(1, doublings + 1)}
    layer, _, what = name.rpartition(".")
    return f"{fixed[layer]}.{what}" if layer in fixed else re.sub(r"body\.(\d+)\.rdb(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0", name)


def second_esrgan(name):
    """Names of the second ESRGAN release, also of BSRGAN and RealSR."""
    name = re.sub(r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", name)
    return name.replace("conv_body", "trunk_conv").replace("conv_up", "upconv").replace("conv_hr", "HRconv")


@pytest.mark.parametrize("rename", [str, "params_ema.{}".format, "params.{}".format, first_esrgan, second_esrgan])
def test_public_names_give_the_same_network(rename, tmp_path):
    network = RRDBNet(6, 3, 1, 2, 1)
    tensors = random_checkpoint(network)
    network.load_state_dict(tensors)
    save_file({rename(name): tensor for name, tensor in tensors.items()}, tmp_path / "mine.safetensors")
    model, run = loaded(tmp_path / "mine.safetensors")
    image = Image(torch.rand(1, 3, 9, 7))
    assert model.facts["scale"] == 4
    with torch.no_grad():
        expected = network(image.tensor()).clamp(0, 1)
    assert torch.allclose(upscale(model, image, run=run).tensor(), expected, atol=1e-5)


@pytest.mark.parametrize("doublings", [1, 3])
def test_the_first_names_at_other_scales(doublings, tmp_path):
    tensors = random_checkpoint(RRDBNet(6, 3, 1, doublings, 1))
    save_file({first_esrgan(name, doublings): tensor for name, tensor in tensors.items()}, tmp_path / "mine.safetensors")
    model, run = loaded(tmp_path / "mine.safetensors")
    assert upscale(model, Image(torch.rand(1, 3, 4, 5)), run=run).shape == (1, 3, 4 * 2**doublings, 5 * 2**doublings)


@pytest.mark.parametrize(
    "network", [RRDBNet(6, 3, 1, 2, 2), RRDBNet(6, 3, 1, 2, 4), SRVGGNetCompact(6, 2, 2)], ids=["folded-x2", "folded-x1", "srvgg-x2"]
)
def test_a_folder_with_a_checkpoint_of_any_size(network, tmp_path):
    (tmp_path / "config.json").write_text('{"nodegraph_kind": "upscaler"}')
    save_file(random_checkpoint(network), tmp_path / "weights.safetensors")
    model, run = loaded(tmp_path)
    assert upscale(model, Image(torch.rand(1, 3, 5, 7)), 4, run=run).shape == (1, 3, 5 * network.scale, 7 * network.scale)


def test_a_model_that_does_not_enlarge_reaches_no_size(tmp_path):
    save_file(random_checkpoint(RRDBNet(6, 3, 1, 2, 4)), tmp_path / "restore.safetensors")
    model, run = loaded(tmp_path / "restore.safetensors")
    with pytest.raises(Invalid, match="scale 1") as caught:
        upscale_to(model, Image(torch.rand(1, 3, 8, 8)), scale=2.0, run=run)
    assert caught.value.port == "model"


def test_damaged_and_foreign_files(tmp_path):
    whole = (MODELS / "waifu2x-photo-x2.safetensors").read_bytes()
    for raw, words in ((whole[:-1], "damaged"), (whole[:5], "no safetensors file"), (b"", "no safetensors file")):
        (tmp_path / "a.safetensors").write_bytes(raw)
        with pytest.raises(Invalid, match=words):
            loaded(tmp_path / "a.safetensors")
    save_file({"unet.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(Invalid, match=r"a.safetensors cannot be used as an upscaler: .*no known architecture"):
        loaded(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(whole)
    with pytest.raises(Invalid, match=r"one \.safetensors file"):
        loaded(tmp_path)


def test_weights_of_a_wrong_name_are_refused(tmp_path):
    tensors = load_file(MODELS / "waifu2x-photo-x2.safetensors")
    save_file(tensors, tmp_path / "a.safetensors", {"architecture": "rrdbnet"})
    with pytest.raises(Invalid, match="says architecture 'rrdbnet', but the tensors are of 'upconv7'") as caught:
        loaded(tmp_path / "a.safetensors")
    assert caught.value.fix == "write architecture 'upconv7'"


# --- specs and the workflow ---------------------------------------------------------------------------------------------


def test_specs():
    for function in (load_upscaler, upscale, upscale_to):
        made = node_type(function, "upscale")
        assert made.doc
        assert made.takes_run == "run"
        assert len(made.outputs) == 1
    assert node_type(upscale, "upscale").inputs["tile"].minimum == 0
    assert node_type(load_upscaler, "upscale").inputs["name"].model == "upscaler"
