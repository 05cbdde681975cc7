"""The recipe of tiny-unclip from data file to folder, on made-up drawings and a few steps a stage."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from icon_data import write_icons

from training.unclip import parts
from training.unclip.__main__ import STAGES, main, parse_arguments, recipe_of
from training.unclip.clip import contrastive_loss
from training.unclip.diffusion import Noising
from training.unclip.recipe import Recipe, Run
from training.unclip.sampling import Model
from training.unclip.upsampler import corrupt, crop, enlarge

SMALL = {field.name: 2 for field in fields(Recipe) if field.name.endswith("_steps")}
SMALL |= {"concepts": 3, "clip_concepts": 3, "examples": 16}
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


def test_blur_keeps_flat_pictures():
    flat = torch.full((4, 3, 32, 32), 0.25)
    assert torch.allclose(corrupt(flat, torch.Generator().manual_seed(1)), flat, atol=1e-6)
    assert enlarge(flat, 128).shape == (4, 3, 128, 128)
