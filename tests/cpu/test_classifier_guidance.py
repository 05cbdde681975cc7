"""Guidance by a classifier's gradient: against a mixture of Gaussians, where everything has a closed form, and in the graph."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph import Engine, Files, Image, Invalid, WorkflowInvalid
from nodes.diffusion import classifiers, loading, nodes, schedulers
from nodes.diffusion.noisy_classifier import ClassSteer, NoisyClassifier, signal_share
from tests.cpu.tiny_models import FolderRun, model_folder, root

SPACE = "kl-f4-c4-0.18215"


# --- a mixture of Gaussians --------------------------------------------------------------------

MEANS = torch.tensor([[1.0, 0.5], [-0.6, 0.2], [0.1, -1.2]])
DEVIATION = 0.3
SHAPE = (2, 1, 1)


def noisy_variance(kept: float) -> float:
    return kept * DEVIATION**2 + 1 - kept


def log_densities(noisy: torch.Tensor, kept: float) -> torch.Tensor:
    """log p(noisy | class) up to a constant, [n,classes]: each class is a Gaussian at any noise."""
    apart = noisy.flatten(1)[:, None] - kept**0.5 * MEANS[None]
    return -apart.square().sum(dim=2) / (2 * noisy_variance(kept))


def noise_of(noisy: torch.Tensor, kept: float, place: int | None) -> torch.Tensor:
    """The ideal prediction of noise, of one class or of all in equal parts: -√(1-ᾱ) times the score."""
    with torch.enable_grad():
        given = noisy.detach().requires_grad_()
        densities = log_densities(given, kept)
        chosen = densities.logsumexp(dim=1) if place is None else densities[:, place]
        score = torch.autograd.grad(chosen.sum(), given)[0]
    return -((1 - kept) ** 0.5) * score


def as_predicted(kind: str, noisy: torch.Tensor, noise: torch.Tensor, kept: float) -> torch.Tensor:
    clean = (noisy - (1 - kept) ** 0.5 * noise) / kept**0.5
    return {"epsilon": noise, "sample": clean, "v_prediction": kept**0.5 * noise - (1 - kept) ** 0.5 * clean}[kind]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("timestep", [999, 640, 30])
def test_bayes_rule(kind: str, timestep: int) -> None:
    """An unconditional model guided by the exact classifier, once, is the exact conditional model."""
    scheduler = diffusers.DDIMScheduler(prediction_type=kind)
    kept = float(scheduler.alphas_cumprod[timestep])
    noisy = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    for place in range(3):
        steer = ClassSteer(lambda given, _: log_densities(given, kept), place, 1.0)
        free = as_predicted(kind, noisy, noise_of(noisy, kept, None), kept)
        wanted = as_predicted(kind, noisy, noise_of(noisy, kept, place), kept)
        found = steer(scheduler, noisy, torch.tensor(timestep), free)
        assert torch.allclose(found, wanted, atol=1e-6 * float(1 / kept))


def test_the_way_back_is_one_that_gives_the_same_bytes_again() -> None:
    """cuDNN has others too, whose sums depend on the order in which threads come."""
    asked = []

    def classify(given: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        given.register_hook(lambda gradient: asked.append(torch.backends.cudnn.deterministic))
        return log_densities(given, 0.5)

    ClassSteer(classify, 1, 1.0).gradient(torch.zeros(1, *SHAPE), torch.tensor(500))
    assert (asked, torch.backends.cudnn.deterministic) == ([True], False)


def test_two_samplings_at_once_leave_cudnn_as_it_was() -> None:
    """The one that began later took what the other had set for what was there before, and set that back."""
    asked: list[bool] = []
    inside, over = [threading.Event(), threading.Event()], threading.Event()

    def steer(turn: int) -> None:
        def classify(given: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            inside[turn].set()
            (inside[1] if turn == 0 else over).wait(30)
            given.register_hook(lambda gradient: asked.append(torch.backends.cudnn.deterministic))
            return log_densities(given, 0.5)

        ClassSteer(classify, 1, 1.0).gradient(torch.zeros(1, *SHAPE), torch.tensor(500))

    threads = [threading.Thread(target=steer, args=(turn,)) for turn in (0, 1)]
    threads[0].start()
    assert inside[0].wait(30)
    threads[1].start()
    threads[0].join()
    over.set()
    threads[1].join()
    assert (asked, torch.backends.cudnn.deterministic) == ([True, True], False)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_whole_sampling_ends_in_the_class(name: str) -> None:
    """Guided steps of several schedulers end at the mean of the class that is asked for; free ones anywhere."""
    scheduler: Any = getattr(diffusers, name)(**({"clip_sample": False} if name == "DDIMScheduler" else {}))
    scheduler.set_timesteps(50)

    def classify(given: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return log_densities(given, signal_share(scheduler, float(timestep)))

    steer = ClassSteer(classify, 1, 1.0)
    latents = torch.randn(200, *SHAPE, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        given = schedulers.scaled(scheduler, latents, timestep)
        free = noise_of(given, signal_share(scheduler, float(timestep)), None)
        latents = scheduler.step(steer(scheduler, given, timestep, free), timestep, latents).prev_sample
    assert torch.allclose(latents.flatten(1).mean(dim=0), MEANS[1], atol=0.1)
    assert torch.allclose(latents.flatten(1).std(dim=0), torch.tensor(DEVIATION), atol=0.1)


def test_shares_between_timesteps() -> None:
    scheduler = diffusers.DDIMScheduler()
    shares = scheduler.alphas_cumprod
    assert signal_share(scheduler, 10.5) == pytest.approx(float(shares[10] + shares[11]) / 2)
    assert signal_share(scheduler, 999.0) == pytest.approx(float(shares[999]))
    with pytest.raises(Invalid, match="the model's noise levels have no timesteps"):
        signal_share(diffusers.FlowMatchEulerDiscreteScheduler(), 5.0)


# --- in the graph ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder() -> Path:
    """A random classifier of two classes, as a model folder."""
    torch.manual_seed(0)
    made = root() / "random-classifier"
    made.mkdir(exist_ok=True)
    module = NoisyClassifier(4, ["first", "second"], SPACE, (16, 16))
    with torch.no_grad():
        module.conv_out.weight.mul_(20)
    save_file(module.state_dict(), made / "diffusion_pytorch_model.safetensors")
    config = {name: value for name, value in module.config.items() if not name.startswith("_")}
    (made / "config.json").write_text(json.dumps({"nodegraph_kind": "classifier", **config}))
    return made


def painter(folder: Path, kind: str = "sd1") -> Callable[..., torch.Tensor]:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder(kind)), run=run)
    text = nodes.encode_text(model.encoder, "", run=run)
    classifier = classifiers.load_classifier(run.model(folder), run=run)

    def paint(label: str = "", scale: float = 1.0, **options: Any) -> torch.Tensor:
        guide = classifiers.guide_by_class(classifier, label, scale) if label else None
        latent = nodes.empty_latent(model.denoiser, batch=2)
        return nodes.sample_latent(model.denoiser, text, latent, text, 1, steps=8, guide=guide, run=run, **options).latent.tensor()

    return paint


@pytest.mark.parametrize(("kind", "options"), [("sd1", {"guidance": 1.0}), ("sd2", {"guidance": 4.0}), ("sd2", {"sampler": "euler"})])
def test_a_guide_makes_its_class_likelier(kind: str, options: dict[str, Any], folder: Path) -> None:
    """With and without guidance by a prompt beside it, for noise and velocity."""
    paint = painter(folder, kind)
    module = NoisyClassifier(4, ["first", "second"], SPACE, (16, 16))
    module.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    free, first, second = paint(**options), paint("first", 5.0, **options), paint("second", 5.0, **options)
    with torch.no_grad():
        shares = [module(one, torch.tensor(0)).softmax(dim=1)[:, 0] for one in (second, free, first)]
    assert bool((shares[0] < shares[1]).all() and (shares[1] < shares[2]).all())


def test_no_scale_is_no_guide(folder: Path) -> None:
    paint = painter(folder)
    assert torch.equal(paint("first", 0.0), paint())


def test_mistakes_are_named(folder: Path) -> None:
    run = FolderRun()
    classifier = classifiers.load_classifier(run.model(folder), run=run)
    with pytest.raises(Invalid, match="the classifier knows no 'third'"):
        classifiers.guide_by_class(classifier, "third")


def test_a_damaged_classifier_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(weights[:-100])
    files = Files({path.name: path for path in tmp_path.iterdir()})
    with pytest.raises(Invalid, match=r"the classifier cannot be read: .*header"):
        loading.load_classifier(files, "cpu", "float32")


def test_check_knows_classes_and_spaces(folder: Path) -> None:
    for kind in ("sd1", "flow"):
        model_folder(kind)
    workflow: dict[str, Any] = {
        "nodes": {
            "model": {"use": "load_model", "with": {"name": "flow"}},
            "text": {"use": "encode_text", "from": {"encoder": "model.encoder"}, "with": {"text": ""}},
            "canvas": {"use": "empty_latent", "from": {"model": "model.denoiser"}},
            "classifier": {"use": "load_classifier", "with": {"name": "random-classifier"}},
            "guide": {"use": "guide_by_class", "from": {"classifier": "classifier.classifier"}, "with": {"label": "frist"}},
            "sample": {
                "use": "sample_latent",
                "from": {"model": "model.denoiser", "positive": "text.conditioning", "latent": "canvas.latent", "guide": "guide.guide"},
                "with": {"guidance": 1.0, "steps": 2},
            },
            "decode": {"use": "decode_latent", "from": {"vae": "model.vae", "latent": "sample.latent"}},
        },
        "outputs": {"image": "decode.image"},
    }
    with Engine(models=[root()], cache=False, device="cpu") as engine:
        with pytest.raises(WorkflowInvalid) as caught:
            engine.run(workflow)
        assert "the classifier knows no 'frist'" in str(caught.value)
        workflow["nodes"]["guide"]["with"]["label"] = "first"
        with pytest.raises(WorkflowInvalid) as caught:
            engine.run(workflow)
        assert f"the classifier knows latents of the space '{SPACE}'" in str(caught.value)
        workflow["nodes"]["model"]["with"]["name"] = "sd1"
        found = engine.run(workflow).outputs["image"]
        assert isinstance(found, Image)
        del workflow["nodes"]["sample"]["from"]["guide"]
        assert not torch.equal(engine.run(workflow).outputs["image"].tensor(), found.tensor())
