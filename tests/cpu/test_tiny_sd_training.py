"""The recipe of tiny-sd from data file to folders, on made-up drawings and a few steps a stage."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline, UNet2DConditionModel
from icon_data import write_icons

from training import parts
from training.denoiser import Encoded
from training.editors import draw_mask
from training.icons import Icons
from training.loop import Trainer
from training.recipe import Recipe
from training.tiny_sd import main, parse_arguments
from training.world import draw_world

SMALL = {field.name: 2 for field in fields(Recipe) if field.name.endswith("_steps")}
SMALL |= {"concepts": 3, "examples": 32}
SMALL |= {field.name: 8 for field in fields(Recipe) if field.name.endswith("_batch")}
NUMBERS = [f"--set={name}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("sd")
    return write_icons(base / "icons.npz"), base / "work", base / "out"


@pytest.fixture(scope="module")
def trained(folders):
    data, work, out = folders
    main([f"--data={data}", f"--work={work}", f"--out={out}", "--device=cpu", *NUMBERS])
    return out


def test_the_folders_are_ordinary_ones_of_diffusers(trained):
    pipeline = StableDiffusionPipeline.from_pretrained(trained)
    pipeline.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 2, "output_type": "np", "height": 32, "width": 32}
    assert pipeline("a large box, noto style", **asked).images.shape == (1, 32, 32, 3)
    picture = torch.rand(1, 3, 32, 32)
    for name, kind, more in (
        ("inpainting", StableDiffusionInpaintPipeline, {"mask_image": torch.ones(1, 1, 32, 32)}),
        ("instruction", StableDiffusionInstructPix2PixPipeline, {}),
    ):
        unet = UNet2DConditionModel.from_pretrained(trained.with_name(f"{trained.name}-{name}"), subfolder="unet")
        editor = kind.from_pretrained(trained, unet=unet)
        editor.set_progress_bar_config(disable=True)
        given = asked if name == "inpainting" else {key: value for key, value in asked.items() if key not in ("height", "width")}
        assert editor("on a pink background", image=picture, **more, **given).images.shape == (1, 32, 32, 3)


def test_a_stopped_run_resumes_to_the_same_weights(trained, folders, tmp_path, monkeypatch):
    data, work, _ = folders

    def run(stage: str) -> None:
        main([f"--data={data}", f"--work={tmp_path}", "--device=cpu", "--resume", f"--stage={stage}", *NUMBERS])

    run("vae")
    run("latents")
    update = Trainer._update

    def stopped(trainer: Trainer, loss: torch.Tensor) -> None:
        update(trainer, loss)
        trainer.save()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", stopped)
        with pytest.raises(KeyboardInterrupt):
            run("unet")
    assert torch.load(tmp_path / "unet.pt", weights_only=True)["step"] == 1
    run("unet")
    ours, theirs = (torch.load(folder / "unet.pt", weights_only=True)["averages"]["unet"] for folder in (tmp_path, work))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_starts_from_a_finished_model_of_fewer_words(trained, folders, tmp_path):
    data, _, _ = folders
    known = json.loads((trained / "tokenizer/vocab.json").read_text())
    start = tmp_path / "start"
    (start / "tokenizer").mkdir(parents=True)
    (start / "tokenizer/vocab.json").write_text(json.dumps({token: number for token, number in known.items() if token != "noto</w>"}))
    for part in ("text_encoder", "unet", "vae"):
        (start / part).symlink_to(trained / part)
    for stage in ("vae", "latents", "unet"):
        numbers = [*NUMBERS, "--set=vae_steps=0", "--set=unet_steps=0"]
        main([f"--data={data}", f"--work={tmp_path / 'work'}", "--device=cpu", f"--stage={stage}", f"--start={start}", *numbers])
    name = "embeddings.token_embedding.weight"
    table = torch.load(tmp_path / "work/unet.pt", weights_only=True)["averages"]["text_encoder"][name]
    before = StableDiffusionPipeline.from_pretrained(trained).text_encoder.state_dict()[name]
    kept = [number for token, number in known.items() if token != "noto</w>"]
    assert torch.equal(table[kept], before[kept].float())
    assert not torch.equal(table[known["noto</w>"]], before[known["noto</w>"]].float())


def test_masked_pictures_lie_beside_their_latents(trained, folders):
    examples = Encoded.load(folders[1] / "inpainting-latents.pt")
    mask, left = examples.beside.float().split([1, parts.LATENT_CHANNELS], 1)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    whole = mask.flatten(1).amin(1) == 1
    assert 0 < whole.float().mean() < 1
    assert left[whole].std(0).amax() < 1e-3  # nothing of the picture is left
    assert left[~whole].std(0).amax() > 1e-3


def test_masks_are_whole_boxes_or_ellipses():
    rng = np.random.default_rng(0)
    shares = [float(draw_mask(rng).mean()) for _ in range(300)]
    assert 0.15 < np.mean([share == 1 for share in shares]) < 0.35
    assert min(shares) > 0.02


def test_the_world_has_the_shares_that_are_asked_for(folders):
    icons = Icons.load(folders[0], 3) if folders[0].exists() else Icons.load(write_icons(folders[0]), 3)
    drawn = draw_world(icons, 40, [0], shape_share=0.25, pair_share=1.0)
    assert sum(" and " in text for text in drawn.texts) == 10
    assert drawn.pictures.shape == (40, 3, 32, 32)
    again = draw_world(icons, 40, [0], shape_share=0.25, pair_share=1.0)
    assert drawn.texts == again.texts
    assert torch.equal(drawn.pictures, again.pictures)


def test_unknown_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--set", "unet_stesp=3"])
    assert "unet_stesp" in capsys.readouterr().err
