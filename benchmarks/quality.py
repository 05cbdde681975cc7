"""What the built-in models paint and find, judged by programs: shares with 95 % intervals.

    python benchmarks/quality.py [--model FOLDER] [--count 200] [--ways unclip,caption-only] [--sheet FOLDER]

For captions as training words them, and for wordings that training never saw, each way
of painting is judged by `tests/icon_judge.py`: the right concept nearest (top-1) or
among the five nearest, the right style, the right background. `zero-shot` lines are
CLIP's own: a caption finds its picture among `--count`, beside chance and beside a
linear map from a bag of words. With `--drawings` (see `benchmarks/enlarging.py`) the upsampler is
judged, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import pictures as shape_judge
from enlarging import compare, spread
from icon_judge import Expected, Judge, Verdict, interval, shares
from pictures import accuracy, graph_painter

from training.icons import Icons, Scene, compose, describe, draw_scene, to_words
from training.shapes import draw_captions
from training.unclip.recipe import Recipe
from training.unclip.sampling import Model, Read

ROOT = Path(__file__).resolve().parents[1]
Painter = Callable[[list[str], list[int]], np.ndarray]
"""Captions and one seed each -> pictures, uint8 [n, 32, 32, 3]."""
WAYS = ("unclip", "unclip-autoregressive", "unclip-resolved", "unclip-text-embedding", "unclip-caption-only", "unclip-true-embedding")
"""`unclip-resolved` has `resolve_wording` in front; `unclip-true-embedding` is the ceiling of the decoder: it is told the embedding of
the true picture, and no prior is asked."""
PRIORS = {"unclip": "diffusion", "unclip-autoregressive": "autoregressive"}
"""Way -> the prior that it asks, as `workflows/embed_prompt.json` names it."""
COMPARISONS = {
    "unclip-resolved": "unclip_resolved",
    "unclip-text-embedding": "unclip_text_embedding",
    "unclip-caption-only": "unclip_caption_only",
}
"""Way -> its workflow."""
BASELINE = "unclip-text-embedding"
"""What a prior must beat."""
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


# --- painting -----------------------------------------------------------------------


def workflow_painter(way: str, options: argparse.Namespace) -> Painter:
    """A painter that runs the shipped workflows: both halves of `unclip`, before its upsampler, or a comparison."""
    from nodegraph import Engine

    folder = ROOT / "workflows"
    decoding = {"model": options.model.name, "steps": options.steps, "guidance": options.guidance}
    drawing = {"prior": PRIORS.get(way), "steps": options.prior_steps, "guidance": options.prior_guidance, "draws": options.draws}

    def paint_one(engine: Engine, text: str, seed: int) -> np.ndarray:
        if way in COMPARISONS:
            done = engine.submit(folder / f"{COMPARISONS[way]}.json", prompt=text, seed=seed, **decoding).result()
        else:
            drawn = engine.submit(folder / "embed_prompt.json", model=options.model.name, prompt=text, seed=seed, **drawing).result()
            told = {"embedding": drawn.outputs["embedding"], "seed": drawn.outputs["rng"]}
            done = engine.submit(folder / "decode_embedding.json", prompt=text, **told, **decoding).result()
        return done.outputs["image"].bytes_hwc()

    def paint(texts: list[str], seeds: list[int]) -> np.ndarray:
        with Engine(cache=False) as engine:
            return np.concatenate([paint_one(engine, text, seed) for text, seed in zip(texts, seeds, strict=True)])

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
        pictures, said = [], resolved(texts, options.model.name) if way == "unclip-resolved" else texts
        for start in range(0, len(texts), BATCH):
            part = slice(start, start + BATCH)
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
            told = model.read(said[part])
            pictures.append(model.decode(told, embeddings(part, told, generators), generators, options.steps, options.guidance))
        return torch.cat(pictures).permute(0, 2, 3, 1).numpy()

    return paint


def resolved(texts: list[str], model: str) -> list[str]:
    """The captions in the known wordings nearest to theirs, as the workflow `unclip_resolved` has them painted."""
    from nodegraph import Engine

    workflow = json.loads((ROOT / "workflows/unclip_resolved.json").read_text())
    del workflow["nodes"]["paint"], workflow["outputs"]["image"]
    workflow["inputs"] = {name: workflow["inputs"][name] for name in ("model", "prompt")}
    with Engine() as engine:
        return [engine.run(workflow, model=model, prompt=text).outputs["prompt"] for text in texts]


def gains(verdicts: list[Verdict], others: list[Verdict]) -> dict[str, tuple[float, float, float]]:
    """By how much a share is higher than with others on the same captions, and the 95 % interval of that difference."""
    found = {}
    for name in ("top1", "top5", "style"):
        differences = np.array([getattr(one, name) - getattr(other, name) for one, other in zip(verdicts, others, strict=True)], float)
        mean, reach = differences.mean(), 1.96 * differences.std() / len(differences) ** 0.5
        found[name] = (mean, mean - reach, mean + reach)
    return found


def report(title: str, found: dict[str, tuple[float, float, float]]) -> None:
    """One line of percentages with their intervals."""
    columns = (f"{name} {100 * share:5.1f} ({100 * low:.0f}-{100 * high:.0f})" for name, (share, low, high) in found.items())
    print(f"{title:<38}" + "  ".join(columns), flush=True)


# --- finding ------------------------------------------------------------------------


def recall(texts: torch.Tensor, images: torch.Tensor, prompts: Prompts) -> dict[str, tuple[float, float, float]]:
    """Share of captions whose picture is the nearest, or among the five nearest, of all; equal scenes count as one."""
    scores = functional.normalize(texts, dim=-1) @ functional.normalize(images, dim=-1).T
    right = scenes_equal(prompts)
    best = scores.masked_fill(~right, -2).amax(1, keepdim=True)
    ranks = ((scores > best) & ~right).sum(1)
    return {f"recall@{k}": (float((ranks < k).float().mean()), *interval(int((ranks < k).sum()), len(ranks))) for k in (1, 5)}


def scenes_equal(prompts: Prompts) -> torch.Tensor:
    """Which pictures fit which captions, bool [n, n]: any concept that a wording may mean, the rest the same."""
    rest = [(one.style, one.layout, one.background) for one in prompts.expected]
    rows = [
        [mine.concepts >= other.concepts and rest[a] == rest[b] for b, other in enumerate(prompts.expected)]
        for a, mine in enumerate(prompts.expected)
    ]
    return torch.tensor(rows) | torch.eye(len(rows), dtype=torch.bool)


def bag_of_words(model: Model, train: Prompts, texts: list[str], penalty: float = 1.0) -> torch.Tensor:
    """Image embeddings as a ridge regression on the words of a caption predicts them: the baseline of the text encoder."""
    words = {word: number for number, word in enumerate(sorted({word for text in train.texts for word in text.split()}))}

    def counts(captions: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(captions), len(words) + 1)
        rows[:, -1] = 1
        for row, caption in zip(rows, captions, strict=True):
            for word in caption.split():
                if word in words:
                    row[words[word]] += 1
        return rows

    inputs, targets = counts(train.texts), functional.normalize(model.image_embeddings(train.pictures), dim=-1)
    solved = torch.linalg.solve(inputs.T @ inputs + penalty * torch.eye(inputs.shape[1]), inputs.T @ targets)
    return counts(texts) @ solved


def judge_clip(model: Model, icons: Icons, kinds: dict[str, Prompts]) -> None:
    """Zero-shot retrieval of captions, beside its baselines."""
    train = draw_prompts(icons, 4000, held_out=False, seed=1)
    for kind, prompts in kinds.items():
        images = model.image_embeddings(prompts.pictures)
        report(f"{kind}: CLIP zero-shot", recall(model.read(prompts.texts).texts, images, prompts))
        report(f"{kind}: bag of words", recall(bag_of_words(model, train, prompts.texts), images, prompts))
        share = scenes_equal(prompts).float().mean().item()
        print(f"{kind + ': chance':<38}recall@1 {100 * share:5.1f}", flush=True)


# --- shapes -------------------------------------------------------------------------


def judge_shapes(model: Model, options: argparse.Namespace) -> None:
    """Captions of coloured shapes, read by `tests/pictures.py`: `tiny-sd` with one and two, unCLIP with the one that it knows."""
    from nodegraph import Engine

    with Engine(cache=False) as engine:
        for things in (1, 2):
            captions = draw_captions(options.count, options.seed, things)
            painters = {"tiny-sd": graph_painter(engine)}
            if things == 1:
                nothing = Prompts([], [], torch.empty(0))  # only the ceiling asks for true pictures
                painters["unclip"] = parts_painter(model, "unclip", nothing, options)
            for name, painter in painters.items():
                right = accuracy(shape_judge.painted(painter, captions, options.seed), captions)
                found = {kind: (share, *interval(round(share * len(captions)), len(captions))) for kind, share in right.items()}
                report(f"{things} shape(s): {name}", found)


# --- enlarging ----------------------------------------------------------------------


def judge_upsampler(model: str, drawings: Path, count: int) -> None:
    """The upsampler beside bicubic interpolation and the ESRGAN networks, on pictures that the decoder's autoencoder gave back."""
    for way, measures in compare(drawings, model, model, 32, "decoded", 0, count, steps=2).items():
        print(f"{f'32 to 128: {way}':<38}" + "  ".join(f"{name} {spread(values)}" for name, values in measures.items()), flush=True)


