"""The recipe of tiny-unclip from data file to folder, on made-up drawings and a few steps a stage."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from unittest.mock import patch

import numpy as np
import pytest
import torch
from icon_data import write_icons

from training.autoencoder import to_images
from training.unclip import parts
from training.unclip.__main__ import STAGES, main, parse_arguments, recipe_of
from training.unclip.ar_prior import ar_prior_trainer, train_ar_prior
from training.unclip.autoencoder import polish_trainer, polish_vae, vae_trainer
from training.unclip.clip import contrastive_loss
from training.unclip.decoder import Conditions
from training.unclip.diffusion import Noising
from training.unclip.recipe import Recipe, Run
from training.unclip.sampling import Model
from training.unclip.upsampler import blur, corrupt, crop, enlarge
from training.unclip.wear import wear

SMALL = {field.name: 2 for field in fields(Recipe) if field.name.endswith("_steps")}
SMALL |= {"concepts": 3, "clip_concepts": 3, "examples": 64}
SMALL |= {field.name: 8 for field in fields(Recipe) if field.name.endswith("_batch")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("unclip")
    return write_icons(base / "icons.npz"), base / "work", base / "out"


@pytest.fixture(scope="module")
def trained(folders):
    data, work, out = folders
    numbers = [f"--set={name}={value}" for name, value in SMALL.items()]
    main([f"--data={data}", f"--work={work}", f"--out={out}", "--device=cpu", *numbers])
    return out


def test_the_folder_paints(trained):
    model = Model.load(trained)
    told = model.read(["a large box, noto style", "🐙", ""])
    pictures = []
    for _ in range(2):
        generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
        embeddings = model.sample_prior(told, generators, steps=3)
        pictures.append(model.decode(told, embeddings, generators, steps=3))
    assert embeddings.shape == (3, parts.EMBEDDING_WIDTH)
    assert pictures[0].shape == (3, 3, 32, 32)
    assert torch.equal(*pictures)
    assert not torch.equal(model.decode(told, None, generators, steps=3), pictures[0])


def test_the_prior_knows_the_embeddings_statistics(trained, folders):
    images = torch.load(folders[1] / "embeddings.pt", weights_only=True)["images"]
    prior = Model.load(trained).parts["prior"]
    assert torch.allclose(prior.clip_mean[0], images.mean(0), atol=2e-3)
    assert torch.allclose(prior.clip_std[0], images.std(0), atol=2e-3)


def test_a_finished_run_resumes_to_the_same(trained, folders):
    data, work, _ = folders
    before = {file.name: file.read_bytes() for file in work.iterdir()}
    run = Run(recipe_of(SMALL), data, work, torch.device("cpu"), resume=True)
    for stage in STAGES.values():
        stage(run)
    after = {file.name: torch.load(file, weights_only=True) for file in work.iterdir()}
    assert set(before) == set(after)
    assert after["decoder.pt"]["step"] == SMALL["decoder_steps"]


def test_the_polish_holds_the_latents_where_they_are(trained, folders, tmp_path):
    data, work, out = folders
    distances = []
    for tether in (0.0, 10.0):
        folder = tmp_path / str(tether)
        folder.mkdir()
        for name in ("vae.pt", "latents.pt"):
            shutil.copy(work / name, folder)
        run = Run(recipe_of(SMALL | {"polish_steps": 20}), data, folder, torch.device("cpu"), resume=True)
        with patch("training.unclip.autoencoder.TETHER", tether):
            polish_vae(run)
        pictures = to_images(run.examples.pictures)
        before, after = (run.finished(trainer(run))["vae"].encode(pictures).latent_dist.mean for trainer in (vae_trainer, polish_trainer))
        distances.append((after - before).square().mean().item())
    assert 0 < distances[1] < distances[0]
    polished = run.finished(polish_trainer(Run(recipe_of(SMALL), data, work, torch.device("cpu"), resume=True)))["vae"]
    shipped = Model.load(out).parts["vae"].state_dict()
    assert all(torch.equal(weight.half().float(), shipped[name]) for name, weight in polished.state_dict().items())


def test_unknown_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--set", "decoder_stesp=3"])
    assert "decoder_stesp" in capsys.readouterr().err


# --- pieces of it -------------------------------------------------------------------


def test_matching_pairs_cost_least():
    vectors = torch.eye(4)
    scenes = torch.arange(4)
    matched = contrastive_loss(vectors, vectors, scenes, torch.tensor(20.0))
    assert matched < contrastive_loss(vectors, vectors.roll(1, 0), scenes, torch.tensor(20.0))


def test_duplicates_share_the_target():
    vectors = torch.eye(4)[[0, 0, 1, 2]]
    apart = contrastive_loss(vectors, vectors, torch.tensor([0, 1, 2, 3]), torch.tensor(20.0))
    together = contrastive_loss(vectors, vectors, torch.tensor([0, 0, 2, 3]), torch.tensor(20.0))
    assert together == pytest.approx(apart.item(), abs=1e-4)  # neither is asked to tell equal rows apart
    confident = torch.eye(4)
    assert contrastive_loss(confident, confident, torch.tensor([0, 0, 2, 3]), torch.tensor(20.0)) > contrastive_loss(
        confident, confident, torch.arange(4), torch.tensor(20.0)
    )


def test_noise_is_added_as_the_scheduler_adds_it():
    scheduler = parts.make_decoder_scheduler()
    clean, noise, timesteps = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.tensor([0, 500, 999])
    added = Noising.of(scheduler, torch.device("cpu")).add(clean, noise, timesteps)
    assert torch.allclose(added, scheduler.add_noise(clean, noise, timesteps), atol=1e-6)


def test_the_true_variance_costs_nothing():
    noising = Noising.of(parts.make_decoder_scheduler(), torch.device("cpu"))
    clean, timesteps = torch.randn(2, 3, 4, 4), torch.tensor([100, 900])
    least = torch.full_like(clean, -1.0)
    assert noising.variance_loss(clean, clean, least, timesteps).item() == pytest.approx(0, abs=1e-5)
    assert noising.variance_loss(clean, clean, -least, timesteps) > 0
    assert noising.variance_loss(clean, clean + 0.5, least, timesteps) > 0


def test_crops_are_of_one_place():
    images = torch.arange(128 * 128).view(1, 1, 128, 128).expand(2, 6, -1, -1)
    cropped = crop(images, torch.Generator().manual_seed(0))
    assert torch.equal(cropped[0], cropped[1])
    assert cropped[0, 0, 0, 1] - cropped[0, 0, 0, 0] == 1


def test_some_pictures_are_blurred_and_some_went_through_the_autoencoder():
    vae = parts.make_vae().eval()
    pictures = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    changed = corrupt(pictures, vae, torch.Generator().manual_seed(1))
    same = (changed == pictures).flatten(1).all(1)
    blurred = changed.flatten(1).std(1) < 0.95 * pictures.flatten(1).std(1)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pictures).latent_dist.mode()).sample.clamp(-1, 1)
    went = torch.isclose(changed, decoded, atol=1e-5).flatten(1).all(1)
    assert min(int(same.sum()), int((blurred & ~went).sum()), int(went.sum())) > 5
    assert int((same | blurred | went).sum()) == 40


def test_blur_keeps_flat_pictures():
    flat = torch.full((4, 3, 32, 32), 0.25)
    assert torch.allclose(blur(flat, torch.Generator().manual_seed(1)), flat, atol=1e-6)
    assert enlarge(flat, 128).shape == (4, 3, 128, 128)


def test_wear_is_random_and_keeps_the_picture():
    picture = torch.zeros(3, 64, 64, dtype=torch.uint8)
    picture[:, :32] = 200
    worn = [wear(picture, np.random.default_rng(seed)) for seed in range(20)]
    assert {one.shape for one in worn} == {(3, 16, 16)}
    assert len({one.numpy().tobytes() for one in worn}) > 15
    for one in worn:
        assert abs(one[:, :6].float().mean().item() - 200) < 12
        assert one[:, 10:].float().mean() < 25
    assert torch.equal(wear(picture, np.random.default_rng(3)), worn[3])


def test_the_autoregressive_prior_says_the_codes_of_what_it_saw(tmp_path):
    """Eight captions with eight embeddings: after some steps each caption brings its own codes."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(8, parts.EMBEDDING_WIDTH, generator=draw).repeat(8, 1)
    states = torch.randn(8, parts.TOKENS, parts.EMBEDDING_WIDTH, generator=draw).repeat(8, 1, 1)
    cache = {"images": images, "texts": images, "states": states, "masks": torch.ones(64, parts.TOKENS, dtype=torch.bool)}
    torch.save(cache, tmp_path / "embeddings.pt")
    run = Run(
        recipe_of({"ar_prior_steps": 60, "ar_prior_rate": 3e-3, "ar_prior_batch": 16}),
        tmp_path,
        tmp_path,
        torch.device("cpu"),
        resume=False,
    )
    with patch("training.unclip.ar_prior.Conditions.empty", lambda run: Conditions.load(run).rows(torch.tensor([0]))):
        train_ar_prior(run)
    trainer = ar_prior_trainer(run)
    assert trainer.resume()
    prior = trainer.modules["ar_prior"]
    wanted = prior.encode(images[:8])[:, :4]  # of eight embeddings only seven directions hold anything
    with torch.no_grad():
        said = prior(images[:8], states[:8], cache["masks"][:8], prior.similarity(images[:8], images[:8]), prior.encode(images[:8]))
    assert len(set(map(tuple, wanted.tolist()))) == 8
    assert (said[:, :4].argmax(2) == wanted).float().mean() > 0.9


def test_both_upsamplers_both_priors_and_the_classifier_are_assembled(trained):
    files = {str(file.relative_to(trained.parent)) for file in trained.parent.rglob("*.safetensors")}
    name = "diffusion_pytorch_model.safetensors"
    assert {f"out/ar_prior/{name}", f"out/super_res_first/{name}", f"out-upsampler/super_res_first/{name}", f"out-styles/{name}"} <= files
    for folder in ("out", "out-upsampler", "out-styles"):
        assert len((trained.parent / folder / "README.md").read_text()) > 500
    with np.load(trained.parent / "icons.npz") as data:
        concepts = json.loads(str(data["concepts"]))[:3]
    known = json.loads((trained / "wordings.json").read_text())
    assert known["wordings"] == {one["name"]: one["train"] for one in concepts}
    assert re.match(known["pattern"], "a large box, noto style, at the top")["wording"] == "box"
