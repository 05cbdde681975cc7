"""What the built-in models paint and find, judged by programs: shares with 95 % intervals.

    python benchmarks/quality.py [--model FOLDER] [--sd FOLDER] [--count 200] [--ways unclip,sd] [--sheet FOLDER]
    python benchmarks/quality.py --ways "" --no-clip --edits [--inpaint FOLDER] [--instruct FOLDER]
    python benchmarks/quality.py --ways sd --no-clip --sweep guidance=2,4,8 --sweep steps=10,20

For captions as training words them, and for wordings that training never saw, each way
of painting is judged by `tests/icon_judge.py`: the right concept nearest (top-1) or
among the five nearest, the right style, the right background. `zero-shot` lines are
CLIP's own: a caption finds its picture among `--count`, beside chance and beside a
linear map from a bag of words. `--shapes` asks for coloured shapes, which `tests/pictures.py`
reads; `--edits` for edits of pictures (see `benchmarks/edits.py`). With `--drawings`
(see `benchmarks/enlarging.py`) the upsamplers are judged, too.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import pictures as shape_judge
from edits import judge_edits
from enlarging import compare, spread
from finding import judge_clip
from icon_judge import Judge, Verdict, interval, shares
from painting import DECODERS, PRIORS, Prompts, draw_prompts, painter_of, parts_painter, sd_painter
from pictures import accuracy
from scores import gains, report

from training.icons import Icons
from training.shapes import draw_captions
from training.unclip.recipe import Recipe
from training.unclip.sampling import Model

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "unclip-text-embedding"
"""What a prior must beat."""


def judge_ways(model: Model, judge: Judge, kinds: dict[str, Prompts], options: argparse.Namespace) -> None:
    """Every way of painting at every point of the sweep, if there is one, on every kind of prompts."""
    judged: dict[tuple[str, str], list[Verdict]] = {}
    ways = [way for way in options.ways.split(",") if way and has_parts(way, options)]
    for way, point in itertools.product(ways, sweep_points(options.sweep)):
        title = " ".join([way, *(f"{name} {value:g}" for name, value in point.items())])
        asked = argparse.Namespace(**vars(options) | point)
        for kind, prompts in kinds.items():
            started = time.monotonic()
            pictures = painted(way, model, prompts, asked)
            spent = (time.monotonic() - started) / options.count
            judged[kind, title] = judge.judge(pictures, prompts.expected)
            report(f"{kind}: {title}", shares(judged[kind, title]))
            print(f"{'':<38}{spent:.2f} s a picture", flush=True)
            if way.endswith("resolved") and options.candidates > 1:
                ranks = (argparse.Namespace(**vars(asked) | {"rank": rank}) for rank in range(1, options.candidates))
                others = [painted(way, model, prompts, ranked) for ranked in ranks]
                tries = [judged[kind, title], *(judge.judge(other, prompts.expected) for other in others)]
                best = [min(verdicts, key=lambda verdict: verdict.rank) for verdicts in zip(*tries, strict=True)]
                report(f"{kind}: any of {options.candidates}", shares(best))
            if options.sheet:
                save_sheet(pictures, options.sheet / f"{title.replace(' ', '-')}-{kind.split()[0]}.png")
    for (kind, way), verdicts in judged.items():
        if way in PRIORS and (kind, BASELINE) in judged:
            report(f"{kind}: {way} beyond {BASELINE}", gains(verdicts, judged[kind, BASELINE]))


def painted(way: str, model: Model, prompts: Prompts, options: argparse.Namespace) -> np.ndarray:
    """A picture of each prompt, uint8 [n, 32, 32, 3], with its number as its seed."""
    return painter_of(way, model, prompts, options)(prompts.texts, list(range(options.count)))


def has_parts(way: str, options: argparse.Namespace) -> bool:
    """Whether there is what a way needs; says so where there is not."""
    there = way != "unclip-autoregressive" or (options.model / "ar_prior").is_dir()
    if not there:
        print(f"{way}: {options.model.name} has no autoregressive prior", flush=True)
    return there


def sweep_points(given: list[str]) -> list[dict[str, float]]:
    """Every combination of values that `--sweep NAME=VALUES` names; one empty point where nothing is swept."""
    axes = dict(one.split("=", 1) for one in given)
    if unknown := axes.keys() - {"steps", "guidance"}:
        raise SystemExit(f"--sweep: expected steps=… or guidance=…, got {min(unknown)!r}")
    values = [[(int if name == "steps" else float)(value) for value in listed.split(",")] for name, listed in axes.items()]
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*values)]


def judge_shapes(model: Model, options: argparse.Namespace) -> None:
    """Captions of one and of two coloured shapes, read by `tests/pictures.py`."""
    nothing = Prompts([], [], torch.empty(0))  # only the ceiling asks for true pictures
    painters = {"tiny-sd": sd_painter("sd", options), "unclip": parts_painter(model, "unclip", nothing, options)}
    for things in (1, 2):
        captions = draw_captions(options.count, options.seed, things)
        for name, painter in painters.items():
            right = accuracy(shape_judge.painted(painter, captions, options.seed), captions)
            found = {kind: (share, *interval(round(share * len(captions)), len(captions))) for kind, share in right.items()}
            report(f"{things} shape(s): {name}", found)


def judge_upsamplers(model: Path, drawings: Path, count: int) -> None:
    """Both upsamplers beside bicubic interpolation and the ESRGAN networks.

    The first on pictures that the decoder's autoencoder gave back; the second, a model that may lie beside it, on worn ones.
    """
    second = model.with_name(f"{model.name}-upsampler")
    for folder, side, spoil in ((model, 32, "decoded"), (second, 128, "worn")):
        if not folder.is_dir():
            print(f"{side} to {4 * side}: there is no {folder.name}", flush=True)
            continue
        for way, measures in compare(drawings, folder.name, model.name, side, spoil, 0, count, steps=2).items():
            told = "  ".join(f"{measure} {spread(values)}" for measure, values in measures.items())
            print(f"{f'{side} to {4 * side}: {way}':<38}{told}", flush=True)


# --- command line -------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ROOT / "nodes/diffusion/models"
    parser.add_argument("--model", type=Path, default=models / "tiny-unclip", help="the unCLIP model")
    parser.add_argument("--sd", type=Path, default=models / "tiny-sd", help="the latent diffusion model")
    parser.add_argument("--inpaint", type=Path, default=models / "tiny-sd-inpainting", help="the model that inpaints, for --edits")
    parser.add_argument(
        "--instruct", type=Path, default=models / "tiny-sd-instruction", help="the model that takes instructions, for --edits"
    )
    parser.add_argument("--data", type=Path, default=ROOT / "tests/data/icons.npz", help="the icons to judge with")
    parser.add_argument("--concepts", type=int, default=Recipe.concepts, help="how many concepts the models know")
    parser.add_argument("--count", type=int, default=200, help="prompts of each kind")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--ways", default=",".join(DECODERS))
    parser.add_argument("--kinds", default="training captions,held-out wordings")
    parser.add_argument("--steps", type=int, help="of the decoder, in place of its workflow's")
    parser.add_argument("--guidance", type=float, help="of the decoder, in place of its workflow's")
    parser.add_argument("--sweep", action="append", default=[], metavar="NAME=VALUES", help="judge at several steps, or guidance")
    parser.add_argument("--through", choices=("parts", "workflows"), default="parts", help="drive the models' parts, or run the workflows")
    parser.add_argument("--draws", type=int, default=2, help="embeddings that the prior draws; the one nearest to the caption is kept")
    parser.add_argument("--candidates", type=int, default=1, help="for resolved ways: judge the best of pictures of so many meanings, too")
    parser.set_defaults(rank=0)
    parser.add_argument("--prior-steps", type=int, default=25)
    parser.add_argument("--prior-guidance", type=float, default=2.0)
    parser.add_argument("--shapes", action="store_true", help="judge captions of coloured shapes too")
    parser.add_argument("--edits", action="store_true", help="judge edits too")
    parser.add_argument("--drawings", type=Path, help="judge the upsamplers with these icons of 512 pixels")
    parser.add_argument("--no-clip", action="store_true", help="leave out the zero-shot lines")
    parser.add_argument("--sheet", type=Path, help="write the painted pictures of each way as one PNG in this folder")
    return parser.parse_args(arguments)


def main() -> None:
    """Judge the true pictures, CLIP, every way of painting, and what else is asked for."""
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
    if options.edits:
        judge_edits(icons, judge, options)
    if options.drawings:
        judge_upsamplers(options.model, options.drawings, options.count // 4)
    judge_ways(model, judge, kinds, options)


def save_sheet(pictures: np.ndarray, file: Path, columns: int = 20, zoom: int = 2) -> None:
    """Pictures in rows as one PNG."""
    from PIL import Image

    rows = [np.concatenate(list(pictures[start : start + columns]), 1) for start in range(0, len(pictures) // columns * columns, columns)]
    sheet = Image.fromarray(np.concatenate(rows))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST).save(file)


if __name__ == "__main__":
    main()