# --- command line -------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "nodes/diffusion/models/tiny-unclip")
    parser.add_argument("--data", type=Path, default=ROOT / "tests/data/icons.npz", help="the icons to judge with")
    parser.add_argument("--concepts", type=int, default=Recipe.concepts, help="how many concepts the model knows")
    parser.add_argument("--count", type=int, default=200, help="prompts of each kind")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--kinds", default="training captions,held-out wordings")
    parser.add_argument("--steps", type=int, default=25, help="of the decoder")
    parser.add_argument("--guidance", type=float, default=3.0, help="of the decoder")
    parser.add_argument("--through", choices=("parts", "workflows"), default="parts", help="drive the model's parts, or run the workflows")
    parser.add_argument("--draws", type=int, default=2, help="embeddings that the prior draws; the one nearest to the caption is kept")
    parser.add_argument("--prior-steps", type=int, default=25)
    parser.add_argument("--prior-guidance", type=float, default=2.0)
    parser.add_argument("--shapes", action="store_true", help="judge captions of coloured shapes too")
    parser.add_argument("--drawings", type=Path, help="judge the upsampler with these icons of 128 pixels or more")
    parser.add_argument("--no-clip", action="store_true", help="leave out the zero-shot lines")
    parser.add_argument("--sheet", type=Path, help="write the painted pictures of each way as one PNG in this folder")
    return parser.parse_args(arguments)


