"""Upscaling as a workflow: run by the engine, cached, and checked before any weight is read."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from nodegraph import Engine, Image, WorkflowInvalid
from nodes.upscale.networks import RRDBNet

ROOT = Path(__file__).resolve().parents[2]
UPSCALE = ROOT / "workflows" / "upscale.json"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def engine(tmp_path):
    with Engine(packs=[], models=[tmp_path / "models"], cache=False, device="cpu", output=tmp_path / "output") as made:
        yield made


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(data.coffee()[100:137, 200:251]).save(path)
    return path


def graph(use, **literals):
    """A workflow around one use of a node of the pack."""
    return {
        "nodegraph": 1,
        "inputs": {"image": {"type": "image"}, "model": {"type": "model", "kind": "upscaler", "default": "waifu2x-photo-x2"}},
        "nodes": {
            "upscaler": {"use": "load_upscaler", "from": {"name": "inputs.model"}},
            "large": {"use": use, "from": {"model": "upscaler.upscaler", "image": "inputs.image"}, "with": literals},
        },
        "outputs": {"image": "large.image"},
    }


@pytest.mark.parametrize(("model", "scale"), [("waifu2x-photo-x2", 2), ("realesr-animevideo-x4", 4), ("realesrgan-anime-x4", 4)])
def test_the_workflow_runs_with_every_shipped_model(engine, picture, model, scale):
    assert engine.check(UPSCALE) == []
    image = engine.run(UPSCALE, image=str(picture), model=model).outputs["image"]
    assert image.shape == (1, 3, 37 * scale, 51 * scale)
    small = np.asarray(image.pil()[0].resize((51, 37), PIL.Image.Resampling.BOX), float)
    assert np.abs(small - data.coffee()[100:137, 200:251]).mean() < 6  # it is still the same picture


def test_tiles_change_nothing_and_a_second_run_computes_nothing(engine, picture):
    whole = engine.run(UPSCALE, image=str(picture), tile=0).outputs["image"]
    tiled = engine.run(UPSCALE, image=str(picture), tile=16).outputs["image"]
    assert np.abs(whole.numpy() - tiled.numpy()).max() < 1e-5
    job = engine.submit(UPSCALE, image=str(picture), tile=16)
    assert not [event for event in job.events() if event.kind == "started"]
    assert np.array_equal(job.result().outputs["image"].numpy(), tiled.numpy())


def test_upscale_to_in_a_workflow(engine):
    image = Image(torch.rand(1, 3, 10, 20))
    assert engine.run(graph("upscale_to", scale=1.5), image=image).outputs["image"].shape == (1, 3, 15, 30)
    assert engine.run(graph("upscale_to", width=50, height=None), image=image).outputs["image"].shape == (1, 3, 25, 50)
    with pytest.raises(WorkflowInvalid, match="no size is given"):
        engine.run(graph("upscale_to"), image=image)


def test_a_public_checkpoint_in_a_folder(engine, tmp_path):
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"nodegraph_kind": "upscaler"}')
    tensors = {f"params_ema.{name}": tensor for name, tensor in RRDBNet(6, 3, 1, 2, 2).state_dict().items()}
    save_file(tensors, folder / "RealESRGAN_small.safetensors")
    assert engine.run(graph("upscale"), image=Image(torch.rand(1, 3, 5, 7)), model="mine").outputs["image"].shape == (1, 3, 10, 14)


def test_check_reads_headers_and_no_weights(engine, tmp_path):
    (tmp_path / "models").mkdir()
    save_file({"conv_first.weight": torch.zeros(3)}, tmp_path / "models" / "odd.safetensors", {"kind": "upscaler"})
    workflow = graph("upscale_to", scale=2.0, width=100)
    workflow["nodes"]["odd"] = {"use": "load_upscaler", "with": {"name": "odd"}}
    found = {problem.where: (problem.code, problem.text, problem.fix) for problem in engine.check(workflow)}
    assert found == {
        "nodes.large.with.scale": ("facts-mismatch", "there is a scale, and a width or height as well", "leave one of them out"),
        "nodes.odd.with.name": (
            "facts-mismatch",
            "'odd' cannot be used as an upscaler: the tensors are of no known architecture; there are 'conv_first.weight'",
            "use weights of rrdbnet, srvgg, upconv7",
        ),
    }


def test_alpha_is_kept_as_the_workflow_says(engine, picture, tmp_path):
    alpha = np.tile(np.linspace(0, 255, 51).round().astype(np.uint8), (37, 1))
    with PIL.Image.open(picture) as opened:
        opened.putalpha(PIL.Image.fromarray(alpha))
        opened.save(picture)
    nodes = {
        "enlarged": {"use": str(UPSCALE), "from": {"image": "inputs.image"}},
        "small": {"use": "load_image", "from": {"file": "inputs.image"}},
        "size": {"use": "image_size", "from": {"image": "enlarged.image"}},
        "alpha": {"use": "resize_mask", "from": {"mask": "small.mask", "width": "size.width", "height": "size.height"}},
        "save": {"use": "save_image", "from": {"image": "enlarged.image", "mask": "alpha.mask"}},
    }
    [file] = engine.run({"inputs": {"image": {"type": "file"}}, "nodes": nodes, "outputs": {}}, image=str(picture)).files
    with PIL.Image.open(file) as made:
        assert (made.mode, made.size) == ("RGBA", (102, 74))
        assert np.abs(np.asarray(made.getchannel("A").resize((51, 37), PIL.Image.Resampling.BOX), int) - alpha).max() <= 2


def test_an_unknown_model_has_a_near_name(engine):
    workflow = graph("upscale")
    workflow["nodes"]["upscaler"] = {"use": "load_upscaler", "with": {"name": "waifu2x-foto-x2"}}
    (problem,) = engine.check(workflow)
    assert (problem.code, problem.fix) == ("unknown-model", "did you mean 'waifu2x-photo-x2'?")
