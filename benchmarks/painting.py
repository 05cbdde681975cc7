"""What `benchmarks/quality.py` has painted: captions with what they should show, and the ways to paint them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from icon_judge import Expected
from pictures import graph_painter

from nodegraph import Engine
from training.icons import Icons, Scene, compose, describe, draw_scene, to_words
from training.unclip.sampling import Model, Read

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
Painter = Callable[[list[str], list[int]], np.ndarray]
"""Captions and one seed each -> pictures, uint8 [n, 32, 32, 3]."""
DECODERS = {
    "unclip": "decode_embedding",
    "unclip-autoregressive": "decode_embedding",
    "unclip-resolved": "unclip_resolved",
    "unclip-text-embedding": "unclip_text_embedding",
    "unclip-caption-only": "unclip_caption_only",
    "unclip-true-embedding": "decode_embedding",
    "sd": "txt2img",
    "sd-resolved": "txt2img",
}
"""Way -> the workflow that makes its pixels, whose steps and guidance are the way's own.

What is `resolved` has `resolve_wording` in front. `unclip-true-embedding` is the ceiling of the decoder: it is told the
embedding of the true picture, and no prior is asked.
"""
PRIORS = {"unclip": "diffusion", "unclip-autoregressive": "autoregressive"}
"""Way -> the prior that it asks, as `workflows/embed_prompt.json` names it."""
BATCH = 50


@dataclass(frozen=True)
class Prompts:
    """Captions, what their pictures should show, and a true picture of each, uint8 [n, 3, 32, 32]."""

    texts: list[str]
    expected: list[Expected]
    pictures: torch.Tensor


def draw_prompts(icons: Icons, count: int, held_out: bool, seed: int = 77) -> Prompts:
    """`count` prompts with wordings that training uses, or with those that it never sees."""
    rng = np.random.default_rng([seed, held_out])
    canvases = icons.canvases()
    wordings = list(icons.held_out)
    texts, expected, pictures = [], [], []
    for number in range(count):
        scene, wording, meant = draw_scene(icons, rng), None, None
        if held_out:
            wording = wordings[number % len(wordings)]
            meant = icons.held_out[wording]
            concept = sorted(meant)[rng.integers(len(meant))]
            scene = Scene(**(vars(scene) | {"concept": concept}))
        texts.append(to_words(describe(icons, scene, rng, wording)))
        expected.append(Expected(meant or frozenset([scene.concept]), scene.style, scene.layout, scene.background))
        drawn = canvases[scene.concept * len(icons.styles) + scene.style, scene.layout]
        pictures.append(compose(drawn[None], torch.tensor([scene.background]))[0])
    return Prompts(texts, expected, torch.stack(pictures))


def painter_of(way: str, model: Model, prompts: Prompts, options: argparse.Namespace) -> Painter:
    """The painter of a way, by the parts of the models or through the workflows, as the options say."""
    if options.through == "workflows":
        return workflow_painter(way, options)
    return sd_painter(way, options) if way.startswith("sd") else parts_painter(model, way, prompts, options)


def asked(way: str, options: argparse.Namespace) -> tuple[int, float]:
    """Steps and guidance of a way: the options', else its workflow's own."""
    inputs = json.loads((WORKFLOWS / f"{DECODERS[way]}.json").read_text())["inputs"]
    steps, guidance = (inputs[name]["default"] if (given := getattr(options, name)) is None else given for name in ("steps", "guidance"))
    return steps, guidance


def engine_of(options: argparse.Namespace) -> Engine:
    """An engine without a cache that finds the models of the options."""
    folders = (options.model, options.sd, options.inpaint, options.instruct)
    return Engine(cache=False, models=dict.fromkeys(folder.resolve().parent for folder in folders))


def workflow_painter(way: str, options: argparse.Namespace) -> Painter:
    """A painter that runs the shipped workflows: both halves of `unclip`, before its upsampler, or one that paints on its own."""
    steps, guidance = asked(way, options)
    decoding = {"model": (options.sd if way.startswith("sd") else options.model).name, "steps": steps, "guidance": guidance}
    drawing = {"prior": PRIORS.get(way), "steps": options.prior_steps, "guidance": options.prior_guidance, "draws": options.draws}

    def paint_one(engine: Engine, text: str, seed: int) -> np.ndarray:
        told = {"rank": options.rank} if way == "unclip-resolved" else {}
        if way in PRIORS:
            drawn = engine.run(WORKFLOWS / "embed_prompt.json", model=options.model.name, prompt=text, seed=seed, **drawing)
            told["embedding"], seed = drawn.outputs["embedding"], drawn.outputs["rng"]
        done = engine.run(WORKFLOWS / f"{DECODERS[way]}.json", prompt=text, seed=seed, **told, **decoding)
        return done.outputs["image"].bytes_hwc()

    def paint(texts: list[str], seeds: list[int]) -> np.ndarray:
        said = resolved(texts, options) if way == "sd-resolved" else texts
        with engine_of(options) as engine:
            return np.concatenate([paint_one(engine, text, seed) for text, seed in zip(said, seeds, strict=True)])

    return paint


def sd_painter(way: str, options: argparse.Namespace) -> Painter:
    """A painter that is the workflow txt2img, many captions at once."""

    def paint(texts: list[str], seeds: list[int]) -> np.ndarray:
        said = resolved(texts, options) if way == "sd-resolved" else texts
        with engine_of(options) as engine:
            return graph_painter(engine, options.sd.name, *asked(way, options), batch=BATCH)(said, seeds)

    return paint


def parts_painter(model: Model, way: str, prompts: Prompts, options: argparse.Namespace) -> Painter:
    """A painter that drives the parts of a folder; `unclip-true-embedding` is given the true pictures' embeddings."""

    def embeddings(part: slice, told: Read, generators: list[torch.Generator]) -> torch.Tensor | None:
        if way in ("unclip", "unclip-resolved", "unclip-autoregressive"):
            asked = options.draws, options.prior_steps, options.prior_guidance
            return model.best_prior(told, generators, *asked, autoregressive=way == "unclip-autoregressive")
        if way == "unclip-text-embedding":
            return told.texts
        return model.image_embeddings(prompts.pictures[part]) if way == "unclip-true-embedding" else None

    def paint(texts: list[str], seeds: list[int]) -> np.ndarray:
        pictures, said = [], resolved(texts, options) if way == "unclip-resolved" else texts
        for start in range(0, len(texts), BATCH):
            part = slice(start, start + BATCH)
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
            told = model.read(said[part])
            pictures.append(model.decode(told, embeddings(part, told, generators), generators, *asked(way, options)))
        return torch.cat(pictures).permute(0, 2, 3, 1).numpy()

    return paint


def resolved(texts: list[str], options: argparse.Namespace) -> list[str]:
    """The captions in the known wordings nearest to theirs, as `unclip_resolved` has them painted; `options.rank` takes the next ones."""
    workflow = json.loads((WORKFLOWS / "unclip_resolved.json").read_text())
    del workflow["nodes"]["paint"], workflow["outputs"]["image"]
    workflow["inputs"] = {name: workflow["inputs"][name] for name in ("model", "prompt", "rank")}
    with Engine(models=[options.model.resolve().parent]) as engine:
        given = {"model": options.model.name, "rank": options.rank}
        return [engine.run(workflow, prompt=text, **given).outputs["prompt"] for text in texts]