def main() -> None:
    """Judge the true pictures, CLIP, and every way of painting."""
    options = parse_arguments()
    torch.set_num_threads(1)
    icons = Icons.load(options.data, options.concepts)
    judge, model = Judge(icons), Model.load(options.model)
    kinds = {kind: draw_prompts(icons, options.count, kind.startswith("held"), options.seed) for kind in options.kinds.split(",")}
    for kind, prompts in kinds.items():
        true = prompts.pictures.permute(0, 2, 3, 1).numpy()
        report(f"{kind}: true pictures", shares(judge.judge(true, prompts.expected)))
    if not options.no_clip:
        judge_clip(model, icons, kinds)
    if options.shapes:
        judge_shapes(model, options)
    if options.drawings:
        judge_upsampler(options.model.name, options.drawings, options.count // 4)
    judged: dict[tuple[str, str], list[Verdict]] = {}
    for way in filter(None, options.ways.split(",")):
        for kind, prompts in kinds.items():
            started = time.monotonic()
            painter = workflow_painter(way, options) if options.through == "workflows" else parts_painter(model, way, prompts, options)
            painted = painter(prompts.texts, list(range(options.count)))
            spent = (time.monotonic() - started) / options.count
            judged[kind, way] = judge.judge(painted, prompts.expected)
            report(f"{kind}: {way}", shares(judged[kind, way]))
            print(f"{'':<38}{spent:.2f} s a picture", flush=True)
            if options.sheet:
                save_sheet(painted, options.sheet / f"{way}-{kind.split()[0]}.png")
    for (kind, way), verdicts in judged.items():
        if way in PRIORS and (kind, BASELINE) in judged:
            report(f"{kind}: {way} beyond {BASELINE}", gains(verdicts, judged[kind, BASELINE]))


def save_sheet(pictures: np.ndarray, file: Path, columns: int = 20, zoom: int = 2) -> None:
    """Pictures in rows as one PNG."""
    from PIL import Image

    rows = [np.concatenate(list(pictures[start : start + columns]), 1) for start in range(0, len(pictures) // columns * columns, columns)]
    sheet = Image.fromarray(np.concatenate(rows))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST).save(file)


if __name__ == "__main__":
    main()
