"""The stage of a noise-aware classifier of styles over the decoder's latents: what classifier guidance steers by."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

from nodes.diffusion.facts.configurations import vae_facts
from nodes.diffusion.noisy_classifier import NoisyClassifier
from training.icons import LAYOUTS
from training.loop import Schedule, Trainer, torch_generator
from training.shapes import BACKGROUNDS
from training.unclip import parts
from training.unclip.diffusion import Noising
from training.unclip.recipe import Run

CARD = Path(__file__).with_name("classifier_card.md")
TEST_SHARE = 1 / 8
"""Of the examples, the last ones, which training never sees."""


def styles_of(scenes: torch.Tensor) -> torch.Tensor:
    """The style numbers of scene numbers; those of shapes, which have none, are negative."""
    styles = scenes.div(len(BACKGROUNDS) * len(LAYOUTS), rounding_mode="floor") % 8
    return torch.where(scenes >= 0, styles, -1)


def tested(styles: torch.Tensor) -> int:
    """How many examples are kept aside."""
    return int(TEST_SHARE * len(styles))


def make_classifier(run: Run) -> NoisyClassifier:
    """The classifier, untrained; it names its classes and the latents it knows."""
    config = dict(parts.make_vae().config) | {"_class_name": "AutoencoderKL", "scaling_factor": float(cached(run)["scale"])}
    space = vae_facts({"vae/config.json": config}.get)["space"]
    return NoisyClassifier(parts.LATENT_CHANNELS, list(run.icons.styles), space, (32, 64))


def cached(run: Run) -> dict[str, torch.Tensor]:
    """The latents of the examples, as the stage `latents` left them."""
    return torch.load(run.latents, weights_only=True)


def classifier_trainer(run: Run) -> Trainer:
    """The classifier, untrained, and how it is to be trained."""
    torch.manual_seed(run.recipe.seed + 7)
    classifier = make_classifier(run).to(run.device)
    schedule = Schedule(run.recipe.classifier_steps, run.recipe.classifier_rate, rise=50, level_until=0.3)
    return Trainer({"classifier": classifier}, schedule, run.work / "classifier.pt", average_decay=0.99)


def train_classifier(run: Run) -> None:
    """Train the classifier on the cached latents, at every level of noise alike; leaves its checkpoint."""
    trainer = run.begin(classifier_trainer(run))
    cache, styles = cached(run), styles_of(run.examples.scenes)
    known = torch.nonzero(styles[: -tested(styles)] >= 0).flatten()
    noising = Noising.of(parts.make_decoder_scheduler(), run.device)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "classifier", step)
        rows = known[torch.randint(len(known), (run.recipe.classifier_batch,), generator=draw)]
        timesteps = torch.randint(len(noising.kept), (run.recipe.classifier_batch,), generator=draw).to(run.device)
        mean, deviation = (cache["moments"][rows].float() * cache["scale"]).chunk(2, 1)
        clean = (mean + deviation * torch.randn(mean.shape, generator=draw)).to(run.device)
        noise = torch.randn(clean.shape, generator=draw).to(run.device)
        logits = trainer.modules["classifier"](noising.add(clean, noise, timesteps), timesteps)
        return functional.cross_entropy(logits, styles[rows].to(run.device))

    trainer.run(loss_at)
    for timestep, share in accuracies(run, trainer.averages["classifier"]).items():
        print(f"classifier: {share:.1%} right at timestep {timestep}", flush=True)


@torch.no_grad()
def accuracies(run: Run, classifier: NoisyClassifier) -> dict[int, float]:
    """The share of the test rows whose style is named right, by timestep."""
    cache, styles = cached(run), styles_of(run.examples.scenes)
    rows = torch.arange(len(styles))[-tested(styles) :]
    rows = rows[styles[rows] >= 0]
    mean = (cache["moments"][rows].float() * cache["scale"]).chunk(2, 1)[0].to(run.device)
    noise = torch.randn(mean.shape, generator=torch_generator(run.recipe.seed, "classifier-test", 0)).to(run.device)
    noising = Noising.of(parts.make_decoder_scheduler(), run.device)
    found = {}
    for timestep in (0, 250, 500, 750):
        timesteps = torch.full((len(rows),), timestep, device=run.device)
        named = classifier(noising.add(mean, noise, timesteps), timesteps).argmax(1).cpu()
        found[timestep] = (named == styles[rows]).float().mean().item()
    return found


def assemble_classifier(run: Run, out: Path) -> None:
    """Write the averaged weights in half precision, the configuration and the card."""
    classifier = run.finished(classifier_trainer(run))["classifier"].cpu().half()
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    save_file(weights, out / "diffusion_pytorch_model.safetensors")
    (out / "README.md").write_text(CARD.read_text())
    config = {name: value for name, value in classifier.config.items() if not name.startswith("_")}
    (out / "config.json").write_text(
        json.dumps({"nodegraph_kind": "classifier", "_class_name": "NoisyClassifier", **config}, indent=2) + "\n"
    )
