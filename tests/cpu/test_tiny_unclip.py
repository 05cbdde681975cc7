"""The built-in unCLIP model: what its workflows paint, judged by the icons themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from icon_judge import Expected, Judge

from nodegraph import Engine, WorkflowInvalid
from nodes.diffusion.schedulers import SAMPLERS
from training.icons import LAYOUTS, Icons, compose, parse_words
from training.shapes import BACKGROUNDS
from training.unclip.sampling import Model

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "nodes" / "diffusion" / "models" / "tiny-unclip"
CAPTIONS = (
    "a red heart, noto style",
    "a house, fluent style on a cyan background",
    "a doughnut, noto style on a pink background",
    "an alien, fluent style",
    "a hamburger, noto style",
    "a rainbow, fluent style on a pink background",
    "a butterfly, noto style",
    "a light bulb, fluent style on a cyan background",
)
LEAST_RIGHT = 5
"""Of the captions above; a model that painted at random would have none right."""


@pytest.fixture(scope="module")
def icons() -> Icons:
    return Icons.load(ROOT / "tests/data/icons.npz", 131)


@pytest.fixture(scope="module")
def engine():
    with Engine(cache=False) as engine:
        yield engine


def expected(icons: Icons, text: str) -> Expected:
    caption = parse_words(text)
    concept = next(number for number, one in enumerate(icons.concepts) if one.name == caption.wording)
    background = list(BACKGROUNDS).index(caption.background or "white")
    return Expected(frozenset([concept]), icons.styles.index(caption.style), LAYOUTS.index((caption.size, caption.place)), background)


def run(engine: Engine, workflow: str, **inputs) -> dict:
    return engine.submit(ROOT / "workflows" / f"{workflow}.json", model="tiny-unclip", **inputs).result().outputs


def painted(engine: Engine, text: str, steps: int = 25) -> np.ndarray:
    drawn = run(engine, "embed_prompt", prompt=text, seed=3, steps=steps)
    return run(engine, "decode_embedding", prompt=text, embedding=drawn["embedding"], seed=drawn["rng"], steps=steps)["image"].bytes_hwc()


def test_captions_are_painted(engine, icons):
    pictures = np.concatenate([painted(engine, text) for text in CAPTIONS])
    verdicts = Judge(icons).judge(pictures, [expected(icons, text) for text in CAPTIONS])
    assert sum(verdict.top1 for verdict in verdicts) >= LEAST_RIGHT
    assert sum(verdict.background for verdict in verdicts) >= len(CAPTIONS) - 1


@pytest.fixture(scope="module")
def embedded(engine) -> dict:
    drawn = run(engine, "embed_prompt", prompt=CAPTIONS[0], seed=3, steps=10)
    return {"prompt": CAPTIONS[0], "embedding": drawn["embedding"], "seed": drawn["rng"], "steps": 20}


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {"dpm++_sde"}))
def test_every_sampler_paints_the_same_picture_or_says_that_it_cannot(engine, embedded, sampler):
    """At the last timestep the predicted noise says nothing of the picture: who begins there and does not clip is lost."""
    wanted = run(engine, "decode_embedding", **embedded)["image"].numpy()
    if sampler in ("tcd", "dpm++_2s"):
        with pytest.raises(WorkflowInvalid, match=r"the noise levels of this model begin at 20,291.* does not clip"):
            run(engine, "decode_embedding", **embedded, sampler=sampler)
        return
    painted = run(engine, "decode_embedding", **embedded, sampler=sampler)["image"].numpy()
    assert np.abs(painted - wanted).mean() < 0.08


@pytest.mark.parametrize("workflow", ["unclip_text_embedding", "unclip_caption_only"])
def test_the_comparisons_paint(engine, icons, workflow):
    text = CAPTIONS[0]
    pictures = run(engine, workflow, prompt=text, seed=1)["image"].bytes_hwc()
    assert pictures.shape == (1, 32, 32, 3)
    assert Judge(icons).judge(pictures, [expected(icons, text)])[0].background


@pytest.mark.parametrize("text", ["", "🐙", "красный круг", "x" * 10_000])
def test_any_caption_is_painted(engine, text):
    assert painted(engine, text, steps=2).shape == (1, 32, 32, 3)


def test_true_pictures_are_found_by_their_captions(icons):
    model = Model.load(MODEL)
    drawn = [expected(icons, text) for text in CAPTIONS]
    numbers = [one.background for one in drawn]
    canvases = icons.canvases()
    rows = torch.stack([canvases[min(one.concepts) * len(icons.styles) + one.style, one.layout] for one in drawn])
    images = model.image_embeddings(compose(rows, torch.tensor(numbers)))
    texts = model.read(CAPTIONS).texts
    scores = torch.nn.functional.cosine_similarity(texts[:, None], images[None], dim=-1)
    assert scores.argmax(1).tolist() == list(range(len(CAPTIONS)))
